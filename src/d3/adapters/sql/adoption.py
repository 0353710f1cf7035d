"""Takes over a database that the original Flask prototype made, with all its rows.

Its tables are renamed, D3's first revision is made beside them, every row is copied with its id,
and the old tables are dropped: in the caller's transaction, so all of it happens or nothing.
Later migrations then run as on any database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from d3.adapters.sql.counters import continue_after, last_given, sequence_of
from d3.adapters.sql.types import sqlite_text
from d3.domain.accounts import ADOPTED_SCOPES
from d3.domain.errors import SchemaMismatch
from d3.domain.keys import fingerprint, new_key_id

ADOPTED_AS = "0001"
"""The revision whose tables the rows are copied into; frozen, as that migration is."""

PROTOTYPE = {
    "users": {"id", "username", "email", "api_key", "created_at", "is_active"},
    "inference_results": {
        *("id", "image_name", "prediction", "is_fake", "confidence", "threshold"),
        *("processing_time", "created_at", "user_id"),
    },
    "request_logs": {
        *("id", "endpoint", "method", "status_code", "ip_address", "response_time", "created_at"),
    },
}
"""The prototype's tables and their columns, the referenced one first."""

_OLD = "d3_prototype_{}"
_CHUNK = 1000
_EPOCH = "1970-01-01 00:00:00.000000+00:00"

# A value that the prototype left out becomes what its absence meant, or the plainest there is.
_COLUMNS = {
    "users": {
        "id": "id",
        "username": "username",
        "email": "nullif(email, '')",
        "created_at": "{moment}",
        "is_active": "coalesce(is_active, true)",
    },
    "inference_results": {
        "id": "id",
        "image_name": "substr(coalesce(image_name, ''), 1, 255)",
        "prediction": "prediction",
        "is_fake": "{is_fake}",
        "confidence": "coalesce(confidence, 2 * abs(prediction - 0.5))",
        "threshold": "coalesce(threshold, 0.5)",
        "processing_time": "coalesce(processing_time, 0)",
        "created_at": "{moment}",
        # By default SQLite lets a row name a user that does not exist.
        "user_id": "(SELECT u.id FROM users u WHERE u.id = user_id)",
        "verdict": "CASE WHEN {is_fake} THEN 'fake' ELSE 'real' END",
        "views": "1",
        "spread": "0.0",
        "engine": "''",
        "precision": "''",
        "calibration_name": "'none'",
        "calibration_scale": "1.0",
        "calibration_bias": "0.0",
        "abstain_below": "0.0",
        "abstain_above": "0.0",
        "cached": "false",
        "d3_version": "'prototype'",
    },
    "request_logs": {
        "id": "id",
        "endpoint": "substr(coalesce(endpoint, ''), 1, 255)",
        "method": "substr(coalesce(method, ''), 1, 16)",
        "status_code": "coalesce(status_code, 0)",
        "ip_address": "substr(ip_address, 1, 64)",
        "response_time": "coalesce(response_time, 0)",
        "created_at": "{moment}",
    },
}
_IS_FAKE = "coalesce(is_fake, prediction > coalesce(threshold, 0.5))"

# What D3's own tables and entries would not hold; a NaN fails every comparison on SQLite and is
# the greatest number on PostgreSQL, so that both say no.
_SOUND = {
    "users": (
        "username IS NOT NULL AND length(username) <= 255 AND coalesce(length(email), 0) <= 255"
    ),
    "inference_results": (
        "prediction BETWEEN 0 AND 1 AND coalesce(threshold, 0) BETWEEN 0 AND 1"
        " AND coalesce(confidence, 0) BETWEEN 0 AND 1"
        " AND coalesce(processing_time, 0) BETWEEN 0 AND 1e300"
    ),
    "request_logs": "coalesce(response_time, 0) BETWEEN -1e300 AND 1e300",
}


def is_prototype(connection: sa.Connection) -> bool:
    """Whether the prototype's three tables are there with exactly its columns."""
    there = sa.inspect(connection)
    names = set(there.get_table_names())
    return names >= set(PROTOTYPE) and all(
        {column["name"] for column in there.get_columns(table)} == columns
        for table, columns in PROTOTYPE.items()
    )


def adopt(connection: sa.Connection, make_tables: Callable[[], object]) -> None:
    """Turn the prototype's tables into D3's first revision.

    Args:
        connection: in a transaction that is undone if this raises.
        make_tables: makes the tables of :data:`ADOPTED_AS`.

    Raises:
        SchemaMismatch: rows are there that D3 cannot keep; it names the first.
    """
    if connection.dialect.name == "sqlite":
        # Plain keys must not stay behind in pages that the file no longer uses.
        connection.exec_driver_sql("PRAGMA secure_delete = ON").close()
        driver: Any = connection.connection.driver_connection
        driver.create_function("d3_moment", 1, _moment, deterministic=True)
    else:  # a prototype that still runs has to wait, and then finds its tables gone
        connection.execute(sa.text(f"LOCK TABLE {', '.join(PROTOTYPE)} IN ACCESS EXCLUSIVE MODE"))
    for table in PROTOTYPE:
        _check(connection, table)
    counted = {table: last_given(connection, table) for table in PROTOTYPE}
    for table in PROTOTYPE:
        _set_aside(connection, table)
    make_tables()
    for table in PROTOTYPE:
        _copy(connection, table)
    _hash_keys(connection)
    for table in reversed(PROTOTYPE):
        connection.execute(sa.text(f"DROP TABLE {_OLD.format(table)}"))
        continue_after(connection, table, counted[table])


def empty_the_log(file: Path) -> None:
    """Write SQLite's log into its file, whose old pages still hold the plain keys until then."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _check(connection: sa.Connection, table: str) -> None:
    sound = f"{_SOUND[table]} AND {_moment_in_sql(connection, table)} IS NOT NULL"
    found = sa.text(f"SELECT count(*), min(id) FROM {table} WHERE ({sound}) IS NOT TRUE")  # noqa: S608
    count, first = connection.execute(found).one()
    if count:
        raise SchemaMismatch(
            f"The prototype's table {table} holds values that D3 cannot store in {count} of its "
            f"rows. The first of them has the id {first}. Nothing was changed.",
            "Correct or delete them, then run `d3 db upgrade` again.",
        )


def _set_aside(connection: sa.Connection, table: str) -> None:
    # Names of indexes and counters are shared by all tables, and ours may need the same ones.
    there = sa.inspect(connection)
    constraints = {one["name"] for one in there.get_unique_constraints(table)}
    for index in there.get_indexes(table):
        if index["name"] not in constraints and "duplicates_constraint" not in index:
            name = connection.dialect.identifier_preparer.quote(str(index["name"]))
            connection.execute(sa.text(f"DROP INDEX {name}"))
    old = _OLD.format(table)
    if connection.dialect.name != "sqlite" and (sequence := sequence_of(connection, table)):
        connection.execute(sa.text(f"ALTER SEQUENCE {sequence} RENAME TO {old}_id_seq"))
    connection.execute(sa.text(f"ALTER TABLE {table} RENAME TO {old}"))


def _copy(connection: sa.Connection, table: str) -> None:
    old = _OLD.format(table)
    columns = _COLUMNS[table]
    filled = {"moment": _moment_in_sql(connection, old), "is_fake": _IS_FAKE}
    values = ", ".join(value.format(**filled) for value in columns.values())
    connection.execute(
        sa.text(
            f"INSERT INTO {table} ({', '.join(columns)}) "  # noqa: S608
            f"SELECT {values} FROM {old} o ORDER BY o.id"
        )
    )


def _moment_in_sql(connection: sa.Connection, table: str) -> str:
    if connection.dialect.name == "sqlite":
        return "d3_moment(created_at)"
    (column,) = (
        one for one in sa.inspect(connection).get_columns(table) if one["name"] == "created_at"
    )
    zoned = getattr(column["type"], "timezone", False)
    moment = "created_at" if zoned else "created_at AT TIME ZONE 'UTC'"
    return f"coalesce({moment}, timestamptz '{_EPOCH}')"


def _moment(text: Any) -> str | None:
    """A time in SQLite's text as D3 stores it; None if it is none. Without a zone it is UTC."""
    if text is None:
        return _EPOCH
    try:
        moment = datetime.fromisoformat(text)
        zoned = moment.replace(tzinfo=UTC) if moment.utcoffset() is None else moment
        return sqlite_text(zoned.astimezone(UTC))
    except (TypeError, ValueError, OverflowError):
        return None


def _hash_keys(connection: sa.Connection) -> None:
    """Replace each plain key by its fingerprint, in a row as later migrations expect it."""
    old = _OLD.format("users")
    asked = sa.text(
        f"SELECT id, api_key FROM {old} "  # noqa: S608
        "WHERE id > :last AND api_key <> '' ORDER BY id LIMIT :chunk"
    )
    keep = sa.text(
        "INSERT INTO api_keys (key_id, user_id, name, secret_sha256, scopes, created_at) "
        "SELECT :key_id, :user_id, 'prototype', CAST(:hash AS VARCHAR), :scopes, created_at "
        "FROM users "
        # Of two users with one key the prototype always took the first.
        "WHERE id = :user_id AND NOT EXISTS "
        "(SELECT 1 FROM api_keys k WHERE k.secret_sha256 = CAST(:hash AS VARCHAR))"
    )
    last = 0
    while rows := connection.execute(asked, {"last": last, "chunk": _CHUNK}).all():
        last = rows[-1].id
        for row in rows:
            connection.execute(
                keep,
                {
                    "key_id": new_key_id(),
                    "user_id": row.id,
                    "hash": fingerprint(row.api_key),
                    "scopes": " ".join(sorted(ADOPTED_SCOPES)),
                },
            )
