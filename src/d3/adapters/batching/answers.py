"""Carrying answers to those who wait, on a thread of its own, all of a forward pass together."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from d3.adapters.batching.backlog import Batch, Part, Submission
from d3.domain.errors import D3Error, DeadlineExceeded, DetectorFailed, DeviceOutOfMemory
from d3.domain.heatmaps import Map
from d3.domain.images import Pixels
from d3.domain.ports.detector import Explainer, Logits
from d3.domain.ports.queue import Scored

_LOG = logging.getLogger(__name__)
_PASSES_AHEAD = 4


@dataclass(eq=False, slots=True)
class Asked:
    """An entry's pixels, and what is known of its answer.

    Attributes:
        pixels: uint8 (n, S, S, 3).
        future: finished here alone.
    """

    pixels: Pixels
    future: Future[Scored] = field(default_factory=Future)
    _logits: Logits | None = None
    _missing: int = 0
    _seconds: float = 0.0
    _waited: float = 0.0

    def add(self, part: Part, logits: Logits, seconds: float, waited: float) -> None:
        """A part of the answer, with each image's seconds; the last one finishes it."""
        count = len(self.pixels)
        if self.future.done():
            return  # another part failed
        if self._logits is None:
            if part.images == count:
                self.future.set_result(Scored(logits, seconds, waited))
                return
            self._logits = np.empty((count, logits.shape[1]))
            self._missing, self._waited = count, waited
        self._logits[part.start : part.stop] = logits
        self._missing -= part.images
        self._seconds += seconds * part.images
        if not self._missing:
            self.future.set_result(Scored(self._logits, self._seconds / count, self._waited))


@dataclass(eq=False, slots=True)
class AskedMap:
    """An image whose heat map is drawn part by part.

    Its future waits until the last part is there, and may be cancelled until then.

    Attributes:
        pixels: uint8 (S, S, 3).
        parts: of the map.
        future: finished here alone.
    """

    pixels: Pixels
    parts: int
    future: Future[Map] = field(default_factory=Future)
    _done: dict[int, Map] = field(default_factory=dict)
    _missing: int = field(init=False)

    def __post_init__(self) -> None:
        self._missing = self.parts

    def is_wanted(self) -> bool:
        """Whether anybody waits for it."""
        return not self.future.cancelled()

    def add(self, part: Part, logits: Map, explainer: Explainer) -> None:
        """Logits of some windows; the last ones finish the map."""
        self._done[part.start] = logits
        self._missing -= part.images
        if not self._missing and not self.future.done():
            whole = np.concatenate([self._done[start] for start in sorted(self._done)])
            if self.future.set_running_or_notify_cancel():
                self.future.set_result(explainer.heat(whole))


class Answers:
    """Finishes futures in the order of the passes; a few passes may be ahead of it."""

    def __init__(self) -> None:
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(_PASSES_AHEAD)
        self._thread = threading.Thread(target=self._run, name="d3-answers", daemon=True)
        self._thread.start()

    @property
    def is_mine(self) -> bool:
        """Whether the caller is this thread."""
        return threading.current_thread() is self._thread

    def scored(self, one: Batch, logits: Logits, seconds: float, began: float) -> None:
        """A pass ended well."""
        self._jobs.put(lambda: _hand_out(one, logits, seconds, began))

    def drawn(self, one: Batch, logits: list[Map], explainer: Explainer) -> None:
        """A pass drew parts of a heat map."""

        def hand_out() -> None:
            for part, some in zip(one.parts, logits, strict=True):
                part.entry.token.add(part, some, explainer)

        self._jobs.put(hand_out)

    def expired(self, entries: list[Submission]) -> None:
        """Their time was over."""
        self._jobs.put(
            lambda: _refuse(
                entries,
                lambda: DeadlineExceeded(
                    "The image could not be judged before the request's time limit.",
                    "Try again in a moment.",
                ),
            )
        )

    def failed(self, entry: Submission, error: BaseException) -> None:
        """Its image, tried alone, was too much for the detector."""
        self._jobs.put(lambda: _refuse([entry], lambda: _ours(error)))

    def end(self) -> None:
        """Nothing more will come."""
        self._jobs.put(None)

    def join(self) -> None:
        """Wait until all is handed out, after :meth:`end`."""
        self._thread.join()

    def _run(self) -> None:
        while self._do_next():
            pass

    def _do_next(self) -> bool:
        # A frame of its own: held until the next job, this one would keep pixels alive.
        job = self._jobs.get()
        if job is None:
            return False
        try:
            job()
        except Exception:  # noqa: BLE001  the next ones wait
            _LOG.exception("an answer could not be delivered")
        return True


def _hand_out(one: Batch, logits: Logits, seconds: float, began: float) -> None:
    start, each = 0, seconds / one.images
    for part in one.parts:
        end = start + part.images
        part.entry.token.add(part, logits[start:end], each, began - part.entry.since)
        start = end


def _refuse(entries: list[Submission], error: Callable[[], Exception]) -> None:
    for entry in entries:
        future = entry.token.future
        if not future.done() and (entry.claimed or future.set_running_or_notify_cancel()):
            future.set_exception(error())


def _ours(error: BaseException) -> Exception:
    if isinstance(error, D3Error):
        return error
    failure: D3Error = DetectorFailed("The detector failed on this image.", "Try again.")
    if isinstance(error, MemoryError):
        failure = DeviceOutOfMemory(
            "There is not enough memory to judge this image.", "Try again later."
        )
    failure.__cause__ = error
    return failure
