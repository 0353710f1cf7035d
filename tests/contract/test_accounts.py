"""Every store of accounts keeps the contract: in memory, in SQLite, and in a real PostgreSQL."""

from __future__ import annotations

import pytest

from d3.adapters.sql import Database, SqlAccounts, upgrade
from d3.domain.ports.accounts import Accounts
from tests.support.contracts.accounts import AccountsContract
from tests.support.memory.accounts import MemoryAccounts


class TestMemoryAccounts(AccountsContract):
    @pytest.fixture
    def accounts(self) -> Accounts:
        return MemoryAccounts()


class TestSqliteAccounts(AccountsContract):
    @pytest.fixture
    def accounts(self, sqlite_database: Database) -> Accounts:
        upgrade(sqlite_database)
        return SqlAccounts(sqlite_database)


class TestPostgresqlAccounts(AccountsContract):
    @pytest.fixture
    def accounts(self, postgresql_database: Database) -> Accounts:
        upgrade(postgresql_database)
        return SqlAccounts(postgresql_database)
