"""How many results a second N processes write to one SQLite file, and how long the longest waits.

Each process is a front's writing side: its own connections, history writer and request log. As
many requests are under way in all, whatever N is: each writes one result, waits for its commit and
writes the next one. Afterwards every acknowledged row must be there, once.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from queue import SimpleQueue

from history import entries

from d3.adapters.in_process import SystemClock
from d3.adapters.sql import Database, SqlHistory, upgrade
from d3.domain.history import HistoryFilter, RequestRecord
from d3.domain.services.history_writer import HistoryWriter
from d3.domain.services.request_log_writer import RequestLogWriter

UNDER_WAY = 32
SECONDS = 5.0


def compare(counts: Sequence[int], repeat: int) -> None:
    """Print rows a second and waits for each number of processes, in turns; medians."""
    found: dict[int, list[tuple[float, float, float, float]]] = {count: [] for count in counts}
    for _ in range(repeat):
        for count in counts:
            found[count].append(measure(count))
    for count, laps in found.items():
        rate, median, tail, worst = (statistics.median(lap[n] for lap in laps) for n in range(4))
        print(
            f"SQLite, {count} processes: {rate:7.0f} rows/s, waits of {1000 * median:.1f} ms "
            f"(median), {1000 * tail:.0f} ms (p99.9), {1000 * worst:.0f} ms (most, "
            f"{max(1000 * lap[3] for lap in laps):.0f} in any lap)"
        )


def measure(count: int) -> tuple[float, float, float, float]:
    """Rows a second of so many processes, and the median, p99.9 and longest wait in seconds."""
    with tempfile.TemporaryDirectory(prefix="d3-bench-") as folder:
        file = Path(folder) / "d3.db"
        database = Database(file)
        upgrade(database)
        command = [sys.executable, __file__, str(file), str(UNDER_WAY // count)]
        running = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(count)
        ]
        for one in running:
            assert one.stdout is not None
            one.stdout.readline()  # it is ready
        for one in running:
            assert one.stdin is not None
            one.stdin.close()  # begin
        waits = sorted(
            wait for one in running if one.stdout for wait in json.loads(one.stdout.read())
        )
        assert not any(one.wait() for one in running)
        kept = SqlHistory(database).statistics(HistoryFilter()).total_inferences
        assert kept == len(waits), f"{len(waits)} rows were acknowledged, {kept} are there"
        database.close()
    return (
        len(waits) / SECONDS,
        statistics.median(waits),
        waits[-max(1, len(waits) // 1000)],
        waits[-1],
    )


def write(file: str, under_way: str) -> None:
    """Write until the time is over; print the waits."""
    clock = SystemClock()
    history = SqlHistory(Database(Path(file)))
    writer, log = HistoryWriter(history, clock), RequestLogWriter(history, clock)
    (entry,) = islice(entries(1), 1)
    record = RequestRecord(
        endpoint="/api/inference/predict",
        method="POST",
        status_code=200,
        ip_address="127.0.0.1",
        response_time=0.01,
        created_at=datetime.now(UTC),
        request_id="0" * 32,
        user_id=None,
    )
    done: SimpleQueue[float] = SimpleQueue()
    waits: list[float] = []

    def submit() -> None:
        begun = time.perf_counter()

        def count(stored: Future[list[int]]) -> None:
            stored.result()
            done.put(time.perf_counter() - begun)

        writer.submit([entry]).add_done_callback(count)
        log.log(record)

    print("ready", flush=True)
    sys.stdin.read()
    until = time.perf_counter() + SECONDS
    for _ in range(int(under_way)):
        submit()
    while time.perf_counter() < until:
        waits.append(done.get())
        submit()
    waits += [done.get() for _ in range(int(under_way))]
    writer.close()
    log.close()
    print(json.dumps(waits))


if __name__ == "__main__":
    write(*sys.argv[1:])
