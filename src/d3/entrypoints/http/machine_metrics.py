"""One scrape for several processes: each counts in files of its own, and any of them sums all.

prometheus_client's multiprocess mode does the counting. Its files are named after slots here, not
after processes: a process takes the first slot that is free and goes on counting in its files. So
no count is lost when a process is killed, and a thousand restarts leave no thousand files.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from prometheus_client import CollectorRegistry, Gauge, Metric, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from d3.domain.files import storage_errors

_LOG = logging.getLogger("d3.http")
_KIBIBYTES = {
    "counter": 256,
    "histogram": 1024,
    "gauge_sum": 64,
    "gauge_min": 64,
    "gauge_max": 64,
}
"""The kinds of files and their sizes: more than all series of D3 need."""
_EMPTY = bytes(8)
"""The start of a file without values."""
_REFRESH_SECONDS = 1.0


class SharedMetrics(Collector):
    """The metrics of all processes that use a folder.

    Args:
        folder: of the files.

    Raises:
        StorageFailed: the files cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._gauges: list[tuple[Gauge, Callable[[], float]]] = []
        self._followers: list[Callable[[], None]] = []
        with storage_errors("The files for metrics cannot be created"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._slot, self._lock = self._take_slot()
        self.registry = CollectorRegistry()
        self.registry.register(self)

    @property
    def slot(self) -> str:
        """What names this process's files."""
        return self._slot

    def watch(self, gauge: Gauge, value: Callable[[], float]) -> None:
        """Set the gauge to the function's value in each :meth:`refresh`."""
        self._gauges.append((gauge, value))

    def follow(self, catch_up: Callable[[], None]) -> None:
        """Call a function in each :meth:`refresh`; it brings a counter to its present value."""
        self._followers.append(catch_up)

    def refresh(self) -> None:
        """Set the watched gauges of this process; other processes read them from its files."""
        updates: list[Callable[[], None]] = list(self._followers)
        updates += [partial(_set, gauge, value) for gauge, value in tuple(self._gauges)]
        for update in updates:
            try:
                update()
            except Exception as error:  # noqa: BLE001  the other gauges, and the next second
                _LOG.warning("a gauge cannot be read: %r", error)

    def collect(self) -> Iterable[Metric]:
        """The sums over all processes. Gauges of processes that have ended do not count."""
        alive = {number: self._is_taken(number) for number in self._slots()}
        files = [
            str(file)
            for file in sorted(self._folder.glob("*.db"))
            if not file.name.startswith("gauge") or alive.get(file.stem.split("_")[-1], False)
        ]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return sorted(merged, key=lambda metric: metric.name)

    def _take_slot(self) -> tuple[str, FileLock]:
        for number in map(str, itertools.count(1)):
            lock = self._lock_of(number)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            for kind, kibibytes in _KIBIBYTES.items():
                _prepare(self._folder / f"{kind}_{number}.db", kibibytes * 1024)
            return number, lock
        raise AssertionError

    def _slots(self) -> list[str]:
        return [file.stem for file in self._folder.glob("*.lock")]

    def _is_taken(self, slot: str) -> bool:
        lock = self._lock_of(slot)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return True
        lock.release()
        return False

    def _lock_of(self, slot: str) -> FileLock:
        return FileLock(self._folder / f"{slot}.lock", thread_local=False)


shared: SharedMetrics | None = None
"""Where this process counts; None if it counts for itself alone."""


def share_metrics(folder: Path) -> SharedMetrics:
    """Count in files of this folder from now on, with all other processes that do.

    For a whole process, before its first metric is made. Gauges are refreshed in the background.

    Args:
        folder: of the files.

    Raises:
        StorageFailed: the files cannot be made.
    """
    global shared  # noqa: PLW0603  as the library's own switch is one for the process
    shared = SharedMetrics(folder)
    slot = shared.slot
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # where the library looks for it
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]
    threading.Thread(target=_keep_refreshing, args=[shared], daemon=True).start()
    return shared


def _set(gauge: Gauge, value: Callable[[], float]) -> None:
    gauge.set(value())


def _keep_refreshing(metrics: SharedMetrics) -> None:
    while True:
        metrics.refresh()
        time.sleep(_REFRESH_SECONDS)


def _prepare(file: Path, size: int) -> None:
    """Make a file, or empty the gauges of one.

    All its space is allocated: on a full disk, a write to a mapped file would end the process.
    """
    if not file.exists():
        made = file.with_suffix(".new")
        with made.open("wb") as stream:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, size)
            else:
                stream.truncate(size)
        made.replace(file)
    elif file.name.startswith("gauge"):
        with file.open("r+b") as stream:
            stream.write(_EMPTY)
