"""One database, SQLite or PostgreSQL: its connections, transactions and time limits."""

from __future__ import annotations

import os
import sqlite3
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from d3.adapters.sql.errors import translate, translated
from d3.domain.errors import CommitInDoubt, SettingsInvalid, StorageUnavailable
from d3.domain.files import storage_errors

if TYPE_CHECKING:
    from d3.adapters.sql.postgres import Prepared

_WRITES = "d3_writes"
_BUSY_MILLISECONDS = 10_000
_LOOK_AGAIN_SECONDS = 0.0005
_CACHE_KIBIBYTES = 16_384


_all: weakref.WeakSet[Database] = weakref.WeakSet()


def _renew_all() -> None:
    """In a forked process: the connections are the parent's."""
    for one in list(_all):
        one.engine.dispose(close=False)


os.register_at_fork(after_in_child=_renew_all)


class Database:
    """A pool of connections; made at once, connected when first used.

    Args:
        where: a file for SQLite, or a URL: ``sqlite:///FILE`` or ``postgresql://...`` (psycopg 3).
        connect_seconds: how long to wait for a server.
        statement_seconds: how long PostgreSQL may work on one statement.
        pool_seconds: how long to wait for a connection while all are in use.

    Raises:
        SettingsInvalid: the URL is not one of those.
    """

    def __init__(
        self,
        where: str | Path,
        *,
        pool_size: int = 5,
        connect_seconds: int = 5,
        statement_seconds: int = 30,
        pool_seconds: int = 10,
        prepared: Prepared = "auto",
    ) -> None:
        self.url = _checked_url(where)
        pool: dict[str, Any] = {
            "poolclass": sa.QueuePool,
            "pool_size": pool_size,
            "max_overflow": 0,
            "pool_timeout": pool_seconds,
            "hide_parameters": True,
        }
        if self.is_sqlite:
            self.engine = sa.create_engine(self.url, **pool)
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            from d3.adapters.sql import postgres

            self.engine = postgres.create_engine(
                self.url, connect_seconds, statement_seconds, prepared, **pool
            )
        _all.add(self)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is the embedded database."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def name(self) -> str:
        """Where it is, for people; without its password."""
        return self.url.render_as_string(hide_password=True)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection to read from.

        Raises:
            StorageFailed: see :mod:`d3.adapters.sql.errors`.
        """
        with translated():
            self._make_file()
            with self.engine.connect() as connection:
                yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction to write in; leaving the block commits, an exception undoes all.

        Raises:
            StorageUnavailable: the database is away or busy; nothing was kept.
            CommitInDoubt: the connection broke while committing.
            StorageFailed: see :mod:`d3.adapters.sql.errors`.
        """
        with translated():
            self._make_file()
            with self.engine.connect() as connection:
                # SQLite: take the write lock at once; a reader that turns writer may not wait.
                connection.execution_options(**{_WRITES: True})
                with connection.begin() as transaction:
                    yield connection
                    try:
                        transaction.commit()
                    except exc.DBAPIError as error:
                        ours = translate(error)
                        if self.is_sqlite or not isinstance(ours, StorageUnavailable):
                            raise
                        raise CommitInDoubt(
                            "The connection to the database was lost while results were being "
                            "stored.",
                            "Check the history before you try again.",
                        ) from error

    def close(self) -> None:
        """Close every connection that is not in use."""
        self.engine.dispose()

    def _make_file(self) -> None:
        if self.is_sqlite and self.url.database:
            with storage_errors(
                "The database cannot be created", "Check D3_HOME or D3_DATABASE_URL."
            ):
                _make_private(Path(self.url.database))


def _make_private(file: Path) -> None:
    """Make an empty database file where there is none.

    It holds names and hashes of people's images, so only its owner may read it. SQLite gives the
    files beside it the same mode.
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(0o600)


def _checked_url(where: str | Path) -> sa.URL:
    if isinstance(where, Path):
        return sa.URL.create("sqlite", database=str(where))
    remedy = "Use sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/DATABASE."
    try:
        url = sa.make_url(where)
        backend = url.get_backend_name()
    except (exc.ArgumentError, ValueError) as error:
        raise SettingsInvalid("D3_DATABASE_URL is not a valid database URL.", remedy) from error
    if backend in {"postgresql", "postgres"}:
        from d3.adapters.sql.postgres import check_parameters

        check_parameters(url)
        return url.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise SettingsInvalid(f"D3 does not support the database {backend!r}.", remedy)
    if not url.database or ":memory:" in url.database:
        raise SettingsInvalid(
            "D3_DATABASE_URL names an in-memory database, which would lose all data.", remedy
        )
    return url.set(drivername="sqlite")


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    # The driver begins transactions late and as readers; ours begin explicitly, see below.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout = {_BUSY_MILLISECONDS}",
        "journal_mode = WAL",
        "synchronous = FULL",  # in WAL, NORMAL may lose acknowledged rows with the power
        "foreign_keys = ON",
        "temp_store = MEMORY",
        f"cache_size = -{_CACHE_KIBIBYTES}",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    if connection.get_execution_options().get(_WRITES, False):
        _begin_writing(connection)
    else:
        connection.exec_driver_sql("BEGIN")


def _begin_writing(connection: sa.Connection) -> None:
    """Take the write lock as soon as it is free.

    SQLite's own wait looks less and less often, in the end ten times a second. Beside processes
    that write all the time it would find the lock taken again for a second or more.
    """
    driver: Any = connection.connection.driver_connection
    (milliseconds,) = driver.execute("PRAGMA busy_timeout").fetchone()
    until = time.monotonic() + milliseconds / 1000
    driver.execute("PRAGMA busy_timeout = 0").close()
    try:
        while time.monotonic() < until:
            try:
                driver.execute("BEGIN IMMEDIATE").close()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    break
                time.sleep(_LOOK_AGAIN_SECONDS)
            else:
                return
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # once more, for an error as all others
    finally:
        driver.execute(f"PRAGMA busy_timeout = {milliseconds}").close()
