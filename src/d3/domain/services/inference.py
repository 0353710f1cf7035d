"""Judging uploads for a service: nobody waits on a thread, and every result is kept.

An upload goes once through decoder, cache, queue and scoring; each step hands it on by a future's
callback. Slots in the queue are reserved before anything is decoded, so what is too much is refused
before it costs anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from d3.domain.detections import Detection
from d3.domain.errors import D3Error, DeadlineExceeded, DetectorFailed
from d3.domain.history import NewEntry, entry_of
from d3.domain.images import DecodedImage
from d3.domain.ports.clock import Clock
from d3.domain.ports.history import CacheKey, ResultCache
from d3.domain.ports.images import ImageDecoder
from d3.domain.ports.queue import Lane, Scored, Slots
from d3.domain.services.lanes import LanePool
from d3.domain.services.model_host import Lease, ModelHost
from d3.domain.services.questions import Question, answer, ask_of
from d3.domain.text import display_name


@dataclass(frozen=True, slots=True)
class Upload:
    """An image as it was sent.

    Attributes:
        name: what the sender calls it; any text.
        data: the encoded file.
    """

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Judged:
    """An upload's detection and where the time went.

    Attributes:
        detection: the answer.
        entry: what the history is to keep of it.
        cached: whether its logits were known already.
        decode_seconds: spent decoding.
        queue_seconds: spent waiting for the device.
        model_seconds: its share of the time on the device.
    """

    detection: Detection
    entry: NewEntry
    cached: bool
    decode_seconds: float
    queue_seconds: float
    model_seconds: float


class InferenceService:
    """Judges uploads with the model in use.

    Args:
        host: holds the model.
        decoder: of images.
        pool: where decoding runs.
        cache: of raw logits; None for none.
        clock: tells the time.
        version: of D3, kept with each result.
    """

    def __init__(  # noqa: PLR0917  its parts, one by one
        self,
        host: ModelHost,
        decoder: ImageDecoder,
        pool: LanePool,
        cache: ResultCache | None,
        clock: Clock,
        version: str,
    ) -> None:
        self._host = host
        self._decoder = decoder
        self._pool = pool
        self._cache = cache
        self._clock = clock
        self._version = version

    def check_capacity(self, lane: Lane, within: float | None = None) -> None:
        """Ask whether an image would be let in, before its bytes are read.

        Raises:
            ModelNotLoaded: there is no model to ask.
            Overloaded: it would not.
        """
        lease = self._host.lease()
        try:
            lease.model.queue.reserve(1, 0, 1, lane, self._deadline(within)).release()
        finally:
            lease.end()

    def judge(
        self,
        uploads: Sequence[Upload],
        *,
        threshold: float | None = None,
        views: int = 1,
        user_id: int | None = None,
        request_id: str | None = None,
        lane: Lane = Lane.INTERACTIVE,
        within: float | None = None,
    ) -> Future[list[Judged | D3Error]]:
        """Judge uploads with one model, in order; a bad one leaves its error in its slot.

        A future that is cancelled spares whatever has not begun.

        Args:
            uploads: one or more.
            threshold: in [0, 1]; the model's own unless said.
            views: 1 to 16.
            user_id: whose request this is.
            request_id: kept with each result.
            lane: who goes first.
            within: seconds after which nobody waits; None for ever.

        Raises:
            ModelNotLoaded: there is no model to ask.
            Overloaded: too much waits already.
            RequestInvalid: threshold or views make no sense.
        """
        deadline = self._deadline(within)
        lease = self._host.lease()
        try:
            question = ask_of(lease.model, threshold=threshold, views=views)
            pixel_bytes = 3 * question.model.manifest.spec.image_size**2
            size_bytes = sum(len(upload.data) + pixel_bytes for upload in uploads)
            slots = lease.model.queue.reserve(
                len(uploads), size_bytes, question.views, lane, deadline
            )
        except D3Error:
            lease.end()
            raise
        asked = _Asked(question, slots, lane, deadline)
        stamp = _Stamp(user_id, request_id, self._version)
        return _gathered([self._judge_one(upload, asked, stamp) for upload in uploads], lease)

    def _deadline(self, within: float | None) -> float | None:
        return None if within is None else self._clock.monotonic() + within

    def _judge_one(self, upload: Upload, asked: _Asked, stamp: _Stamp) -> _Way:
        name = display_name(upload.name)
        way = _Way(asked.slots)
        question = asked.question
        size = question.model.manifest.spec.image_size

        def decode() -> tuple[DecodedImage, float]:
            begun = self._clock.monotonic()
            if asked.deadline is not None and begun >= asked.deadline:
                raise DeadlineExceeded(
                    "The image's turn did not come within the time a request has.", "Try again."
                )
            return self._decoder.decode(upload.data, size), self._clock.monotonic() - begun

        def look_up(decoded: tuple[DecodedImage, float]) -> None:
            image, decoding = decoded
            key = _cache_key(question, image)
            known = self._cache.get(key) if self._cache is not None else None
            if known is not None:
                finish(image, decoding, Scored(np.array([known]), 0.0), cached=True)
                return

            def keep(scored: Scored) -> None:
                if self._cache is not None:
                    self._cache.put(key, scored.logits[0].tolist())
                finish(image, decoding, scored, cached=False)

            way.go_on(way.submit(image), keep)

        def finish(image: DecodedImage, decoding: float, scored: Scored, *, cached: bool) -> None:
            logits = scored.logits[0].tolist()
            detection = answer(question, name, image.facts, logits, decoding + scored.seconds)
            entry = stamp.entry(detection, self._clock.now(), cached=cached)
            spent = (decoding, scored.waited, scored.seconds)
            way.end(Judged(detection, entry, cached, *spent))

        way.go_on(self._pool.submit(decode, asked.lane), look_up)
        return way


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question, and the slots in the queue that were reserved for its images."""

    question: Question
    slots: Slots
    lane: Lane
    deadline: float | None


class _Way:
    """One image's way, step by step; it ends exactly once, and its slot is used or given up."""

    def __init__(self, slots: Slots) -> None:
        self.outcome: Future[Judged | D3Error] = Future()
        self._places: Slots | None = slots
        self._step: Future[Any] | None = None
        self._abandoned = False

    def go_on(self, step: Future[Any], action: Callable[[Any], None]) -> None:
        """When the step is done, take the action on its result, or end with its error."""

        def done(finished: Future[Any]) -> None:
            try:
                action(finished.result())
            except D3Error as error:
                self.end(error)
            except CancelledError:
                self.end(DetectorFailed("NullEvents waited for this image any more.", "Try again."))
            except BaseException as error:  # noqa: BLE001  nobody else would hear of it
                failure = DetectorFailed("This image could not be judged.", "Try again.")
                failure.__cause__ = error
                self.end(failure)

        self._step = step
        step.add_done_callback(done)
        if self._abandoned:
            step.cancel()

    def submit(self, image: DecodedImage) -> Future[Scored]:
        """Use the slot."""
        if self._abandoned:
            raise CancelledError
        slots, self._places = self._places, None
        assert slots is not None
        return slots.submit(image.pixels[None])

    def end(self, outcome: Judged | D3Error) -> None:
        """Nothing more happens to this image."""
        if self._places is not None:
            self._places.release()
            self._places = None
        self.outcome.set_result(outcome)

    def abandon(self) -> None:
        """NullEvents waits; what has not begun is spared."""
        self._abandoned = True
        if self._step is not None:
            self._step.cancel()


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What a request leaves on each of its results."""

    user_id: int | None
    request_id: str | None
    version: str

    def entry(self, detection: Detection, now: datetime, *, cached: bool) -> NewEntry:
        return entry_of(
            detection,
            created_at=now,
            d3_version=self.version,
            cached=cached,
            user_id=self.user_id,
            request_id=self.request_id,
        )


def _cache_key(question: Question, image: DecodedImage) -> CacheKey:
    detector = question.model.queue.detector
    return CacheKey(
        image_sha256=image.facts.sha256,
        model_sha256=question.model.reference.sha256,
        views=question.views,
        engine=detector.engine,
        precision=detector.precision,
    )


def _gathered(ways: Sequence[_Way], lease: Lease) -> Future[list[Judged | D3Error]]:
    """One future for the outcomes of all, in order; the lease ends when all have ended."""
    gathered: Future[list[Judged | D3Error]] = Future()

    def abandon(future: Future[list[Judged | D3Error]]) -> None:
        if future.cancelled():
            for way in ways:
                way.abandon()

    def one_more(_: Future[Judged | D3Error]) -> None:
        if next(done) == len(ways):
            if gathered.set_running_or_notify_cancel():
                gathered.set_result([way.outcome.result() for way in ways])
            lease.end()

    done = itertools.count(1)  # counting is atomic
    gathered.add_done_callback(abandon)
    for way in ways:
        way.outcome.add_done_callback(one_more)
    return gathered
