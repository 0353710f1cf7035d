"""Turns: detectors that share the cores of one process score one after another."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Turns:
    """Gives turns in the order in which they are asked for. Safe to call from many threads.

    Two forward passes at once would each want all cores, and both be slower. A plain lock would not
    do: whoever has just let go of it often gets it again, while others wait.
    """

    def __init__(self) -> None:
        self._taken = False
        self._waiting: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    def wait(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait for a turn, which lasts until :meth:`end`.

        Args:
            meanwhile: called first where there is something to wait for.
        """
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Event()
            self._waiting.append(mine)
        try:
            meanwhile()
        finally:
            mine.wait()

    def end(self) -> None:
        """Let the next one have its turn."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False
