"""A circuit breaker: a server that does not answer is asked seldom until it is back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

_LOG = logging.getLogger(__name__)


class CircuitBreaker:
    """Remembers whether a server answers. Safe to use from many threads.

    During an outage one caller in ``seconds`` may try the server; all others fail at once. One line
    is logged when an outage begins and one when it ends.

    Args:
        server: its name in the log.
        meanwhile: what happens without it, for the log.
        seconds: between two attempts during an outage.
    """

    def __init__(
        self,
        server: str,
        meanwhile: str,
        seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._meanwhile = meanwhile
        self._seconds = seconds
        self._monotonic = monotonic
        self._reason: str | None = None
        self._next_attempt = 0.0
        self._lock = threading.Lock()

    @property
    def reason(self) -> str | None:
        """Why the server cannot be used; None while it answers."""
        return self._reason

    def attempt(self) -> bool:
        """Whether to ask the server now; then report with ``failed`` or ``worked``."""
        with self._lock:
            if self._reason is None:
                return True
            if (now := self._monotonic()) < self._next_attempt:
                return False
            self._next_attempt = now + self._seconds
            return True

    def failed(self, reason: str) -> None:
        with self._lock:
            first = self._reason is None
            self._reason = reason
            self._next_attempt = self._monotonic() + self._seconds
        if first:
            _LOG.warning("%s is unavailable: %s %s", self._server, reason, self._meanwhile)

    def worked(self) -> None:
        if self._reason is None:
            return
        with self._lock:
            first, self._reason = self._reason is not None, None
        if first:
            _LOG.warning("%s is available again.", self._server)
