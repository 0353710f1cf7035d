"""The machine's own clock."""

from __future__ import annotations

import time


class SystemClock:
    """Fills :class:`d3.domain.ports.Clock`."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return time.perf_counter()
