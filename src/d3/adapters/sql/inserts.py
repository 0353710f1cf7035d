"""Writing many rows by one statement, with their ids in order, as quickly as each database can.

Both count upwards through the rows of a statement in the order they are given. SQLAlchemy's own way
of saying so would be a statement for each row on SQLite, where each also costs the interpreter's
lock twice, and on PostgreSQL a statement so long that the driver takes longer to read it than the
server to obey.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import sqlalchemy as sa

from d3.adapters.sql.tables import (
    Base,
    InferenceResult,
    RequestLogRow,
    ResultLabel,
    WebhookDelivery,
    WebhookEvent,
)
from d3.adapters.sql.types import UtcDateTime

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

    Insert: TypeAlias = sqlite.Insert | postgresql.Insert

_SQLITE_ROWS = 64
"""Of one statement on SQLite: enough to be quick, few enough that each number has its own."""


class BulkInsert:
    """Inserts rows into one table.

    Args:
        model: the table's class; its primary key is ``id`` and counts by itself.
    """

    def __init__(self, model: type[Base]) -> None:
        table = model.__table__
        assert isinstance(table, sa.Table)
        self._table = table
        self._columns = tuple(column for column in self._table.columns if column.name != "id")
        self._by_arrays = cache(self._make_by_arrays)
        self._by_rows = cache(self._make_by_rows)
        self._sqlite_forms = cache(self._make_sqlite_forms)

    def __call__(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> list[int]:
        """Insert rows that each hold every column but the id; their ids, in order."""
        return self.asking(connection, rows, None)[0]

    def asking(
        self,
        connection: sa.Connection,
        rows: Sequence[dict[str, Any]],
        question: sa.Select[Any] | None,
    ) -> tuple[list[int], bool]:
        """Insert rows, and learn on the way whether a question has an answer, without a round trip.

        SQLite, which is in this process, is not asked: there the answer is "perhaps".

        Args:
            connection: in a transaction.
            rows: as above.
            question: always the same object, so that the statement is made once.

        Returns:
            The ids in order, and False if the question has no answer.
        """
        if not rows:
            return [], False
        if connection.dialect.name == "sqlite":
            return list(self._into_sqlite(connection, rows)), True
        columns = {column.name: [row[column.name] for row in rows] for column in self._columns}
        found = connection.execute(self._by_arrays(question), columns).all()
        return sorted(row[0] for row in found), found[0][1]

    def _into_sqlite(
        self, connection: sa.Connection, rows: Sequence[dict[str, Any]]
    ) -> Iterator[int]:
        forms = self._sqlite_forms(connection.dialect)
        for start in range(0, len(rows), _SQLITE_ROWS):
            some = rows[start : start + _SQLITE_ROWS]
            values = tuple(
                row[name] if form is None else form(row[name])
                for row in some
                for name, form in forms
            )
            done = connection.exec_driver_sql(self._by_rows(len(some)), values)
            # No other writer is active, so the statement's ids have no gap; this is the last.
            last = done.lastrowid
            yield from range(last - len(some) + 1, last + 1)

    def _make_sqlite_forms(
        self, dialect: sa.Dialect
    ) -> list[tuple[str, Callable[[Any], Any] | None]]:
        return [
            (column.name, column.type.dialect_impl(dialect).bind_processor(dialect))
            for column in self._columns
        ]

    def _make_by_rows(self, count: int) -> str:
        names = ", ".join(f'"{column.name}"' for column in self._columns)
        row = f"({', '.join('?' * len(self._columns))})"
        # Only names of our own tables and question marks.
        return f'INSERT INTO "{self._table.name}" ({names}) VALUES {", ".join([row] * count)}'  # noqa: S608

    def _make_by_arrays(
        self, question: sa.Select[Any] | None
    ) -> sa.sql.dml.ReturningInsert[int, bool]:
        in_order = from_arrays(self._columns)
        names = in_order.selected_columns.keys()
        # It depends on no row, so PostgreSQL answers it once.
        answer = sa.select(sa.false() if question is None else question.exists())
        insert = sa.insert(self._table).from_select(names, in_order)
        return insert.returning(self._table.c.id, answer.scalar_subquery())


def from_arrays(columns: Iterable[sa.ColumnElement[Any]]) -> sa.Select[Any]:
    """Rows that PostgreSQL is given as an array for each column, named as the column.

    The statement is short, and the same for any number of rows.
    """
    kinds = {str(column.key): _element(column.type) for column in columns}
    arrays = [sa.bindparam(name, type_=sa.ARRAY(kind)) for name, kind in kinds.items()]
    names = list(kinds)
    given = sa.func.unnest(*arrays).table_valued(*names, with_ordinality="place", name="given")
    given = given.render_derived()
    return sa.select(*(given.c[name] for name in names)).order_by(given.c.place)


def insert_into(connection: sa.Connection, table: type[Base]) -> Insert:
    """An ``INSERT`` that may say ``ON CONFLICT``; each database has its own."""
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def _element(kind: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    if isinstance(kind, sa.String):  # without length and collation, which casts have no place for
        return sa.Text()
    return sa.DateTime(timezone=True) if isinstance(kind, UtcDateTime) else kind


insert_entries = BulkInsert(InferenceResult)
insert_labels = BulkInsert(ResultLabel)
insert_records = BulkInsert(RequestLogRow)
insert_events = BulkInsert(WebhookEvent)
insert_deliveries = BulkInsert(WebhookDelivery)
