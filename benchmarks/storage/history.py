"""Times pages and statistics of a large history.

Fills a database through the real tables, then asks what the service asks, five times each, and
gives medians beside what they must not exceed.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import sqlalchemy as sa

from d3.adapters.sql import Database, SqlHistory
from d3.adapters.sql.rows import row_of
from d3.adapters.sql.tables import InferenceResult
from d3.domain.history import BucketSize, GroupBy, HistoryFilter, NewEntry
from d3.domain.ordering import encode_cursor
from d3.domain.scoring import Verdict

START = datetime(2025, 1, 1, tzinfo=UTC)
SPAN = timedelta(days=365)
ALL = HistoryFilter()


def show(database: Database, rows: int, repeat: int) -> None:
    """Fill the tables and print the medians."""
    began = time.perf_counter()
    fill(database, rows)
    kind = "SQLite" if database.is_sqlite else "PostgreSQL"
    print(f"{kind}: filled {rows:,} rows in {time.perf_counter() - began:.0f} s")
    for line in measure(database, rows, repeat):
        print(line)


def entries(rows: int) -> Iterator[NewEntry]:
    chance = random.Random(3)
    models = ("starter", "d3-vit-l14")
    step = SPAN / rows
    for n in range(rows):
        prediction = chance.random()
        yield NewEntry(
            image_name=f"IMG_{chance.randrange(10**6):06}.jpg",
            prediction=prediction,
            is_fake=prediction > 0.5,
            confidence=2 * abs(prediction - 0.5),
            threshold=0.5,
            processing_time=chance.random(),
            created_at=START + n * step,
            verdict=Verdict.FAKE if prediction > 0.5 else Verdict.REAL,
            logit=prediction,
            image_sha256=f"{n:064x}",
            image_format="JPEG",
            image_width=640,
            image_height=480,
            image_frames=1,
            image_bytes=100_000,
            model_name=models[n % 2],
            model_version=1,
            model_sha256=models[n % 2][0] * 64,
            engine="torch",
            precision="fp32",
            d3_version="0.1.0",
            request_id=f"{n:032x}",
        )


def fill(database: Database, rows: int) -> None:
    """Indexes are taken away and made again, which is far quicker than keeping them."""
    table = InferenceResult.__table__
    assert isinstance(table, sa.Table)
    coming = entries(rows)
    with database.writing() as connection:
        for index in table.indexes:
            index.drop(connection)
        while lot := [row_of(entry) for entry in islice(coming, 10_000)]:
            connection.execute(sa.insert(table), lot)
        for index in table.indexes:
            index.create(connection)
    if not database.is_sqlite:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as bare:
            bare.execute(sa.text("VACUUM ANALYZE inference_results"))


def measure(database: Database, rows: int, repeat: int) -> Iterator[str]:
    history = SqlHistory(database)

    def deep(where: HistoryFilter) -> Callable[[], Any]:
        cursor = encode_cursor((START + SPAN / 20, rows), where)
        return lambda: history.page_after(where, 50, cursor)

    def search(part: str) -> Callable[[], Any]:
        return lambda: history.page_after(HistoryFilter(contains=part), 50)

    def statistics_page(where: HistoryFilter) -> None:
        history.statistics(where, BucketSize.DAY)
        history.distribution(where, 20)
        history.failures(where, BucketSize.DAY)
        for by in GroupBy:
            history.breakdown(where, by)
        history.daily(where, 20)

    page = 50 if database.is_sqlite else 20
    year = HistoryFilter(since=START, until=START + SPAN)
    fakes, named = HistoryFilter(is_fake=True), HistoryFilter(q="IMG_0001")
    broad = HistoryFilter(q="IMG")
    asked: list[tuple[str, float | None, Callable[[], Any]]] = [
        ("first cursor page", page, lambda: history.page_after(ALL, 50)),
        ("deep cursor page", page, deep(ALL)),
        ("first cursor page, fakes", page, lambda: history.page_after(fakes, 50)),
        ("deep cursor page, fakes", page, deep(fakes)),
        ("first cursor page of 500", None, lambda: history.page_after(ALL, 500)),
        ("cursor page, rare prefix", page, lambda: history.page_after(named, 50)),
        ("cursor page, common prefix", None, lambda: history.page_after(broad, 50)),
        ("first page with total", None, lambda: history.page(ALL, 50)),
        ("deep offset with total", None, lambda: history.page(ALL, 50, rows * 19 // 20)),
        ("totals", 300, lambda: history.statistics(ALL)),
        ("totals of the year", 300, lambda: history.statistics(year)),
        ("daily series", 800, lambda: history.statistics(ALL, BucketSize.DAY)),
        ("hourly series", None, lambda: history.statistics(ALL, BucketSize.HOUR)),
        ("a part of few names", page, search("_123456")),
        ("a part of all names", None, search("IMG_")),
        ("a part of no name", page, search("nowhere")),
        ("two characters", None, search("12")),
        ("all the statistics page asks", 500 * rows / 100_000, lambda: statistics_page(ALL)),
        ("the same of the year", 500 * rows / 100_000, lambda: statistics_page(year)),
    ]
    for name, bound, ask in asked:
        times = []
        for _ in range(repeat):
            began = time.perf_counter()
            ask()
            times.append(1000 * (time.perf_counter() - began))
        median = statistics.median(times)
        limit = (
            "" if bound is None else f"  (under {bound:.0f}: {'yes' if median < bound else 'NO'})"
        )
        yield f"{name:28} {median:8.1f} ms{limit}"
