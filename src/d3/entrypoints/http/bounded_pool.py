"""Threads for work that takes seconds, of which only so much may wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class BoundedPool:
    """A few threads, and a few places for what waits for them.

    Args:
        threads: that work.
        places: for what is being done or waits.
        name: of the threads.
        full: what to raise where no place is left.
    """

    def __init__(self, threads: int, places: int, name: str, full: Callable[[], Exception]) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._places = threading.BoundedSemaphore(places)
        self._full = full

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Have it done; a future that is cancelled before its turn costs nothing.

        Raises:
            Exception: the one of ``full``.
        """
        if not self._places.acquire(blocking=False):
            raise self._full()
        future = self._threads.submit(work)
        future.add_done_callback(lambda _: self._places.release())
        return future

    def shutdown(self) -> None:
        """Finish what is being done; what waits is cancelled."""
        self._threads.shutdown(cancel_futures=True)
