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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, TypeVar, overload

import numpy as np

from d3.domain.coroutines import finished, start
from d3.domain.detections import Detection, Failure
from d3.domain.errors import (
    D3Error,
    DeadlineExceeded,
    DetectorFailed,
    ImageError,
    RequestInvalid,
    ScoreUndefined,
)
from d3.domain.images import DecodedImage, ImageFacts, ImageSource
from d3.domain.machine import libraries_of
from d3.domain.ports.clock import Clock
from d3.domain.ports.history import CacheKey, ResultCache
from d3.domain.ports.images import ImageDecoder
from d3.domain.ports.queue import Lane, Scored, Slots
from d3.domain.scoring import assess, checked_threshold, checked_views
from d3.domain.services.lanes import LanePool
from d3.domain.services.model_host import LoadedModel, ModelHost

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
class Question:
    """What is asked, and of which model.

    Attributes:
        model: the one that answers.
        threshold: in [0, 1].
        views: 1 to 16.
    """

    model: LoadedModel
    threshold: float
    views: int

    @classmethod
    def of(cls, model: LoadedModel, *, threshold: float | None, views: int) -> Question:
        """Check what is asked of a model.

        Args:
            model: the one that answers.
            threshold: in [0, 1]; the model's own unless said.
            views: 1 to 16.

        Raises:
            ThresholdInvalid: the threshold is not a number in [0, 1].
            ViewsInvalid: the model cannot give that many views.
        """
        manifest = model.manifest
        return cls(
            model,
            manifest.threshold if threshold is None else checked_threshold(threshold),
            checked_views(views, manifest.views),
        )

    @property
    def image_size(self) -> int:
        """The side of the pixels that the model takes."""
        return self.model.manifest.input_spec.size

    def reserve(
        self,
        lane: Lane,
        images: int = 1,
        file_bytes: int = 0,
        deadline: float | None = None,
        *,
        batch_size: int | None = None,
    ) -> Slots:
        """Take slots in the model's queue; see :meth:`DetectionQueue.reserve`.

        Args:
            lane: who goes first.
            images: 1 or more; each counts with its pixels.
            file_bytes: of the images' files, where they are kept in memory too.
            deadline: on the monotonic clock, after which nobody waits for them.
            batch_size: images of one forward pass at most.
        """
        size_bytes = file_bytes + images * 3 * self.image_size**2
        return self.model.queue.reserve(
            images, size_bytes, self.views, lane, deadline, batch_size=batch_size
        )

    def key_of(self, image: DecodedImage) -> CacheKey:
        """What decides the logits of an image."""
        detector = self.model.queue.detector
        return CacheKey(
            image_sha256=image.facts.sha256,
            model_sha256=self.model.reference.sha256,
            views=self.views,
            engine=detector.engine,
            precision=detector.precision,
        )

    def answer(
        self, name: str, facts: ImageFacts, logits: Sequence[float], seconds: float
    ) -> Detection:
        """The detection that follows from an image's raw logits, one per view.

        Args:
            name: the image's display name.
            facts: of the original.
            logits: raw, one per view.
            seconds: the image's processing time.

        Raises:
            ScoreUndefined: a logit is no finite number.
        """
        manifest, detector = self.model.manifest, self.model.queue.detector
        score = assess(
            logits,
            threshold=self.threshold,
            calibration=manifest.calibration,
            abstain_band=manifest.abstain_band,
            lack=facts.lack,
        )
        return Detection.of(
            score,
            name=name,
            views=self.views,
            image=facts,
            model=self.model.reference,
            engine=detector.engine,
            precision=detector.precision,
            processing_time=seconds,
            logits=logits,
            device=detector.device,
            libraries=libraries_of(detector.engine),
            calibration=manifest.calibration,
            abstain_band=manifest.abstain_band,
            notice=manifest.notice,
        )


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
    """One image to be judged, and a slot in the queue for it.

    Attributes:
        question: what is asked.
        name: the image's display name.
        decode: gives its pixels; called on a thread of ``submit``.
        submit: runs the decoding.
        slots: hold one for this image, which is used or released.
        lane: the slots'.
        deadline: on the monotonic clock, after which nobody waits; None for ever.
    """

    question: Question
    name: str
    decode: Callable[[], DecodedImage]
    submit: Submit
    slots: Slots
    lane: Lane
    deadline: float | None = None
    holds_slot: bool = True

    def use_slot(self, image: DecodedImage) -> Future[Scored]:
        """Have the image scored."""
        self.holds_slot = False
        return self.slots.submit(image.pixels[None], image.facts.sha256)


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
    """

    def __init__(self, clock: Clock, flights: SingleFlight) -> None:
        self._clock = clock
        self._flights = flights

    def alone(self) -> ImageJudge:
        """A judge that shares nothing with this one: the same file may give it other pixels."""
        return ImageJudge(self._clock, SingleFlight())

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
            key = job.question.key_of(image)
            scored = await self._flights.score(key, job.lane, partial(job.use_slot, image))
            logits, seconds = scored.logits[0].tolist(), decoding + scored.seconds
            detection = job.question.answer(job.name, image.facts, logits, seconds)
        except D3Error:
            raise
        except Exception as error:
            raise DetectorFailed("This image could not be judged.", "Try again.") from error
        finally:
            if job.holds_slot:
                job.slots.release()
        return Judged(detection, scored.known, decoding, scored.waited, scored.seconds)

    def _decode(self, job: Job) -> tuple[DecodedImage, float]:
        begun = self._clock.monotonic()
        if job.deadline is not None and begun >= job.deadline:
            raise DeadlineExceeded(
                "The image could not be judged before the request's time limit.", "Try again."
            )
        return job.decode(), self._clock.monotonic() - begun


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
    """

    def __init__(
        self, host: ModelHost, decoder: ImageDecoder, judge: ImageJudge, pool: LanePool
    ) -> None:
        self._host = host
        self._decoder = decoder
        self._judge = judge
        self._pool = pool

    def decoding_with(self, decoder: ImageDecoder) -> DetectionService:
        """The same with another decoder, whose images are scored apart from all others."""
        return DetectionService(self._host, decoder, self._judge.alone(), self._pool)

    def detect(
        self,
        source: ImageSource,
        *,
        name: str | None = None,
        threshold: float | None = None,
        views: int = 1,
    ) -> Detection:
        """Judge one image.

        Args:
            source: a path, encoded bytes, uint8 pixels (height, width, 3) or a PIL image.
            name: the display name; a path's own unless said.
            threshold: in [0, 1]; the model's own unless said.
            views: 1 to 16 permutations to average.

        Raises:
            D3Error: see :mod:`d3.domain.errors`; never anything foreign.
        """
        with self._host.using() as model:
            question = Question.of(model, threshold=threshold, views=views)
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
        batch_size: int = 32,
        errors: Literal["raise", "return"] = "raise",
    ) -> Iterator[Detection | Failure]:
        """Judge images in order, reading ahead a bounded number of them.

        Args:
            sources: as for :meth:`detect`; any iterable, of any length.
            names: display names, one for each source.
            threshold: in [0, 1]; the model's own unless said.
            views: 1 to 16 permutations to average.
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
        with self._host.using() as model:  # so that what is at fault is said at once
            Question.of(model, threshold=threshold, views=views)
        sources = iter(sources)
        named = (
            zip(sources, names, strict=True)
            if names is not None
            else ((source, _display_name(source)) for source in sources)
        )
        ask = partial(Question.of, threshold=threshold, views=views)
        return self._outcomes(ask, named, batch_size, raising=errors == "raise")

    def _outcomes(
        self,
        ask: Callable[[LoadedModel], Question],
        named: Iterator[tuple[ImageSource, str]],
        batch_size: int,
        *,
        raising: bool,
    ) -> Iterator[Detection | Failure]:
        submit = partial(self._pool.submit, lane=Lane.BULK)
        begun: deque[tuple[str, Future[Judged]]] = deque()
        window = _WINDOW * min(batch_size, _LARGEST_BATCH)
        with self._host.using() as model:
            question = ask(model)
            try:
                more = True
                while more or begun:
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
                            )
                            begun.append((name, judged))
                    if begun:
                        yield _outcome(*begun.popleft(), raising=raising)
            finally:
                for _, judged in begun:
                    judged.cancel()

    def _begin(
        self,
        question: Question,
        source: ImageSource,
        name: str,
        submit: Submit,
        lane: Lane,
        *,
        batch_size: int | None = None,
    ) -> Future[Judged]:
        slots = question.reserve(lane, batch_size=batch_size)
        decode = partial(self._decoder.decode, source, question.image_size)
        return self._judge.judge(Job(question, name, decode, submit, slots, lane))


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
