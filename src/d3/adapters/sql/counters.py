"""How far the ids of a table were counted, so that none is ever given twice."""

from __future__ import annotations

import sqlalchemy as sa


def last_given(connection: sa.Connection, table: str) -> int:
    """The highest id that the table ever gave out, rows since deleted included; 0 if none."""
    quoted = _quoted(connection, table)
    highest = connection.scalar(sa.text(f"SELECT max(id) FROM {quoted}")) or 0  # noqa: S608
    if connection.dialect.name == "sqlite":
        counter = None
        if connection.scalar(sa.text("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'")):
            counter = connection.scalar(
                sa.text("SELECT seq FROM sqlite_sequence WHERE name = :table"), {"table": table}
            )
    else:
        sequence = sequence_of(connection, table)
        counter = sequence and connection.scalar(
            sa.text(f"SELECT last_value FROM {sequence} WHERE is_called")  # noqa: S608
        )
    return max(highest, counter or 0)


def continue_after(connection: sa.Connection, table: str, last: int) -> None:
    """Make the table's next id the one after ``last``, which no row's id exceeds."""
    if connection.dialect.name == "sqlite":
        named = {"table": table, "last": last}
        connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = :table"), named)
        connection.execute(sa.text("INSERT INTO sqlite_sequence VALUES (:table, :last)"), named)
    elif last:
        connection.execute(
            sa.text("SELECT setval(CAST(:sequence AS regclass), :last)"),
            {"sequence": sequence_of(connection, table), "last": last},
        )


def sequence_of(connection: sa.Connection, table: str) -> str | None:
    """The quoted name of what counts a PostgreSQL table's ids; None where nothing does."""
    found: str | None = connection.scalar(
        sa.select(sa.func.pg_get_serial_sequence(_quoted(connection, table), "id"))
    )
    return found


def _quoted(connection: sa.Connection, table: str) -> str:
    return connection.dialect.identifier_preparer.quote(table)
