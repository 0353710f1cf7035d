from __future__ import annotations

from tests.databases import (
    database,
    empty_database,
    postgresql_database,
    postgresql_server,
    sqlite_database,
)

__all__ = [
    "database",
    "empty_database",
    "postgresql_database",
    "postgresql_server",
    "sqlite_database",
]
