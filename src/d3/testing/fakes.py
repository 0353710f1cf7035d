"""Small working stand-ins for ports: a clock set by hand, and a detector without weights."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import numpy as np

from d3.domain.errors import D3Error
from d3.domain.images import Pixels
from d3.domain.ports.detector import Logits
from d3.domain.scoring import checked_views


class FakeClock:
    """Implements ``Clock``; time stands still until :meth:`advance`.

    Args:
        now: seconds since the epoch at which it starts.
    """

    def __init__(self, now: float = 1_750_000_000.0) -> None:
        self._now = datetime.fromtimestamp(now, UTC)
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds


class FakeDetector:
    """Implements ``Detector`` with logits that depend on the pixels alone.

    View ``k`` of an image has the logit ``mean / 32 - 4 + k / 8``: black images lean towards
    real, white ones towards fake, in every view a little more.

    Attributes:
        failure: may be set and taken away between calls.
        batches: the number of images of each call so far.
        closed: whether :meth:`close` was called.
    """

    engine = "fake"
    device = "cpu"
    precision = "fp32"
    weights_bytes = 0

    def __init__(self, failure: D3Error | None = None) -> None:
        self.failure = failure
        self.batches: list[int] = []
        self.closed = False
        self._owner = threading.Lock()

    def score(self, pixels: Pixels, views: int) -> Logits:
        """Raw logits (n, views) of uint8 RGB pixels (n, S, S, 3).

        Raises:
            RuntimeError: two callers at once, which the port forbids, or a call after the end.
        """
        if not self._owner.acquire(blocking=False):
            raise RuntimeError("a detector has one owner at a time")
        try:
            if self.closed:
                raise RuntimeError("the detector is closed")
            self.batches.append(len(pixels))
            if self.failure is not None:
                raise self.failure
            means = pixels.reshape(len(pixels), -1).mean(axis=1, dtype=np.float64)
            logits: Logits = means[:, None] / 32 - 4 + np.arange(checked_views(views)) / 8
            return logits
        finally:
            self._owner.release()

    def close(self) -> None:
        self.closed = True
