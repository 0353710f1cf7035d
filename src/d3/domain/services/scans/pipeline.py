"""Decoding ahead of the detector in threads, in whatever order the images come.

A slow image holds nobody up: the others go on around it, within the places there are.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

import numpy as np

from d3.domain.detections import Detection
from d3.domain.errors import D3Error, DetectorFailed, ImageError, ScoreUndefined
from d3.domain.images import DecodedImage
from d3.domain.ports.clock import Clock
from d3.domain.ports.images import ImageDecoder
from d3.domain.ports.queue import Lane, Scored
from d3.domain.ports.scans import ImageCollection
from d3.domain.services.questions import Question, answer

T = TypeVar("T")
_BATCHES_ASKED = 2
_BATCHES_AHEAD = 4
_LARGEST_BATCH = 256
_LINGER = 0.02
"""Seconds for another image to come, where a device without work would get less than a batch.

One that is faster than the decoders gains nothing from single images, and each costs three turns of
threads.
"""
_FAILURES_IN_A_ROW = 20


@dataclass(frozen=True, slots=True)
class _Decoded(Generic[T]):
    key: T
    uri: str
    image: DecodedImage | D3Error
    seconds: float


@dataclass(frozen=True, slots=True)
class _Answered(Generic[T]):
    group: list[_Decoded[T]]
    future: Future[Scored]


class Pipeline(Generic[T]):
    """Takes keys, gives outcomes; one thread calls it, many work behind it.

    Args:
        question: what is asked, of which model.
        collection: opens URIs.
        decoder: of what it gives.
        clock: for timings.
        isolated: decodes what is not trusted; as the other one does unless given.
        threads: that read and decode.
        batch_size: images of one forward pass at most.
    """

    def __init__(
        self,
        question: Question,
        collection: ImageCollection,
        decoder: ImageDecoder,
        clock: Clock,
        *,
        isolated: ImageDecoder | None = None,
        threads: int,
        batch_size: int,
    ) -> None:
        self._question = question
        self._collection = collection
        self._decoder = decoder
        self._isolated = isolated or decoder
        self._clock = clock
        self._batch_size = min(batch_size, _LARGEST_BATCH)
        self._places = threads + _BATCHES_AHEAD * self._batch_size
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="d3-scan")
        self._events: SimpleQueue[Future[_Decoded[T]] | _Answered[T]] = SimpleQueue()
        self._ready: list[_Decoded[T]] = []
        self._asked = 0
        self._failures = 0
        self.in_flight = 0

    @property
    def room(self) -> bool:
        """Whether another key may come in."""
        return self.in_flight < self._places

    def put(self, key: T, uri: str, *, isolated: bool = False) -> None:
        """Have the image read, decoded and scored."""
        self.in_flight += 1
        decoder = self._isolated if isolated else self._decoder
        self._pool.submit(self._read, key, uri, decoder).add_done_callback(self._events.put)

    def take(self, seconds: float) -> list[tuple[T, str, Detection | D3Error]]:
        """The outcomes there are, or come within this time: the key, its URI and what became of it.

        Raises:
            D3Error: the images can no longer be read, or the detector fails again and again.
        """
        outcomes: list[tuple[T, str, Detection | D3Error]] = []
        lingers, came = bool(self._ready) and not self._asked, False
        try:
            event = self._events.get(timeout=min(seconds, _LINGER) if lingers else seconds)
            while True:
                came = True
                if isinstance(event, _Answered):
                    self._asked -= 1
                    outcomes += self._answers(event)
                else:
                    decoded = event.result()
                    if isinstance(decoded.image, D3Error):
                        outcomes.append((decoded.key, decoded.uri, decoded.image))
                    else:
                        self._ready.append(decoded)
                        self._ask(self._batch_size)
                event = self._events.get_nowait()
        except Empty:
            pass
        self.in_flight -= len(outcomes)
        if not self._asked and (not came or len(self._ready) == self.in_flight):
            self._ask(1)  # the device has nothing to do, and a whole batch is not about to come
        return outcomes

    def close(self) -> None:
        """Give up what has not been begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _read(self, key: T, uri: str, decoder: ImageDecoder) -> _Decoded[T]:
        begun = self._clock.monotonic()
        image: DecodedImage | D3Error
        try:
            size = self._question.model.manifest.spec.image_size
            image = decoder.decode(self._collection.read(uri), size)
        except ImageError as error:
            image = error
        return _Decoded(key, uri, image, self._clock.monotonic() - begun)

    def _ask(self, least: int) -> None:
        while len(self._ready) >= least and self._ready and self._asked < _BATCHES_ASKED:
            group = self._ready[: self._batch_size]
            del self._ready[: self._batch_size]
            self._submit(group)

    def _submit(self, group: list[_Decoded[T]]) -> None:
        pixels = [one.image.pixels for one in group if isinstance(one.image, DecodedImage)]
        queue = self._question.model.queue
        future = queue.submit(np.stack(pixels), self._question.views, Lane.BULK)
        self._asked += 1
        future.add_done_callback(lambda done: self._events.put(_Answered(group, done)))

    def _answers(self, event: _Answered[T]) -> list[tuple[T, str, Detection | D3Error]]:
        try:
            scored = event.future.result()
        except D3Error as error:
            return self._failed(event.group, error)
        self._failures = 0
        outcomes: list[tuple[T, str, Detection | D3Error]] = []
        for one, logits in zip(event.group, scored.logits.tolist(), strict=True):
            assert isinstance(one.image, DecodedImage)
            outcome: Detection | D3Error
            seconds = one.seconds + scored.seconds
            try:
                outcome = answer(self._question, one.uri, one.image.facts, logits, seconds)
            except ScoreUndefined as error:
                outcome = error
            outcomes.append((one.key, one.uri, outcome))
        self._ask(self._batch_size)
        return outcomes

    def _failed(
        self, group: list[_Decoded[T]], error: D3Error
    ) -> list[tuple[T, str, Detection | D3Error]]:
        """Ask again for each image alone, so that a bad one fails alone."""
        if len(group) > 1:
            for one in group:
                self._submit([one])
            return []
        self._failures += 1
        if self._failures >= _FAILURES_IN_A_ROW:
            raise DetectorFailed(
                f"The detector failed for {self._failures} images in a row ({error.code}).",
                "Run `d3 doctor`; the scan goes on from here when it is started again.",
            ) from error
        return [(group[0].key, group[0].uri, error)]
