"""Judging images: the one way from a source to a detection, and the library's use of it.

Every image takes the same steps, whoever asks: it is decoded, looked up among known logits, scored
in the detector's queue, and its logits become a detection. The queue alone makes batches, and
isolates the image that fails.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, TypeVar, overload

import numpy as np

from d3.domain.coroutines import finished, start
from d3.domain.detections import Detection, Failure
from d3.domain.errors import (
    D3Error,
    DeadlineExceeded,
    DecodingInterrupted,
    DetectorFailed,
    ImageError,
    RequestInvalid,
    ScoreUndefined,
)
from d3.domain.images import DecodedImage, ImageSource
from d3.domain.panels import PanelRule, checked_panel
from d3.domain.ports.clock import Clock
from d3.domain.ports.history import CacheKey, ResultCache
from d3.domain.ports.images import ImageDecoder
from d3.domain.ports.queue import Lane, Scored, Slots
from d3.domain.ports.tracing import NULL_TRACER, TraceContext, Tracer, current, within
from d3.domain.services.lanes import LanePool
from d3.domain.services.model_host import ModelHost, Panel, refuse_forked
from d3.domain.services.questions import Question, device_seconds, release

T = TypeVar("T")
_LARGEST_BATCH = 256
_WINDOW = 3
"""Batches of :meth:`DetectionService.detect_many` in work: one decoded, one scored, one waiting."""


class Submit(Protocol):
    """Has work done on some thread."""

    def __call__(self, work: Callable[[], T], /) -> Future[T]:
        """The work's future; one that is cancelled before its turn costs nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Judged:
    """An image's detection and where the time went.

    Attributes:
        detection: the answer.
        cached: whether its logits were known already.
        decode_seconds: spent decoding.
        queue_seconds: spent waiting for the device.
        model_seconds: its share of the time on the device.
    """

    detection: Detection
    cached: bool
    decode_seconds: float
    queue_seconds: float
    model_seconds: float


@dataclass(slots=True)
class Job:
    """One image to be judged, and a slot for it in each queue that scores it.

    Attributes:
        question: what is asked.
        name: the image's display name.
        decode: gives its pixels; called on a thread of ``submit``.
        submit: runs the decoding.
        slots: what :meth:`Question.reserve` gave; each holds one for this image, which is used or
            released.
        lane: the slots'.
        deadline: on the monotonic clock, after which nobody waits; None for ever.
        trace: where the work lies; None if it is not traced.
    """

    question: Question
    name: str
    decode: Callable[[], DecodedImage]
    submit: Submit
    slots: Sequence[Slots | D3Error]
    lane: Lane
    deadline: float | None = None
    trace: TraceContext | None = None
    _unused: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self._unused = set(range(len(self.slots)))

    def use_slot(self, number: int, image: DecodedImage) -> Future[Scored]:
        """Have the image scored in a pass of the question.

        Raises:
            D3Error: there is no slot for it.
            KeyError: the slots were given back meanwhile, because the image has failed.
        """
        slots = self.slots[number]
        if isinstance(slots, D3Error):
            raise slots
        self._unused.remove(number)
        one = self.question.passes[number]
        pixels = self.question.pixels_of(one, image)
        if self.trace is None:
            return slots.submit(pixels, one.sha256_of(image.facts))
        with within(self.trace):
            return slots.submit(pixels, one.sha256_of(image.facts))

    def release(self) -> None:
        """Give back the slots that were not used."""
        while self._unused:
            with suppress(KeyError):  # another thread has just used it
                release([self.slots[self._unused.pop()]])


class SingleFlight:
    """Has each image scored once. Safe to call from many threads.

    An image that was scored before is looked up. Identical images in work are scored together: the
    later ones wait for the first one's logits, and if that fails or is cancelled, the next one is
    scored by itself.

    Args:
        cache: of raw logits; None for none.
    """

    def __init__(self, cache: ResultCache | None = None) -> None:
        self._cache = cache
        self._in_flight: dict[tuple[CacheKey, Lane], Future[Scored]] = {}
        self._lock = threading.Lock()

    async def score(
        self, key: CacheKey, lane: Lane, submit: Callable[[], Future[Scored]]
    ) -> Scored:
        """The raw logits (1, views) of an image.

        Args:
            key: what decides them.
            lane: who goes first.
            submit: has the image scored; not called if its logits are known or on their way.

        Raises:
            D3Error: what ``submit`` or its future raises.
        """
        known = self._cache.get(key) if self._cache is not None else None
        if known is not None:
            return Scored(np.array([known]), 0.0, known=True)
        while True:
            scoring, first = self._join(key, lane, submit)
            if first:
                return await finished(scoring)
            shared = await finished(_result_or_none(scoring))
            if shared is not None:
                return shared

    def _join(
        self, key: CacheKey, lane: Lane, submit: Callable[[], Future[Scored]]
    ) -> tuple[Future[Scored], bool]:
        """The scoring of this image that is in work, or a new one; and whether it is new.

        Nobody waits for a lane that has less right to the device than their own.
        """
        lanes = (lane,) if lane is Lane.INTERACTIVE else (Lane.INTERACTIVE, Lane.BULK)
        with self._lock:
            for one in lanes:
                scoring = self._in_flight.get((key, one))
                if scoring is not None and not scoring.done():
                    return scoring, False
            place = key, lane
            scoring = self._in_flight[place] = submit()
        scoring.add_done_callback(partial(self._finish, place))
        return scoring, True

    def _finish(self, place: tuple[CacheKey, Lane], scoring: Future[Scored]) -> None:
        """Remember the logits, also where the job that began this was cancelled meanwhile."""
        succeeded = not scoring.cancelled() and scoring.exception() is None
        if succeeded and self._cache is not None and not scoring.result().known:
            self._cache.put(place[0], scoring.result().logits[0].tolist())
        with self._lock:
            if self._in_flight.get(place) is scoring:
                del self._in_flight[place]


class ImageJudge:
    """Takes an image from its source to a detection. Safe to call from many threads.

    Args:
        clock: tells the time.
        flights: has each image scored once.
        tracer: is told how long decoding took.
    """

    def __init__(self, clock: Clock, flights: SingleFlight, tracer: Tracer = NULL_TRACER) -> None:
        self._clock = clock
        self._flights = flights
        self._tracer = tracer

    def alone(self) -> ImageJudge:
        """A judge that shares nothing with this one: the same file may give it other pixels."""
        return ImageJudge(self._clock, SingleFlight(), self._tracer)

    def judge(self, job: Job) -> Future[Judged]:
        """Judge one image; a future that is cancelled spares whatever has not begun.

        The future raises:
            D3Error: the image cannot be judged; see :mod:`d3.domain.errors`.
        """
        return start(self.judged(job))

    async def judged(self, job: Job) -> Judged:
        """The same, as a step of another coroutine."""
        try:
            image, decoding = await finished(job.submit(partial(self._decode, job)))
            scored = await self._scored_all(job, image)
            detection = job.question.answer(job.name, image.facts, scored, decoding)
        except D3Error:
            raise
        except Exception as error:
            raise DetectorFailed("This image could not be judged.", "Try again.") from error
        finally:
            job.release()
        passed = [one for one in scored if isinstance(one, Scored)]
        return Judged(
            detection,
            cached=all(one.known for one in passed),
            decode_seconds=decoding,
            queue_seconds=max(one.waited for one in passed),
            model_seconds=device_seconds(scored),
        )

    async def _scored_all(self, job: Job, image: DecodedImage) -> list[Scored | D3Error]:
        """What each pass gave; the chief's is there."""
        if len(job.slots) == 1:
            return [await self._scored(job, 0, image)]
        others = [start(self._scored(job, number, image)) for number in range(1, len(job.slots))]
        try:
            scored: list[Scored | D3Error] = [await self._scored(job, 0, image)]
            for one in others:
                try:
                    other = await finished(one)
                    scored.append(other)
                except D3Error as error:
                    scored.append(error)
        finally:
            for one in others:
                one.cancel()  # where it is not done, the image has failed
        return scored

    async def _scored(self, job: Job, number: int, image: DecodedImage) -> Scored:
        """The logits of one pass."""
        one = job.question.passes[number]
        submit = partial(job.use_slot, number, image)
        return await self._flights.score(one.key_of(image.facts), one.lane(job.lane), submit)

    def _decode(self, job: Job) -> tuple[DecodedImage, float]:
        begun = self._clock.monotonic()
        if job.deadline is not None and begun >= job.deadline:
            raise DeadlineExceeded(
                "The image could not be judged before the request's time limit.", "Try again."
            )
        if job.trace is None:
            return job.decode(), self._clock.monotonic() - begun
        error: str | None = None
        about: dict[str, str] = {}
        try:
            image = job.decode()
        except Exception as failure:
            code = getattr(failure, "code", type(failure).__name__)
            # A file that is no image is the caller's: what D3 did with it went well.
            if isinstance(failure, ImageError) and not isinstance(failure, DecodingInterrupted):
                about["error.type"] = code
            else:
                error = code
            raise
        finally:
            ended = self._clock.monotonic()
            self._tracer.record("d3.decode", begun, ended, job.trace, about, error=error)
        return image, ended - begun


def _result_or_none(source: Future[T]) -> Future[T | None]:
    """A future of one's own that ends with another's: with None where that one has no result."""
    copy: Future[T | None] = Future()

    def end(done: Future[T]) -> None:
        if copy.set_running_or_notify_cancel():
            failed = done.cancelled() or done.exception() is not None
            copy.set_result(None if failed else done.result())

    source.add_done_callback(end)
    return copy


class DetectionService:
    """Answers the one question for a library: was this image made or altered by a generator?

    Args:
        host: holds the model.
        decoder: of images.
        judge: takes each image through its steps.
        pool: where decoding runs.
        tracer: takes a span for each call.
    """

    def __init__(
        self,
        host: ModelHost,
        decoder: ImageDecoder,
        judge: ImageJudge,
        pool: LanePool,
        tracer: Tracer = NULL_TRACER,
    ) -> None:
        self._host = host
        self._decoder = decoder
        self._judge = judge
        self._pool = pool
        self._tracer = tracer

    def decoding_with(self, decoder: ImageDecoder) -> DetectionService:
        """The same with another decoder, whose images are scored apart from all others."""
        judge = self._judge.alone()
        return DetectionService(self._host, decoder, judge, self._pool, self._tracer)

    def detect(
        self,
        source: ImageSource,
        *,
        name: str | None = None,
        threshold: float | None = None,
        views: int = 1,
        panel: Sequence[str] | None = None,
        panel_rule: PanelRule | None = None,
        stability: bool = False,
    ) -> Detection:
        """Judge one image.

        Args:
            source: a path, encoded bytes, uint8 pixels (height, width, 3) or a PIL image.
            name: the display name; a path's own unless said.
            threshold: in [0, 1]; the model's own unless said.
            views: 1 to 16 permutations to average.
            panel: names of the models that judge, the chief's first; those of the settings unless
                said. They are loaded when they are first named.
            panel_rule: how their verdicts become one; the settings' unless said.
            stability: whether the chief also judges each change of the image, in the bulk lane.

        Raises:
            D3Error: see :mod:`d3.domain.errors`; never anything foreign.
        """
        names = None if panel is None else checked_panel(panel)
        with self._host.panel(names, load=True) as models, self._tracer.span("d3.detect"):
            question = Question.of(
                models, threshold=threshold, views=views, rule=panel_rule, stability=stability
            )
            name = _display_name(source) if name is None else name
            judged = self._begin(question, source, name, _at_once, Lane.INTERACTIVE)
            try:
                return judged.result().detection
            finally:
                judged.cancel()

    @overload
    def detect_many(
        self,
        sources: Iterable[ImageSource],
        *,
        names: Iterable[str] | None = None,
        threshold: float | None = None,
        views: int = 1,
        panel: Sequence[str] | None = None,
        panel_rule: PanelRule | None = None,
        stability: bool = False,
        batch_size: int = 32,
        errors: Literal["raise"] = "raise",
    ) -> Iterator[Detection]: ...
    @overload
    def detect_many(
        self,
        sources: Iterable[ImageSource],
        *,
        names: Iterable[str] | None = None,
        threshold: float | None = None,
        views: int = 1,
        panel: Sequence[str] | None = None,
        panel_rule: PanelRule | None = None,
        stability: bool = False,
        batch_size: int = 32,
        errors: Literal["return"],
    ) -> Iterator[Detection | Failure]: ...
    def detect_many(
        self,
        sources: Iterable[ImageSource],
        *,
        names: Iterable[str] | None = None,
        threshold: float | None = None,
        views: int = 1,
        panel: Sequence[str] | None = None,
        panel_rule: PanelRule | None = None,
        stability: bool = False,
        batch_size: int = 32,
        errors: Literal["raise", "return"] = "raise",
    ) -> Iterator[Detection | Failure]:
        """Judge images in order, reading ahead a bounded number of them.

        Args:
            sources: as for :meth:`detect`; any iterable, of any length.
            names: display names, one for each source.
            threshold: in [0, 1]; the model's own unless said.
            views: 1 to 16 permutations to average.
            panel: names of the models that judge, the chief's first; those of the settings unless
                said. They are loaded when they are first named.
            panel_rule: how their verdicts become one; the settings' unless said.
            stability: whether the chief also judges each change of the image, in the bulk lane.
            batch_size: images of one forward pass at most; it changes the speed, not the scores.
            errors: ``"raise"`` stops at the first bad image; ``"return"`` yields a
                :class:`Failure` in its place and goes on.

        Raises:
            D3Error: at once where the arguments or the model are at fault, else from the iterator.
        """
        if isinstance(sources, str | bytes | Path):
            raise RequestInvalid(
                "detect_many takes several images.", "Use detect, or put the image in a list."
            )
        if not isinstance(batch_size, int) or batch_size < 1:
            raise RequestInvalid(f"The batch size {batch_size} is not valid.", "Use 1 or more.")
        if errors not in ("raise", "return"):
            raise RequestInvalid(f"errors={errors!r} is not valid.", "Use 'raise' or 'return'.")
        ask = partial(
            Question.of, threshold=threshold, views=views, rule=panel_rule, stability=stability
        )
        asked = partial(
            self._host.panel, None if panel is None else checked_panel(panel), load=True
        )
        with asked() as models:  # so that what is at fault is said at once
            ask(models)
        sources = iter(sources)
        named = (
            zip(sources, names, strict=True)
            if names is not None
            else ((source, _display_name(source)) for source in sources)
        )
        return self._outcomes(asked, ask, named, batch_size, raising=errors == "raise")

    def _outcomes(
        self,
        asked: Callable[[], AbstractContextManager[Panel]],
        ask: Callable[[Panel], Question],
        named: Iterator[tuple[ImageSource, str]],
        batch_size: int,
        *,
        raising: bool,
    ) -> Iterator[Detection | Failure]:
        submit = partial(self._pool.submit, lane=Lane.BULK)
        begun: deque[tuple[str, Future[Judged]]] = deque()
        window = _WINDOW * min(batch_size, _LARGEST_BATCH)
        with asked() as models:
            # Not entered: between two results it would be the caller's current span.
            span = self._tracer.span("d3.detect_many")
            question = ask(models)
            try:
                more = True
                while more or begun:
                    refuse_forked()  # for results of the parent's threads one would wait for ever
                    while more and len(begun) < window:
                        source, name = next(named, (None, ""))
                        if more := source is not None:
                            judged = self._begin(
                                question,
                                source,
                                name,
                                submit,
                                Lane.BULK,
                                batch_size=batch_size,
                                trace=span.context,
                            )
                            begun.append((name, judged))
                    if begun:
                        yield _outcome(*begun.popleft(), raising=raising)
            finally:
                for _, judged in begun:
                    judged.cancel()
                span.end()

    def _begin(
        self,
        question: Question,
        source: ImageSource,
        name: str,
        submit: Submit,
        lane: Lane,
        *,
        batch_size: int | None = None,
        trace: TraceContext | None = None,
    ) -> Future[Judged]:
        slots = question.reserve(lane, batch_size=batch_size)
        decode = partial(question.decode, self._decoder, source)
        trace = trace or current.get()
        return self._judge.judge(Job(question, name, decode, submit, slots, lane, trace=trace))


def _outcome(name: str, judged: Future[Judged], *, raising: bool) -> Detection | Failure:
    try:
        return judged.result().detection
    except (ImageError, ScoreUndefined, DetectorFailed) as error:
        if raising:
            raise
        return Failure(name, error)


def _at_once(work: Callable[[], T], /) -> Future[T]:
    """Do the work on this thread."""
    future: Future[T] = Future()
    try:
        future.set_result(work())
    except Exception as error:  # noqa: BLE001  the future carries it
        future.set_exception(error)
    return future


def _display_name(source: ImageSource) -> str:
    return str(source) if isinstance(source, str | Path) else "image"
