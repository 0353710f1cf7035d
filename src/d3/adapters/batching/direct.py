"""A queue without a queue, for scripts: whoever submits runs the detector, one at a time."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from d3.domain.images import Pixels
from d3.domain.ports import Clock, Detector, Scored


class DirectQueue:
    """Fills :class:`d3.domain.ports.DetectionQueue`; its futures are finished when handed out."""

    def __init__(self, detector: Detector, clock: Clock) -> None:
        self._detector = detector
        self._clock = clock
        self._turn = threading.Lock()

    @property
    def detector(self) -> Detector:
        """The one it owns."""
        return self._detector

    def submit(self, pixels: Pixels, views: int) -> Future[Scored]:
        """Score the pixels (n, S, S, 3) on the calling thread."""
        future: Future[Scored] = Future()
        with self._turn:
            begun = self._clock.monotonic()
            try:
                logits = self._detector.score(pixels, views)
            except Exception as error:  # noqa: BLE001  the future carries it to whoever waits
                future.set_exception(error)
                return future
            seconds = self._clock.monotonic() - begun
        future.set_result(Scored(logits, seconds / len(pixels)))
        return future

    def close(self) -> None:
        """Wait for the running turn, then close the detector."""
        with self._turn:
            self._detector.close()
