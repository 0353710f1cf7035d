"""How many results a second the history takes, beside the plain driver doing the same statements.

What D3 sends for a batch is taken down once and sent again by the driver alone: the same text, the
same values, the same `BEGIN` and `COMMIT`, as durable. They take turns; medians count.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import psycopg
from history import entries
from sqlalchemy import event

from d3.adapters.sql import Database, SqlHistory
from d3.domain.history import NewEntry

SECONDS = 1.0


def compare(database: Database, repeat: int) -> None:
    """Print rows a second, ours and plain, for batches of 1 and 32."""
    driver = "sqlite3" if database.is_sqlite else "psycopg"
    history = SqlHistory(database)
    for size in (1, 32):
        batch = list(islice(entries(size), size))
        statement, values = taken_down(database, batch)
        plain = plainly(database, statement, values)
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(repeat):
            ours.append(size * turns(lambda batch=batch: history.add_many(batch)))  # type: ignore[misc]
            theirs.append(size * turns(plain))
        middle = statistics.median(ours), statistics.median(theirs)
        print(
            f"inserts, batches of {size:2}, {driver:8} plain {middle[1]:7.0f}/s, "
            f"D3 {middle[0]:7.0f}/s: {middle[0] / middle[1]:.2f}"
        )


def turns(work: Callable[[], object]) -> float:
    """How often a second this can be done."""
    begun, done = time.perf_counter(), 0
    while time.perf_counter() < begun + SECONDS:
        work()
        done += 1
    return done / (time.perf_counter() - begun)


def taken_down(database: Database, batch: Sequence[NewEntry]) -> tuple[str, Any]:
    """The statement that D3 sends for a batch, and its values."""
    found: list[tuple[str, Any]] = []

    def take_down(*sent: Any) -> None:
        if not str(sent[2]).startswith("BEGIN"):
            found.append((sent[2], sent[3]))

    event.listen(database.engine, "before_cursor_execute", take_down)
    SqlHistory(database).add_many(batch)
    event.remove(database.engine, "before_cursor_execute", take_down)
    (only,) = found
    return only


def plainly(database: Database, statement: str, values: Any) -> Callable[[], object]:
    """The same on a connection of the driver's own."""
    if database.is_sqlite:
        connection = sqlite3.connect(str(database.url.database), isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")

        def insert() -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(statement, values).fetchall()
            connection.execute("COMMIT")

        return insert
    url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    server = psycopg.connect(url)

    def insert_there() -> None:
        server.execute(statement, values).fetchall()
        server.commit()

    return insert_there
