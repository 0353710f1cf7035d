"""A thread pool with two lanes: interactive work first, and a guaranteed share for bulk."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from d3.domain.ports.queue import Lane


class BulkShare:
    """Bulk's credit, in whatever unit the work is counted.

    Each unit of interactive work done while bulk waits earns bulk ``share / (1 - share)`` units;
    bulk goes first with work it has the credit for, and spends it. So while both wait, bulk gets
    its share of all work, short by one job at most, and interactive all the rest.

    Args:
        share: of the work, in (0, 1).

    Attributes:
        credit: what bulk may take before interactive goes on.
    """

    def __init__(self, share: float) -> None:
        self._ratio = share / (1 - share)
        self.credit = 0.0

    def settle(self, interactive: float, bulk: float) -> None:
        """Account for units of work done side by side, or in turns, while both waited."""
        self.credit = max(0.0, self.credit + interactive * self._ratio - bulk)

    def clear(self) -> None:
        """Nothing of bulk waits: there is nothing to save up for."""
        self.credit = 0.0


_T = TypeVar("_T")


@dataclass(eq=False, slots=True)
class _Job:
    """Work and its future. The work is dropped when the future is cancelled, to free its memory."""

    work: Callable[[], Any] | None
    future: Future[Any]

    def forget(self, future: Future[Any]) -> None:
        if future.cancelled():
            self.work = None


class LanePool:
    """A thread pool without a limit of its own: callers reserve slots in the queue first.

    Its threads begin with the first work, so that one that has none yet survives a fork.

    Args:
        threads: how many.
        bulk_share: share of the jobs guaranteed to bulk while both lanes wait; in (0, 1).
        name: of the threads.
    """

    def __init__(self, threads: int, bulk_share: float, name: str) -> None:
        self._jobs: dict[Lane, deque[_Job]] = {lane: deque() for lane in Lane}
        self._share = BulkShare(bulk_share)
        self._lock = threading.Lock()
        # One token for each job, and one for each thread in the end.
        self._tokens: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._names = [f"{name}-{number}" for number in range(threads)]
        self._threads: list[threading.Thread] = []

    def submit(self, work: Callable[[], _T], lane: Lane) -> Future[_T]:
        """Run the work on a thread. A future that is cancelled before its turn costs nothing."""
        job = _Job(work, Future())
        job.future.add_done_callback(job.forget)
        with self._lock:
            self._jobs[lane].append(job)
            if not self._threads:
                self._start()
        self._tokens.put(True)
        return job.future

    def shutdown(self) -> None:
        """Finish all submitted work, then stop the threads."""
        for _ in self._threads:
            self._tokens.put(False)
        for thread in self._threads:
            thread.join()

    def _start(self) -> None:
        self._threads = [
            threading.Thread(target=self._run, name=name, daemon=True) for name in self._names
        ]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while self._tokens.get():
            self._do(self._take())

    def _take(self) -> _Job:
        with self._lock:
            interactive, bulk = self._jobs[Lane.INTERACTIVE], self._jobs[Lane.BULK]
            if not interactive or not bulk:
                self._share.clear()
                return (interactive or bulk).popleft()
            turn = self._share.credit >= 1
            self._share.settle(not turn, turn)
            return (bulk if turn else interactive).popleft()

    @staticmethod
    def _do(job: _Job) -> None:
        work, future = job.work, job.future
        if work is None or not future.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  the future carries it to whoever waits
            future.set_exception(error)
        else:
            future.set_result(result)
