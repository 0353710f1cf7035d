"""Turns what databases and drivers complain about into D3's errors, without their secrets."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import exc

from d3.domain.errors import (
    EntryRefused,
    SchemaMismatch,
    StorageFailed,
    StorageUnavailable,
    UserGone,
)

_REMEDIES: tuple[tuple[str, type[StorageFailed], str, str], ...] = (
    (
        r"no such (table|column)|has no column named|ON CONFLICT clause does|42P01|42703|42P10",
        SchemaMismatch,
        "The database does not have all the tables that D3 needs.",
        "Run `d3 db upgrade`.",
    ),
    (
        r"password authentication failed|no password supplied|pg_hba|28P01|28000|role .* not exist",
        StorageFailed,
        "The database rejects the user name or the password.",
        "Check POSTGRES_USER and POSTGRES_PASSWORD, or D3_DATABASE_URL.",
    ),
    (
        r'database "[^"]*" does not exist|3D000',
        StorageFailed,
        "The server has no database with this name.",
        "Create it, or check POSTGRES_DB or D3_DATABASE_URL.",
    ),
    (
        r"25006|read-only transaction",
        StorageUnavailable,
        "The database is read-only at the moment, as a standby server is.",
        "Check that POSTGRES_HOST or D3_DATABASE_URL names the primary server.",
    ),
    (
        r"permission denied|42501|readonly database|read-only",
        StorageFailed,
        "D3 is not allowed to write to the database.",
        "Check the permissions of the user or of the folder, and D3_HOME or D3_DATABASE_URL.",
    ),
    (
        r"unable to open database file",
        StorageFailed,
        "The database file cannot be opened.",
        "Check the folder of D3_HOME or D3_DATABASE_URL, its permissions and the free space.",
    ),
    (
        r"disk is full|disk I/O|No space left|53100",
        StorageFailed,
        "The database has no space left, or its disk fails.",
        "Free some space on the disk of the database (D3_HOME or D3_DATABASE_URL).",
    ),
    (
        r"no such module: fts5|no such tokenizer",
        StorageFailed,
        "SQLite cannot search here: it was built without FTS5, or is older than 3.34.",
        "Use another build of Python, or PostgreSQL with D3_DATABASE_URL.",
    ),
    (
        r"file is not a database|malformed|encrypted",
        StorageFailed,
        "The database file is not a valid SQLite database.",
        "Check D3_HOME or D3_DATABASE_URL, or restore a backup.",
    ),
    (
        r"database (table )?is locked|55P03|40P01|40001",
        StorageUnavailable,
        "The database is busy with another writer.",
        "Try again in a moment.",
    ),
    (
        r"57014|statement timeout|interrupted",
        StorageUnavailable,
        "The database took too long to answer.",
        "Request less at once, or try again in a moment.",
    ),
)
_OF_USERS_ALONE = {"api_keys", "inference_results", "jobs", "request_logs", "webhooks"}
"""Tables that refer to users and to nothing else."""


@contextmanager
def translated() -> Iterator[None]:
    """Let D3's errors out and nothing of SQLAlchemy's or the driver's."""
    try:
        yield
    except exc.SQLAlchemyError as error:
        raise translate(error) from error
    except (UnicodeEncodeError, OverflowError) as error:
        raise EntryRefused("A value cannot be stored in the database.") from error


def translate(error: exc.SQLAlchemyError) -> StorageFailed:
    """What to tell of the error: the setting to look at, never its value."""
    if isinstance(error, exc.TimeoutError):
        return StorageUnavailable(
            "All connections to the database are in use.",
            "Try again in a moment, or raise D3_DATABASE_POOL_SIZE.",
        )
    if isinstance(error, exc.DBAPIError):
        return _translate_driver(error)
    if isinstance(error, exc.StatementError):
        return EntryRefused("A value cannot be stored in the database.")
    return StorageFailed(f"The database cannot be used ({type(error).__name__}).")


def _translate_driver(error: exc.DBAPIError) -> StorageFailed:
    # An entry may quote any of the phrases, so what the server says of a row is not searched.
    if isinstance(error, exc.IntegrityError | exc.DataError):
        return _of_a_row(error)
    said = f"{error.orig} {getattr(error.orig, 'sqlstate', '') or ''}"
    for phrases, kind, problem, remedy in _REMEDIES:
        if re.search(phrases, said, re.IGNORECASE):
            return kind(problem, remedy)
    if isinstance(error.orig, sqlite3.Error):
        return StorageUnavailable(
            f"The database cannot be used ({type(error.orig).__name__}).",
            "Check D3_HOME or D3_DATABASE_URL. The log has the details.",
        )
    if error.connection_invalidated or isinstance(error, exc.OperationalError | exc.InterfaceError):
        return StorageUnavailable(
            "The database cannot be reached.",
            "Check that it is running, and check POSTGRES_HOST and POSTGRES_PORT or "
            "D3_DATABASE_URL.",
        )
    return StorageFailed(f"The database cannot be used ({type(error.orig).__name__}).")


def _of_a_row(error: exc.IntegrityError | exc.DataError) -> StorageFailed:
    """What is wrong with a row that the database does not take."""
    if not isinstance(error, exc.IntegrityError):
        gone = None
    elif isinstance(error.orig, sqlite3.Error):
        gone = _missing_in_sqlite(error.orig, error.statement or "")
    else:
        gone = _missing_in_postgresql(error.orig)
    if gone == "users":
        return UserGone()
    if gone == "webhooks":  # removed between the choice of the receivers and the commit
        return StorageUnavailable("A webhook was removed meanwhile.", "Try again.")
    return EntryRefused("The database rejects this entry.", "One of its values is out of range.")


def _missing_in_sqlite(error: sqlite3.Error, statement: str) -> str | None:
    """The table where what a row belongs to is missing; SQLite does not name the reference."""
    table = re.match(r'INSERT INTO "?(\w+)', statement)
    refers = error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY
    return "users" if refers and table is not None and table[1] in _OF_USERS_ALONE else None


def _missing_in_postgresql(error: Any) -> str | None:
    if getattr(error, "sqlstate", None) != "23503":
        return None
    if error.diag.table_name == "webhook_deliveries":
        return "webhooks"
    return "users" if "user_id" in (error.diag.constraint_name or "") else None
