"""A detector owned by one thread, which takes whatever waits: never idle on purpose, never alone.

On an idle queue a submission is scored at once; while the detector is busy the next ones gather and
share a forward pass. A batch that fails is tried again image by image, so that one fails alone.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from d3.domain.errors import D3Error, DetectorFailed, ModelNotLoaded
from d3.domain.images import Pixels
from d3.domain.ports import Clock, Detector, Scored


@dataclass(eq=False, slots=True)
class _Submission:
    pixels: Pixels
    views: int
    since: float
    future: Future[Scored] = field(default_factory=Future)


class ThreadedQueue:
    """Fills :class:`d3.domain.ports.DetectionQueue`.

    Args:
        detector: from now on only its thread touches it.
        clock: for timings.
        batch_size: images of one forward pass at most; a larger submission goes alone.
    """

    def __init__(self, detector: Detector, clock: Clock, batch_size: int = 32) -> None:
        self._detector = detector
        self._clock = clock
        self._batch_size = batch_size
        self._waiting: deque[_Submission] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._owner = threading.Thread(target=self._run, name="d3-detector", daemon=True)
        self._owner.start()

    @property
    def detector(self) -> Detector:
        """The one it owns."""
        return self._detector

    @property
    def depth(self) -> int:
        """Submissions that wait."""
        return len(self._waiting)

    def submit(self, pixels: Pixels, views: int) -> Future[Scored]:
        """Ask for the logits of uint8 pixels (n, S, S, 3), n >= 1."""
        submission = _Submission(pixels, views, self._clock.monotonic())
        with self._changed:
            if self._closed:
                raise ModelNotLoaded("The model has been unloaded.", "Load it again.")
            self._waiting.append(submission)
            self._changed.notify()
        return submission.future

    def close(self) -> None:
        """Finish what was submitted, then close the detector; returns at once on its own thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if threading.current_thread() is not self._owner:
            self._owner.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            self._score(batch)
            # Held until the next batch arrives, it would keep results and pixels alive.
            del batch
        self._detector.close()

    def _next_batch(self) -> list[_Submission]:
        """What waits for the same number of views, up to a batch; empty when all is over."""
        batch: list[_Submission] = []
        with self._changed:
            # Round again where everything that waited had been cancelled.
            while not batch:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    break
                batch = self._take()
        return batch

    def _take(self) -> list[_Submission]:
        """Take what goes together off the queue; whoever has stopped waiting is left out."""
        batch: list[_Submission] = []
        room = self._batch_size
        while self._waiting:
            first = self._waiting[0]
            if batch and (first.views != batch[0].views or len(first.pixels) > room):
                break
            self._waiting.popleft()
            if first.future.set_running_or_notify_cancel():
                batch.append(first)
                room -= len(first.pixels)
        return batch

    def _score(self, batch: list[_Submission]) -> None:
        begun = self._clock.monotonic()
        try:
            pixels = np.concatenate([one.pixels for one in batch])
            logits = self._detector.score(pixels, batch[0].views)
        except Exception as error:  # noqa: BLE001  the futures carry it to whoever waits
            if len(batch) > 1:
                for one in batch:
                    self._score([one])
            else:
                batch[0].future.set_exception(_ours(error))
            return
        seconds = (self._clock.monotonic() - begun) / len(pixels)
        start = 0
        for one in batch:
            end = start + len(one.pixels)
            one.future.set_result(Scored(logits[start:end], seconds, begun - one.since))
            start = end


def _ours(error: Exception) -> Exception:
    if isinstance(error, D3Error):
        return error
    failure = DetectorFailed("The detector broke down on this image.", "Try again.")
    failure.__cause__ = error
    return failure
