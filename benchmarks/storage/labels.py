"""Times the import of labels into a large history: by id and by the image's SHA-256."""

from __future__ import annotations

import hashlib
import random
import statistics
import time
from dataclasses import replace

from history import entries

from d3.adapters.in_process import SystemClock
from d3.adapters.sql import Database, SqlHistory
from d3.domain.services.labelling import import_labels

LINES = 10_000
GOAL_SECONDS = 10


def show(database: Database, rows: int, repeat: int) -> None:
    """Fill the tables and print the medians."""
    history, ids = SqlHistory(database), []
    coming = [
        replace(entry, image_sha256=hashlib.sha256(entry.request_id.encode()).hexdigest())
        for entry in entries(rows)
        if entry.request_id
    ]
    for start in range(0, rows, 1000):
        ids += history.add_many(coming[start : start + 1000])
    chance = random.Random(5)
    kind = "SQLite" if database.is_sqlite else "PostgreSQL"
    for column, names in (("id", ids), ("image_sha256", [one.image_sha256 for one in coming])):
        times = []
        for _ in range(repeat):
            lines = [
                f"{name},{chance.choice(('real', 'generated'))},agency,seen elsewhere"
                for name in chance.sample(names, LINES)
            ]
            began = time.perf_counter()
            done = import_labels(
                history, SystemClock(), "\n".join([f"{column},label,source,note", *lines])
            )
            times.append(time.perf_counter() - began)
            assert done.results == LINES
        median = statistics.median(times)
        verdict = "yes" if median < GOAL_SECONDS else "NO"
        print(
            f"{kind}: {LINES:,} labels by {column} among {rows:,} results in {median:.2f} s "
            f"(under {GOAL_SECONDS}: {verdict})"
        )
