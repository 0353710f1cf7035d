"""Copies the embedded database into a file while it is in use, with SQLite's own backup."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from d3.adapters.sql.engine import Database
from d3.domain.errors import StorageFailed
from d3.domain.files import Progress, no_progress, replacing

_PAGES = 4096


def backup(database: Database, file: Path, progress: Progress = no_progress) -> None:
    """Copy the database, as it stands at this moment, into a file that is whole or not there.

    Args:
        database: an embedded one; it may be written at the same time.
        file: must not be there yet.
        progress: called with the pages copied.

    Raises:
        StorageFailed: the file is there, cannot be written, or the database is a server's.
    """
    if not database.is_sqlite:
        raise StorageFailed(
            "D3 backs up only the embedded database.",
            "Back up a PostgreSQL server with `pg_dump`.",
        )
    source = Path(database.url.database or "")
    if not source.is_file():
        raise StorageFailed("There is no database to back up.", "Check D3_HOME or D3_DATABASE_URL.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600, exist_ok=False)  # whose name it is, before anything is written
        try:
            with replacing(file, 0o600) as part:
                _copy(source, part, progress)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
    except FileExistsError as error:
        raise StorageFailed(
            f"The file {file.name} already exists, and a backup never replaces a file.",
            "Name another file.",
        ) from error
    except (OSError, sqlite3.Error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise StorageFailed(
            f"The backup {file.name} could not be written ({why}).",
            "Check the folder, its permissions and the free space.",
        ) from error


def beside(database: Database, revision: str) -> Path:
    """Where a backup goes that is made before an upgrade: the database's folder."""
    source = Path(database.url.database or "")
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return source.with_name(f"{source.name}.before-upgrade-of-{revision}.{moment}")


def _copy(source: Path, target: Path, progress: Progress) -> None:
    uri = f"{source.resolve().as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as here,
        closing(sqlite3.connect(target, isolation_level=None)) as there,
    ):
        # One snapshot for all steps: without it, each writer in between would start them anew.
        here.execute("BEGIN")
        here.execute("SELECT count(*) FROM sqlite_master").fetchone()
        here.backup(
            there,
            pages=_PAGES,
            progress=lambda _, left, total: progress("pages", total - left, total),
        )
        # Everything in the one file, nothing in a log beside it.
        there.execute("PRAGMA journal_mode = DELETE")
        (verdict,) = there.execute("PRAGMA quick_check").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError("the copy is damaged, so the database may be damaged too")
