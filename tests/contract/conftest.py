from __future__ import annotations

from tests.databases import (
    database,
    empty_database,
    postgresql_database,
    postgresql_server,
    sqlite_database,
)
from tests.stores import first_s3, place, redis_url, s3, second_s3

__all__ = [
    "database",
    "empty_database",
    "first_s3",
    "place",
    "postgresql_database",
    "postgresql_server",
    "redis_url",
    "s3",
    "second_s3",
    "sqlite_database",
]
