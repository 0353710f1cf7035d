"""A queue without a queue, for scripts: whoever submits runs the detector, one at a time."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import cast

from d3.domain.errors import DeadlineExceeded
from d3.domain.heatmaps import Map
from d3.domain.images import Pixels
from d3.domain.ports.clock import Clock
from d3.domain.ports.detector import Detector, Explainer
from d3.domain.ports.queue import Lane, Scored, Waiting


class DirectQueue:
    """Implements ``DetectionQueue``.

    Its futures are finished when handed out; nothing ever waits, so there is always a slot.
    """

    trouble: str | None = None

    def __init__(self, detector: Detector, clock: Clock) -> None:
        self._detector = detector
        self._clock = clock
        self._turn = threading.Lock()

    @property
    def detector(self) -> Detector:
        """The one it owns."""
        return self._detector

    def reserve(
        self,
        images: int,
        size_bytes: int,  # noqa: ARG002  the port's
        views: int,
        lane: Lane = Lane.INTERACTIVE,
        deadline: float | None = None,
    ) -> _Place:
        """A slot; there is always one."""
        del images
        return _Place(self, views, lane, deadline)

    def reserve_map(self, views: int, deadline: float | None = None) -> _MapPlace:
        """A slot; there is always one."""
        del deadline
        return _MapPlace(self, views)

    def draw(self, pixels: Pixels, views: int) -> Future[Map]:
        """Draw a heat map on the calling thread."""
        explainer = cast("Explainer", self._detector)
        future: Future[Map] = Future()
        with self._turn:
            try:
                logits = explainer.explain_parts(pixels, views, 0, explainer.parts)
                future.set_result(explainer.heat(logits))
            except Exception as error:  # noqa: BLE001  the future carries it to whoever waits
                future.set_exception(error)
        return future

    def submit(
        self,
        pixels: Pixels,
        views: int,
        lane: Lane = Lane.INTERACTIVE,  # noqa: ARG002  the port's
        deadline: float | None = None,
    ) -> Future[Scored]:
        """Score the pixels (n, S, S, 3) on the calling thread."""
        future: Future[Scored] = Future()
        with self._turn:
            begun = self._clock.monotonic()
            if deadline is not None and begun >= deadline:
                future.set_exception(DeadlineExceeded("The image's time was over.", "Try again."))
                return future
            try:
                logits = self._detector.score(pixels, views)
            except Exception as error:  # noqa: BLE001  the future carries it to whoever waits
                future.set_exception(error)
                return future
            seconds = self._clock.monotonic() - begun
        future.set_result(Scored(logits, seconds / len(pixels)))
        return future

    def warm_up(self, image_size: int) -> None:
        """Do nothing: a script's first image may as well be the first pass."""

    def waiting(self, lane: Lane) -> Waiting:  # noqa: ARG002  the port's
        """Nothing."""
        return Waiting()

    def close(self) -> None:
        """Wait for the running turn, then close the detector."""
        with self._turn:
            self._detector.close()


@dataclass(frozen=True, slots=True)
class _Place:
    queue: DirectQueue
    views: int
    lane: Lane
    deadline: float | None

    def submit(self, pixels: Pixels) -> Future[Scored]:
        return self.queue.submit(pixels, self.views, self.lane, self.deadline)

    def release(self, images: int = 1) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _MapPlace:
    queue: DirectQueue
    views: int

    def submit(self, pixels: Pixels) -> Future[Map]:
        return self.queue.draw(pixels, self.views)

    def release(self) -> None:
        pass
