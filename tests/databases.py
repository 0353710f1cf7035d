"""Fixtures: both kinds of database, empty or with D3's tables; nothing is ever skipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from d3.adapters.sql import Database, upgrade
from d3.testing.servers import PostgresqlServer, postgresql


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
