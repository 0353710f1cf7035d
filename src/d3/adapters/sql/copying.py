"""Copies a whole database into an empty one: SQLite to PostgreSQL, back, or likes to likes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from d3.adapters.sql import schema
from d3.adapters.sql.counters import continue_after, last_given
from d3.adapters.sql.engine import Database
from d3.adapters.sql.tables import Base
from d3.domain.errors import SchemaMismatch, StorageFailed
from d3.domain.files import Progress, no_progress

_CHUNK = 1000


class SqlCopier:
    """Copies a whole database into an empty one, of either kind.

    Args:
        source: read in one snapshot.
        target: written in one transaction, its tables included if it has none.
    """

    def __init__(self, source: Database, target: Database) -> None:
        self._source = source
        self._target = target

    def copy(self, progress: Progress = no_progress) -> dict[str, int]:
        """Copy every row with its id, all or none; how many each table had.

        The source may be in use; what is copied is what it held at one moment. Ids go on counting
        where the source's stood.

        Args:
            progress: called with a table's name, its rows copied and its rows in all.

        Raises:
            SchemaMismatch: the source is not at this version's revision, or the target is neither
                empty nor this version's without rows.
            StorageFailed: one of the two cannot be used.
        """
        self._check_source()
        with _snapshot(self._source) as source, self._target.writing() as target:
            schema.exclusively(target)
            self._prepare_target(target)
            return {
                table.name: _copy_table(source, target, table, progress)
                for table in Base.metadata.sorted_tables
            }

    def close(self) -> None:
        """Close the connections to both."""
        self._source.close()
        self._target.close()

    def _check_source(self) -> None:
        if self._source.url == self._target.url:
            raise StorageFailed(
                "The database to copy from and the one to copy into are the same.",
                "Name the new one with --to, POSTGRES_HOST or D3_DATABASE_URL.",
            )
        if self._source.is_sqlite and not Path(self._source.url.database or "").is_file():
            raise StorageFailed("There is no database to copy from.", "Check the URL in --from.")
        found = schema.state(self._source)
        if found is not schema.SchemaState.AT_HEAD:
            raise SchemaMismatch(
                "The database to copy from is not at the revision of this D3: it is "
                f"{found.value}.",
                "Run `d3 db upgrade` on it first. `d3 db current` shows its revision.",
            )

    def _prepare_target(self, target: sa.Connection) -> None:
        found = schema.state_of(target)
        if found not in {schema.SchemaState.EMPTY, schema.SchemaState.AT_HEAD} or schema.has_rows(
            target
        ):
            raise SchemaMismatch(
                "The database to copy into is not empty, and D3 does not overwrite its data.",
                "Name an empty one with --to.",
            )
        schema.migrate(target)


@contextmanager
def _snapshot(database: Database) -> Iterator[sa.Connection]:
    """A connection that sees the database as it was at one moment."""
    with database.reading() as connection:
        if not database.is_sqlite:
            connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            from d3.adapters.sql.postgres import lift_time_limit

            lift_time_limit(connection)
        yield connection


def _copy_table(
    source: sa.Connection, target: sa.Connection, table: sa.Table, progress: Progress
) -> int:
    total = source.scalar(sa.select(sa.func.count()).select_from(table)) or 0
    in_order = sa.select(*table.columns).order_by(*table.primary_key.columns)
    insert = sa.insert(table)
    done = 0
    progress(table.name, done, total)
    with source.execution_options(yield_per=_CHUNK).execute(in_order) as rows:
        for chunk in rows.mappings().partitions():
            target.execute(insert, [dict(row) for row in chunk])
            done += len(chunk)
            progress(table.name, done, total)
    if "id" in table.columns:
        continue_after(target, table.name, last_given(source, table.name))
    return done
