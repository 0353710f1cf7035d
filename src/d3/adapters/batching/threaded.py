"""A queue in front of a detector that one thread owns. :class:`Policy` decides what runs next.

The thread starts the next forward pass while :class:`Answers` delivers the results of the last one,
so the callers' work with them costs the device no time. Results are handed over only when the next
pass is about to begin, because delivering them needs the interpreter lock.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np

from d3.adapters.batching.answers import Answers, Asked, AskedMap
from d3.adapters.batching.backlog import (
    Batch,
    NullEvents,
    ReservedMapSlots,
    ReservedSlots,
    SlotRequest,
    Submission,
)
from d3.adapters.batching.policy import Bounds, Policy
from d3.adapters.batching.spans import trace_late, trace_lost, trace_pass
from d3.adapters.batching.turns import Turns
from d3.domain.backoff import pause_after
from d3.domain.errors import DeviceOutOfMemory, ModelNotLoaded, Overloaded
from d3.domain.heatmaps import Map
from d3.domain.images import Pixels
from d3.domain.ports.clock import Clock
from d3.domain.ports.detector import Detector, EarlyStarter, Explainer, Logits
from d3.domain.ports.queue import Delay, Lane, QueueEvents, Scored, Waiting
from d3.domain.ports.tracing import NULL_TRACER, Tracer, current

_LOG = logging.getLogger(__name__)
_PROBE_SECONDS = 5.0
_WARM_UP_SECONDS = 2.0
_SETTLE_SECONDS = 60.0
_LONGEST_PAUSE = 30.0

_open: weakref.WeakSet[ThreadedQueue] = weakref.WeakSet()
os.register_at_fork(after_in_child=_open.clear)  # the threads of those are the parent's


@atexit.register
def _close_all() -> None:
    """A process that ends beside a forward pass would be aborted."""
    for queue in list(_open):
        queue.close()


@dataclass(frozen=True, slots=True)
class _Started:
    """A pass that was begun.

    Attributes:
        batch: what it scores.
        began: when.
        finish: waits for its end; gives the delivery of its results, which takes its seconds.
        early: whether another pass may be begun before its end.
    """

    batch: Batch
    began: float
    finish: Callable[[], Callable[[float], None]]
    early: bool = False


class ThreadedQueue:
    """Implements ``DetectionQueue``.

    Args:
        detector: used by the queue's thread only.
        clock: for durations and deadlines.
        bounds: limits of what waits and of a forward pass.
        events: gets the queue's events; None for nothing.
        tracer: is told how long images waited and how long their passes took.

    Attributes:
        turns: of detectors whose passes must not run at the same time; its own alone at first.
    """

    def __init__(
        self,
        detector: Detector,
        clock: Clock,
        bounds: Bounds = Bounds(),
        events: QueueEvents | None = None,
        tracer: Tracer = NULL_TRACER,
    ) -> None:
        self._detector = detector
        self._tracer = tracer
        self.turns = Turns()
        self._clock = clock
        self._bounds = bounds
        self._policy = Policy(bounds)
        self._events: QueueEvents = events or NullEvents()
        self._answers = Answers()
        self._changed = threading.Condition()
        self._closed = False
        self._trouble: str | None = None
        self._deaths = 0
        self._shape: tuple[int, ...] | None = None
        self._finished: Callable[[], None] | None = None
        self._on_device: _Started | None = None
        self._free_at = 0.0
        self._owner = self._new_owner()
        _open.add(self)

    @property
    def detector(self) -> Detector:
        """The one it owns."""
        return self._detector

    @property
    def trouble(self) -> str | None:
        """Set when the thread has died, until a forward pass succeeds again."""
        return self._trouble

    def waiting(self, lane: Lane) -> Waiting:
        """What waits in a lane."""
        with self._changed:
            line, now = self._policy.lines[lane], self._clock.monotonic()
            return Waiting(
                line.images + line.promised_images,
                line.size_bytes + line.promised_bytes,
                now - line.head.since if line.head is not None else 0.0,
            )

    def delay(self, lane: Lane) -> Delay:
        """How long one more image would take."""
        with self._changed:
            return self._policy.delay(lane, self._clock.monotonic())

    def reserve(
        self,
        images: int,
        size_bytes: int,
        views: int,
        lane: Lane = Lane.INTERACTIVE,
        deadline: float | None = None,
        *,
        batch_size: int | None = None,
        admitted: bool = False,
    ) -> ReservedSlots:
        want = SlotRequest(
            images, size_bytes, views, lane, deadline, batch_size=batch_size, admitted=admitted
        )
        self._promise(want)
        return ReservedSlots(want, self._enter, self._release_slots)

    def reserve_map(self, views: int, deadline: float | None = None) -> ReservedMapSlots:
        """Take slots for a heat map."""
        want = SlotRequest(self._explainer.parts, 0, views, Lane.BULK, deadline, apart=True)
        self._promise(want)
        return ReservedMapSlots(want, self._enter_map, self._release_slots)

    def submit(
        self,
        pixels: Pixels,
        views: int,
        lane: Lane = Lane.INTERACTIVE,
        deadline: float | None = None,
    ) -> Future[Scored]:
        """Ask for the logits of uint8 pixels (n, S, S, 3), n >= 1."""
        return self.reserve(len(pixels), pixels.nbytes, views, lane, deadline).submit(pixels)

    def warm_up(self, image_size: int) -> None:
        """Time passes of 1, 1, 2, 4 ... black images, for a second or two.

        Whoever asked meanwhile would wait for long: what is made for the passes takes the
        interpreter from those who serve.
        """
        black = np.zeros((self._bounds.batch_size, image_size, image_size, 3), np.uint8)
        self.submit(black[:1], 1).result()
        if isinstance(self._detector, EarlyStarter):
            self._detector.settle(_SETTLE_SECONDS)
        with self._changed:
            self._policy.forget_costs()  # the first pass also compiles and allocates memory
        images, spent = 1, 0.0
        while images <= len(black):
            try:
                last = images * self.submit(black[:images], 1).result().seconds
            except DeviceOutOfMemory:
                if images == 1:
                    raise
                return
            spent += last
            if spent + 2 * last > _WARM_UP_SECONDS and images > 1:
                return
            images *= 2

    def close(self) -> None:
        """Finish what was submitted, then close the detector; returns at once on its threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if not self._answers.is_mine and threading.current_thread() is not self._owner:
            self._answers.join()
        _open.discard(self)

    def _enter(self, pixels: Pixels, want: SlotRequest) -> Future[Scored]:
        """Submit pixels that have their slots."""
        asked = Asked(pixels)
        self._wait(want, asked, asked.future.set_running_or_notify_cancel)
        return asked.future

    def _enter_map(self, pixels: Pixels, want: SlotRequest) -> Future[Map]:
        """Have a heat map drawn, for which there are slots."""
        asked = AskedMap(pixels, want.images)
        self._wait(want, asked, asked.is_wanted)
        return asked.future

    def _promise(self, want: SlotRequest) -> None:
        with self._changed:
            if self._closed:
                raise ModelNotLoaded("The model has been unloaded.", "Load it again.")
            try:
                self._policy.reserve(want, self._clock.monotonic())
            except Overloaded:
                self._events.dropped(want.lane, "rejected", want.images)
                raise

    def _wait(self, want: SlotRequest, asked: Asked | AskedMap, claim: Callable[[], bool]) -> None:
        entry = Submission(
            images=want.images,
            views=want.views,
            lane=want.lane,
            size_bytes=want.size_bytes,
            deadline=want.deadline,
            since=self._clock.monotonic(),
            token=asked,
            apart=want.apart,
            batch_size=want.batch_size,
            claim=claim,
            trace=current.get() if self._tracer.enabled else None,
        )
        with self._changed:
            self._policy.enter(entry)
            self._changed.notify_all()
        # A weak reference: a cycle through the future would keep pixels until garbage collection.
        asked.future.add_done_callback(partial(self._leave, weakref.ref(entry)))

    def _release_slots(self, want: SlotRequest) -> None:
        with self._changed:
            self._policy.release(want)
            if want.lane is Lane.BULK:
                self._changed.notify_all()  # what lingers for it need not

    def _leave(self, left: weakref.ref[Submission], future: Future[Any]) -> None:
        if future.cancelled() and (entry := left()) is not None:
            with self._changed:
                self._policy.withdraw(entry)
            self._events.dropped(entry.lane, "cancelled", entry.images)

    def _new_owner(self) -> threading.Thread:
        owner = threading.Thread(target=self._own, name="d3-detector", daemon=True)
        owner.start()
        return owner

    def _own(self) -> None:
        try:
            if self._trouble is not None:
                self._probe()
            while (turn := self._next_turn()) is not None:
                self._take(*turn)
                # Kept until the next turn, it would keep pixels alive.
                del turn
            self._detector.close()
            self._answers.end()
        except BaseException as error:  # noqa: BLE001  whatever it was, somebody has to go on
            self._replace_owner(error)

    def _next_turn(self) -> tuple[Batch | None, list[Submission]] | None:
        """What to do next: a pass, or nothing for a probe or a delivery; None to stop."""
        with self._changed:
            while True:
                if self._policy.lonely:
                    if self._has_rest:
                        return None, []
                    self._linger()
                chosen, expired = self._policy.next(self._clock.monotonic())
                if chosen is not None or expired:
                    return chosen, expired
                if self._has_rest:
                    return None, []
                if self._closed:
                    return None
                if not self._changed.wait(_PROBE_SECONDS if self._trouble else None):
                    return None, []

    @property
    def _has_rest(self) -> bool:
        """Whether there is something to do that can be done while nothing waits."""
        return self._finished is not None or self._on_device is not None

    def _linger(self) -> None:
        """Wait a short time for images that are being decoded."""
        until = time.monotonic() + self._bounds.linger
        while self._policy.lonely and not self._closed:
            rest = until - time.monotonic()
            if rest <= 0 or not self._changed.wait(rest):
                return

    def _take(self, chosen: Batch | None, expired: list[Submission]) -> None:
        if expired:
            for entry in expired:
                self._events.dropped(entry.lane, "expired", entry.images)
            self._answers.expired(expired)
            trace_late(self._tracer, expired, self._clock.monotonic())
        if chosen is not None:
            turns = self.turns
            turns.wait(self._deliver)
            try:
                self._score(chosen)
            finally:
                turns.end()
        elif self._on_device is not None:
            before, self._on_device = self._on_device, None
            self._finish(before)
        elif self._finished is not None:
            self._deliver()
        elif self._trouble is not None:
            self._probe()

    def _score(self, chosen: Batch) -> None:
        """Run a pass; one that is on the device already ends meanwhile.

        While much waits, a pass is left on a device that can take two, and the next one is started
        beside it: what has to be done between two passes costs the device no time.
        """
        before, self._on_device = self._on_device, None
        try:
            started = self._draw(chosen) if chosen.apart else self._judge(chosen)
        except Exception as error:  # noqa: BLE001  who waits will hear it
            if before is not None:
                self._finish(before)
            self._fail(chosen, error)
            return
        if before is not None:
            self._finish(before)
            self._deliver()
        with self._changed:
            stays = started.early and self._policy.crowded
        if stays:
            self._on_device = started
        else:
            self._finish(started)

    def _finish(self, started: _Started) -> None:
        """Wait for the end of a pass."""
        try:
            finished = started.finish()
        except Exception as error:  # noqa: BLE001  who waits will hear it
            self._fail(started.batch, error)
            return
        now = self._clock.monotonic()
        seconds, self._free_at = now - max(started.began, self._free_at), now
        with self._changed:
            self._policy.done(seconds, now)
        self._trouble, self._deaths = None, 0
        self._finished = partial(finished, seconds)

    def _judge(self, chosen: Batch) -> _Started:
        """Begin to score images."""
        began = self._clock.monotonic()
        pieces = [part.entry.token.pixels[part.start : part.stop] for part in chosen.parts]
        pixels = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        self._shape = pixels.shape[1:]
        wait = None
        if isinstance(self._detector, EarlyStarter):
            wait = self._detector.start(pixels, chosen.views)
        if self._on_device is None:
            self._deliver()

        def finish() -> Callable[[float], None]:
            scored = wait() if wait is not None else self._detector.score(pixels, chosen.views)
            return partial(self._hand_over, chosen, self._checked(scored, chosen), began)

        return _Started(chosen, began, finish, early=wait is not None)

    def _hand_over(self, chosen: Batch, logits: Logits, began: float, seconds: float) -> None:
        self._events.scored(chosen.images, self._policy.fill(chosen), seconds)
        then = None
        if self._tracer.enabled:
            then = partial(trace_pass, self._tracer, chosen, began, seconds, self._detector.device)
        self._answers.scored(chosen, logits, seconds, began, then)

    def _draw(self, chosen: Batch) -> _Started:
        """Score windows of heat maps."""
        self._deliver()
        explainer = self._explainer

        def finish() -> Callable[[float], None]:
            logits = [
                explainer.explain_parts(
                    part.entry.token.pixels, chosen.views, part.start, part.stop
                )
                for part in chosen.parts
            ]
            return lambda _: self._answers.drawn(chosen, logits, explainer)

        return _Started(chosen, self._clock.monotonic(), finish)

    @property
    def _explainer(self) -> Explainer:
        return cast("Explainer", self._detector)

    def _deliver(self) -> None:
        """Deliver the results of the last pass."""
        finished, self._finished = self._finished, None
        if finished is not None:
            finished()

    @staticmethod
    def _checked(logits: Logits, chosen: Batch) -> Logits:
        """Logits of one model, or of several that are scored together: as many columns for each."""
        rows, columns = logits.shape
        if rows != chosen.images or not columns or columns % chosen.views:
            expected = (chosen.images, chosen.views)
            raise RuntimeError(f"the detector answered {logits.shape} instead of {expected}")
        return logits

    def _fail(self, broken: Batch, error: BaseException) -> None:
        """Split the failed pass in two; a failed pass of one image fails that image."""
        full = isinstance(error, DeviceOutOfMemory | MemoryError)
        with self._changed:
            lost = self._policy.failed(broken, out_of_memory=full)
        if full:
            self._events.out_of_memory()
        if lost is not None:
            self._events.dropped(lost.lane, "failed", lost.images)
            trace_lost(self._tracer, lost, error, self._clock.monotonic())
            self._answers.failed(lost, error)

    def _probe(self) -> None:
        """Score a black image to find out whether the detector works again."""
        if self._shape is None:
            return
        try:
            self._detector.score(np.zeros((1, *self._shape), np.uint8), 1)
        except Exception as error:  # noqa: BLE001  it stays in trouble
            _LOG.warning("the detector still does not respond: %r", error)
            return
        _LOG.warning("the detector responds again")
        self._trouble, self._deaths = None, 0

    def _replace_owner(self, error: BaseException) -> None:
        """Start a new thread: at once the first time, later after a growing pause."""
        _LOG.critical("the detector's thread died and was replaced", exc_info=error)
        self._trouble = f"its thread died ({type(error).__name__}); a new one has taken over"
        self._events.restarted()
        self._deliver()
        self._on_device = None
        for broken in tuple(self._policy.running):
            self._fail(broken, error)
        pause = pause_after(self._deaths, 0.2, _LONGEST_PAUSE)
        self._deaths += 1
        with self._changed:
            if pause:
                self._changed.wait_for(lambda: self._closed, pause)
            self._owner = self._new_owner()
