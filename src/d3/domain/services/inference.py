"""Judging uploads for a service: nobody waits on a thread, and every result is kept.

An upload goes once through decoder, cache, queue and scoring; each step hands it on by a future's
callback. :class:`concurrent.futures.Future` is the whole of the machinery.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from d3.domain.detections import Detection
from d3.domain.errors import D3Error, DetectorFailed
from d3.domain.history import NewEntry, entry_of
from d3.domain.images import DecodedImage
from d3.domain.ports import Clock, ImageDecoder
from d3.domain.ports_history import CacheKey, ResultCache
from d3.domain.ports_queue import Scored
from d3.domain.services.hosting import ModelHost
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
        pool: Executor,
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

    def judge(
        self,
        uploads: Sequence[Upload],
        *,
        threshold: float | None = None,
        views: int = 1,
        user_id: int | None = None,
        request_id: str | None = None,
    ) -> Future[list[Judged | D3Error]]:
        """Judge uploads with one model, in order; a bad one leaves its error in its place.

        Args:
            uploads: one or more.
            threshold: in [0, 1]; the model's own unless said.
            views: 1 to 16.
            user_id: whose request this is.
            request_id: kept with each result.

        Raises:
            ModelNotLoaded: there is no model to ask.
            RequestInvalid: threshold or views make no sense.
        """
        lease = self._host.lease()
        try:
            question = ask_of(lease.model, threshold=threshold, views=views)
        except D3Error:
            lease.end()
            raise
        stamp = _Stamp(user_id, request_id, self._version)
        all_judged = _gathered([self._judge_one(upload, question, stamp) for upload in uploads])
        all_judged.add_done_callback(lambda _: lease.end())
        return all_judged

    def _judge_one(
        self, upload: Upload, question: Question, stamp: _Stamp
    ) -> Future[Judged | D3Error]:
        name = display_name(upload.name)
        outcome: Future[Judged | D3Error] = Future()
        size = question.model.manifest.spec.image_size

        def decode() -> tuple[DecodedImage, float]:
            begun = self._clock.monotonic()
            return self._decoder.decode(upload.data, size), self._clock.monotonic() - begun

        def look_up(image: DecodedImage, decoding: float) -> None:
            key = _cache_key(question, image)
            known = self._cache.get(key) if self._cache is not None else None
            if known is not None:
                finish(image, decoding, Scored(np.array([known]), 0.0), cached=True)
                return

            def keep(scored: Scored) -> None:
                if self._cache is not None:
                    self._cache.put(key, scored.logits[0].tolist())
                finish(image, decoding, scored, cached=False)

            waiting = question.model.queue.submit(image.pixels[None], question.views)
            _then(waiting, keep, outcome)

        def finish(image: DecodedImage, decoding: float, scored: Scored, *, cached: bool) -> None:
            logits = scored.logits[0].tolist()
            detection = answer(question, name, image.facts, logits, decoding + scored.seconds)
            entry = stamp.entry(detection, question, self._clock.now(), cached=cached)
            spent = (decoding, scored.waited, scored.seconds)
            outcome.set_result(Judged(detection, entry, cached, *spent))

        _then(self._pool.submit(decode), lambda decoded: look_up(*decoded), outcome)
        return outcome


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What a request leaves on each of its results."""

    user_id: int | None
    request_id: str | None
    version: str

    def entry(
        self, detection: Detection, question: Question, now: float, *, cached: bool
    ) -> NewEntry:
        manifest = question.model.manifest
        return entry_of(
            detection,
            created_at=datetime.fromtimestamp(now, UTC),
            calibration=manifest.calibration,
            abstain_band=manifest.abstain_band,
            d3_version=self.version,
            cached=cached,
            user_id=self.user_id,
            request_id=self.request_id,
        )


def _cache_key(question: Question, image: DecodedImage) -> CacheKey:
    detector = question.model.queue.detector
    return CacheKey(
        image_sha256=image.facts.sha256,
        model_sha256=question.model.manifest.sha256,
        views=question.views,
        engine=detector.engine,
        precision=detector.precision,
    )


def _then(
    step: Future[Any], action: Callable[[Any], None], outcome: Future[Judged | D3Error]
) -> None:
    """When the step is done, take the action on its result, or end with its error."""

    def done(finished: Future[Any]) -> None:
        try:
            action(finished.result())
        except D3Error as error:
            outcome.set_result(error)
        except BaseException as error:  # noqa: BLE001  nobody else would hear of it
            failure = DetectorFailed("This image could not be judged.", "Try again.")
            failure.__cause__ = error
            outcome.set_result(failure)

    step.add_done_callback(done)


def _gathered(futures: Sequence[Future[Judged | D3Error]]) -> Future[list[Judged | D3Error]]:
    """One future for the results of all, in order; they never raise."""
    gathered: Future[list[Judged | D3Error]] = Future()
    gathered.set_running_or_notify_cancel()  # who stops waiting does not stop the work
    if len(futures) == 1:
        futures[0].add_done_callback(lambda one: gathered.set_result([one.result()]))
        return gathered
    done = itertools.count(1)  # counting is atomic

    def one_more(_: Future[Judged | D3Error]) -> None:
        if next(done) == len(futures):
            gathered.set_result([future.result() for future in futures])

    for future in futures:
        future.add_done_callback(one_more)
    return gathered
