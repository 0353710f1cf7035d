"""The history in SQLite or PostgreSQL, through SQLAlchemy."""

from d3.adapters.sql.engine import Database
from d3.adapters.sql.history import SqlHistory
from d3.adapters.sql.schema import SchemaState, current, head, make_ready, state, upgrade

__all__ = [
    "Database",
    "SchemaState",
    "SqlHistory",
    "current",
    "head",
    "make_ready",
    "state",
    "upgrade",
]
