"""Writing many entries by one statement, with their ids in order, as quickly as each database can.

Both count upwards through the rows of a statement in the order they are given, so ids sorted are
ids in the order of the entries. SQLAlchemy's own way of saying so would be a statement for each
row on SQLite, and on PostgreSQL a statement so long that the driver takes longer to read it than
the server to obey.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from d3.adapters.sql.rows import COLUMNS
from d3.adapters.sql.tables import InferenceResult
from d3.adapters.sql.types import UtcDateTime

_GIVEN = tuple(column for column in COLUMNS if column.name != "id")


def insert_entries(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> list[int]:
    """Insert rows that each hold every column but the id; their ids, in order."""
    if connection.dialect.name == "sqlite":
        return sorted(connection.scalars(_BY_VALUES, rows))
    columns = {column.name: [row[column.name] for row in rows] for column in _GIVEN}
    return sorted(connection.scalars(_BY_ARRAYS, columns))


def _by_arrays() -> sa.sql.dml.ReturningInsert[tuple[int]]:
    """One array for each column, so that the statement is the same for any number of rows."""
    arrays = [
        sa.bindparam(column.name, type_=postgresql.ARRAY(_element(column.type)))
        for column in _GIVEN
    ]
    names = [column.name for column in _GIVEN]
    given = sa.func.unnest(*arrays).table_valued(*names, with_ordinality="place", name="given")
    given = given.render_derived()
    in_order = sa.select(*(given.c[name] for name in names)).order_by(given.c.place)
    return sa.insert(InferenceResult).from_select(names, in_order).returning(InferenceResult.id)


def _element(kind: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    if isinstance(kind, sa.String):  # without length and collation, which casts have no place for
        return sa.Text()
    return sa.DateTime(timezone=True) if isinstance(kind, UtcDateTime) else kind


_BY_VALUES = sa.insert(InferenceResult).returning(InferenceResult.id)
_BY_ARRAYS = _by_arrays()
