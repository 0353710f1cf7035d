"""History, accounts and scans in SQLite or PostgreSQL, through SQLAlchemy."""

from d3.adapters.sql.accounts import SqlAccounts
from d3.adapters.sql.backup import backup
from d3.adapters.sql.copying import SqlCopier
from d3.adapters.sql.engine import Database
from d3.adapters.sql.history import SqlHistory
from d3.adapters.sql.jobs import SqlJobLedger
from d3.adapters.sql.outbox import SqlOutbox
from d3.adapters.sql.scans import SqlScanLedger
from d3.adapters.sql.schema import (
    SchemaState,
    SqlSchema,
    current,
    head,
    make_ready,
    state,
    upgrade,
)
from d3.adapters.sql.webhooks import SqlWebhooks

__all__ = [
    "Database",
    "SchemaState",
    "SqlAccounts",
    "SqlCopier",
    "SqlHistory",
    "SqlJobLedger",
    "SqlOutbox",
    "SqlScanLedger",
    "SqlSchema",
    "SqlWebhooks",
    "backup",
    "current",
    "head",
    "make_ready",
    "state",
    "upgrade",
]
