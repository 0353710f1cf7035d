"""Every store of accounts keeps the contract: in memory, in SQLite, and in a real PostgreSQL."""

from __future__ import annotations

import pytest

from d3.adapters.memory.accounts import MemoryAccounts
from d3.adapters.sql import Database, SqlAccounts
from d3.domain.ports_accounts import Accounts
from d3.testing.contracts.accounts import AccountsContract


class TestMemoryAccounts(AccountsContract):
    @pytest.fixture
    def accounts(self) -> Accounts:
        return MemoryAccounts()


class TestSqliteAccounts(AccountsContract):
    @pytest.fixture
    def accounts(self, ready_sqlite: Database) -> Accounts:
        return SqlAccounts(ready_sqlite)


class TestPostgresqlAccounts(AccountsContract):
    @pytest.fixture
    def accounts(self, ready_postgresql: Database) -> Accounts:
        return SqlAccounts(ready_postgresql)
