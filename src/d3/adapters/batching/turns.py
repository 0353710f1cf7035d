"""Turns: detectors that share the cores of one process score one after another."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Turns:
    """Gives turns in the order in which they are asked for. Safe to call from many threads.

    Two forward passes at once would each want all cores, and both be slower. A plain lock would not
    do: whoever has just let go of it often gets it again, while others wait.
    """

    def __init__(self) -> None:
        self._taken = False
        self._waiting: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def take(self, meanwhile: Callable[[], None]) -> Iterator[None]:
        """Wait for a turn, which lasts until the block ends.

        Args:
            meanwhile: called first where there is something to wait for.
        """
        with self._lock:
            mine = threading.Event() if self._taken else None
            if mine is not None:
                self._waiting.append(mine)
            self._taken = True
        try:
            if mine is not None:
                meanwhile()
                mine.wait()
            yield
        finally:
            self._end()

    def _end(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False
