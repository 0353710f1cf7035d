"""Delivery of results to the waiting futures, on its own thread, in the order of the passes."""

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
    """The pixels of a submission and the parts of its result.

    Attributes:
        pixels: uint8 (n, S, S, 3).
        future: finished here only.
    """

    pixels: Pixels
    future: Future[Scored] = field(default_factory=Future)
    _logits: Logits | None = None
    _missing: int = 0
    _seconds: float = 0.0
    _waited: float = 0.0

    def add(self, part: Part, logits: Logits, seconds: float, waited: float) -> None:
        """Add a part of the result; the last part finishes the future."""
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
    """An image whose heat map is drawn in parts.

    Its future can be cancelled until the last part is there.

    Attributes:
        pixels: uint8 (S, S, 3).
        parts: of the map.
        future: finished here only.
    """

    pixels: Pixels
    parts: int
    future: Future[Map] = field(default_factory=Future)
    _done: dict[int, Map] = field(default_factory=dict)
    _missing: int = field(init=False)

    def __post_init__(self) -> None:
        self._missing = self.parts

    def is_wanted(self) -> bool:
        """Whether the future is still waited for."""
        return not self.future.cancelled()

    def add(self, part: Part, logits: Map, explainer: Explainer) -> None:
        """Add the logits of some windows; the last ones finish the map."""
        self._done[part.start] = logits
        self._missing -= part.images
        if not self._missing and not self.future.done():
            whole = np.concatenate([self._done[start] for start in sorted(self._done)])
            if self.future.set_running_or_notify_cancel():
                self.future.set_result(explainer.heat(whole))


class Answers:
    """Finishes futures in the order of the passes. A few passes may run ahead of it."""

    def __init__(self) -> None:
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(_PASSES_AHEAD)
        self._thread = threading.Thread(target=self._run, name="d3-answers", daemon=True)
        self._thread.start()

    @property
    def is_mine(self) -> bool:
        """Whether the caller runs on this thread."""
        return threading.current_thread() is self._thread

    def scored(
        self,
        one: Batch,
        logits: Logits,
        seconds: float,
        began: float,
        then: Callable[[], None] | None = None,
    ) -> None:
        """Deliver the logits of a pass, then do something else, if it is given."""

        def hand_out() -> None:
            _hand_out(one, logits, seconds, began)
            if then is not None:
                then()

        self._jobs.put(hand_out)

    def drawn(self, one: Batch, logits: list[Map], explainer: Explainer) -> None:
        """Deliver parts of heat maps."""

        def hand_out() -> None:
            for part, some in zip(one.parts, logits, strict=True):
                part.entry.token.add(part, some, explainer)

        self._jobs.put(hand_out)

    def expired(self, entries: list[Submission]) -> None:
        """Deliver that the time of these submissions was over."""
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
        """Deliver that the detector failed on this submission's image."""
        self._jobs.put(lambda: _refuse([entry], lambda: _ours(error)))

    def end(self) -> None:
        """Stop when everything is delivered."""
        self._jobs.put(None)

    def join(self) -> None:
        """Wait until everything is delivered, after :meth:`end`."""
        self._thread.join()

    def _run(self) -> None:
        while self._do_next():
            pass

    def _do_next(self) -> bool:
        # In its own frame: a job kept until the next one would keep its pixels alive.
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
