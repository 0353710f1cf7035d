"""Judges a scan's images ahead, and gives the outcomes in any order.

A slow image delays no other: as many are in flight as there is room for.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from d3.domain.detections import Detection
from d3.domain.errors import (
    D3Error,
    DecoderUnavailable,
    DetectorFailed,
    ImageError,
    ScoreUndefined,
    StorageFailed,
)
from d3.domain.images import DecodedImage
from d3.domain.ports.images import ImageDecoder
from d3.domain.ports.queue import Lane
from d3.domain.ports.scans import ImageCollection
from d3.domain.services.detection import ImageJudge, Job, Judged
from d3.domain.services.questions import Question

T = TypeVar("T")
Outcome = Detection | D3Error
_BATCHES_AHEAD = 4
_LARGEST_BATCH = 256
_FAILURES_IN_A_ROW = 20


class Pipeline(Generic[T]):
    """Takes keys, gives outcomes; one thread calls it, many work behind it.

    Args:
        isolated: decodes untrusted files; the same decoder unless given.
        threads: that read and decode.
        batch_size: images of one forward pass at most.
    """

    def __init__(
        self,
        question: Question,
        collection: ImageCollection,
        judge: ImageJudge,
        decoder: ImageDecoder,
        *,
        isolated: ImageDecoder | None = None,
        threads: int,
        batch_size: int,
    ) -> None:
        self._question = question
        self._collection = collection
        self._judge = judge
        self._decoder = decoder
        self._isolated = isolated or decoder
        self._batch_size = min(batch_size, _LARGEST_BATCH)
        self._capacity = threads + _BATCHES_AHEAD * self._batch_size
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="d3-scan")
        self._judged: SimpleQueue[tuple[T, str, Future[Judged]]] = SimpleQueue()
        self._failures = 0
        self.in_flight = 0

    @property
    def room(self) -> bool:
        """Whether another key may be put in."""
        return self.in_flight < self._capacity

    def put(self, key: T, uri: str, *, isolated: bool = False) -> None:
        """Read, decode and score the image."""
        question = self._question
        slots = question.reserve(Lane.BULK, batch_size=self._batch_size)
        decoder = self._isolated if isolated else self._decoder
        decode = partial(self._decode, uri, decoder)
        job = Job(question, uri, decode, self._pool.submit, slots, Lane.BULK)
        self.in_flight += 1
        self._judge.judge(job).add_done_callback(lambda done: self._judged.put((key, uri, done)))

    def take(self, seconds: float) -> list[tuple[T, str, Outcome]]:
        """The outcomes within this time: key, URI and detection or error.

        Raises:
            D3Error: the images can no longer be read, or a detector fails again and again.
        """
        outcomes: list[tuple[T, str, Outcome]] = []
        try:
            key, uri, judged = self._judged.get(timeout=seconds)
            while True:
                outcomes.append((key, uri, self._outcome(judged)))
                key, uri, judged = self._judged.get_nowait()
        except Empty:
            pass
        self.in_flight -= len(outcomes)
        return outcomes

    def close(self) -> None:
        """Cancel what has not begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _decode(self, uri: str, decoder: ImageDecoder) -> DecodedImage:
        return self._question.decode(decoder, self._collection.read(uri))

    def _outcome(self, judged: Future[Judged]) -> Outcome:
        try:
            detection = judged.result().detection
        except (StorageFailed, DecoderUnavailable):
            raise
        except (ImageError, ScoreUndefined) as error:
            return error
        except D3Error as error:
            self._count_failure(
                f"The detector failed for {{}} images in a row ({error.code}).", error
            )
            return error
        if detection.missing:
            silent = detection.missing[0]
            self._count_failure(
                f"{silent.model} gave no opinion on {{}} images in a row ({silent.code})."
            )
        else:
            self._failures = 0
        return detection

    def _count_failure(self, sentence: str, cause: D3Error | None = None) -> None:
        """Give up where it goes on and on: it is not the images' fault."""
        self._failures += 1
        if self._failures >= _FAILURES_IN_A_ROW:
            raise DetectorFailed(
                sentence.format(self._failures),
                "Run `d3 doctor`, then start the scan again. It continues from here.",
            ) from cause
