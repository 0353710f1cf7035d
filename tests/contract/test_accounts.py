"""Every store of accounts keeps the contract: in memory, in SQLite, and in a real PostgreSQL."""

from __future__ import annotations

import pytest

from d3.adapters.sql import Database, SqlAccounts
from d3.domain.ports.accounts import Accounts
from tests.support.contracts.accounts import AccountsContract
from tests.support.memory.accounts import MemoryAccounts


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
