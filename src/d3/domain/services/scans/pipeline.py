"""The pipeline of a scan: one question about the images of one collection."""

from __future__ import annotations

from functools import partial
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
from d3.domain.formats import named_as_clip
from d3.domain.ports.scans import ImageCollection
from d3.domain.services.detection import Judged
from d3.domain.services.pipeline import Pipeline
from d3.domain.services.questions import Question

T = TypeVar("T")
Outcome = Detection | D3Error
_FAILURES_IN_A_ROW = 20


class ScanPipeline(Generic[T]):
    """Takes keys, gives outcomes, and gives up where something is wrong with more than an image.

    Args:
        pipeline: judges the images.
        question: what is asked of them.
        collection: reads them.
    """

    def __init__(
        self, pipeline: Pipeline[T, str], question: Question, collection: ImageCollection
    ) -> None:
        self._pipeline = pipeline
        self._question = question
        self._collection = collection
        self._failures = 0

    @property
    def room(self) -> bool:
        """Whether another key may be put in."""
        return self._pipeline.room

    @property
    def in_flight(self) -> int:
        """Keys whose outcomes were not taken yet."""
        return self._pipeline.in_flight

    def put(self, key: T, uri: str, *, isolated: bool = False) -> None:
        """Read, decode and score the image."""
        read = partial(self._collection.read, uri)
        self._pipeline.put(
            key,
            uri,
            self._question,
            uri,
            read,
            isolated=isolated,
            may_be_clip=partial(named_as_clip, uri),
        )

    def take(self, seconds: float) -> list[tuple[T, str, Outcome]]:
        """The outcomes within this time: key, URI and detection or error.

        Raises:
            D3Error: the images can no longer be read, or a detector fails again and again.
        """
        taken = self._pipeline.take(seconds)
        return [(key, uri, self._outcome(outcome)) for key, uri, outcome in taken]

    def close(self) -> None:
        """Cancel what has not begun."""
        self._pipeline.close()

    def _outcome(self, outcome: Judged | D3Error) -> Outcome:
        if isinstance(outcome, StorageFailed | DecoderUnavailable):
            raise outcome
        if isinstance(outcome, ImageError | ScoreUndefined):
            return outcome
        if isinstance(outcome, D3Error):
            self._count_failure(
                f"The detector failed for {{}} images in a row ({outcome.code}).", outcome
            )
            return outcome
        if (detection := outcome.detection).missing:
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
