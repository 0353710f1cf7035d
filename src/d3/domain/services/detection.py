"""Judging images: one, or any number with the decoding ahead of the detector."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal, overload

import numpy as np

from d3.domain.detections import Detection, Failure
from d3.domain.errors import ImageError, RequestInvalid, ScoreUndefined
from d3.domain.images import DecodedImage, ImageSource
from d3.domain.ports.clock import Clock
from d3.domain.ports.images import ImageDecoder
from d3.domain.ports.queue import Scored
from d3.domain.services.model_host import LoadedModel, ModelHost
from d3.domain.services.questions import Question, answer, ask_of

_BATCHES_AHEAD = 2
_BATCHES_ASKED = 2


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A decoded image or the reason there is none, with the seconds it took."""

    name: str
    image: DecodedImage | ImageError
    seconds: float


@dataclass(frozen=True, slots=True)
class _Asked:
    """A batch on its way through the queue; without a future where no image of it is sound."""

    batch: list[_Decoded]
    scored: Future[Scored] | None

    @property
    def done(self) -> bool:
        return self.scored is None or self.scored.done()


class DetectionService:
    """Answers the one question: was this image made or altered by a generator?"""

    def __init__(self, host: ModelHost, decoder: ImageDecoder, clock: Clock) -> None:
        self._host = host
        self._decoder = decoder
        self._clock = clock

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
        (outcome,) = self.detect_many(
            [source], names=[name] if name is not None else None, threshold=threshold, views=views
        )
        return outcome

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
            batch_size: images of one forward pass; it changes the speed, not the scores.
            errors: ``"raise"`` stops at the first bad image; ``"return"`` yields a
                :class:`Failure` in its place and goes on.

        Raises:
            D3Error: at once where the arguments or the model are at fault, else from the iterator.
        """
        if batch_size < 1:
            raise RequestInvalid(f"A batch of {batch_size} images holds none.", "Give 1 or more.")
        if errors not in ("raise", "return"):
            raise RequestInvalid(f"errors={errors!r} is not known.", "Give 'raise' or 'return'.")
        with self._host.using() as model:  # so that what is at fault is said at once
            ask_of(model, threshold=threshold, views=views)
        sources = iter(sources)
        named = (
            zip(sources, names, strict=True)
            if names is not None
            else ((source, _display_name(source)) for source in sources)
        )
        ask = partial(ask_of, threshold=threshold, views=views)
        return self._outcomes(ask, named, batch_size, raising=errors == "raise")

    def _outcomes(
        self,
        ask: Callable[[LoadedModel], Question],
        named: Iterator[tuple[ImageSource, str]],
        batch_size: int,
        *,
        raising: bool,
    ) -> Iterator[Detection | Failure]:
        with self._host.using() as model:
            question = ask(model)
            for outcome in self._read_and_judge(question, named, batch_size):
                if raising and isinstance(outcome, Failure):
                    raise outcome.error
                yield outcome

    def _read_and_judge(
        self, question: Question, named: Iterator[tuple[ImageSource, str]], batch_size: int
    ) -> Iterator[Detection | Failure]:
        size = question.model.manifest.spec.image_size
        workers = min(os.cpu_count() or 1, batch_size, 16)
        with ThreadPoolExecutor(workers, thread_name_prefix="d3-decode") as pool:
            ahead: deque[Future[_Decoded]] = deque()

            def read_ahead(count: int) -> None:
                for source, name in islice(named, count):
                    ahead.append(pool.submit(self._decode, source, name, size))

            read_ahead(_BATCHES_AHEAD * batch_size)
            asked: deque[_Asked] = deque()
            try:
                while ahead or asked:
                    # A queue with a thread of its own has the next batch before this one is told.
                    while ahead and len(asked) < _BATCHES_ASKED and not (asked and asked[0].done):
                        count = min(batch_size, len(ahead))
                        decoded = [ahead.popleft().result() for _ in range(count)]
                        read_ahead(len(decoded))
                        asked.append(_ask_for(question, decoded))
                    yield from _judge(question, asked.popleft())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _decode(self, source: ImageSource, name: str, size: int) -> _Decoded:
        begun = self._clock.monotonic()
        image: DecodedImage | ImageError
        try:
            image = self._decoder.decode(source, size)
        except ImageError as error:
            image = error
        return _Decoded(name, image, self._clock.monotonic() - begun)


def _ask_for(question: Question, batch: list[_Decoded]) -> _Asked:
    """Have the sound images of a batch scored together."""
    pixels = [one.image.pixels for one in batch if isinstance(one.image, DecodedImage)]
    if not pixels:
        return _Asked(batch, None)
    return _Asked(batch, question.model.queue.submit(np.stack(pixels), question.views))


def _judge(question: Question, asked: _Asked) -> Iterator[Detection | Failure]:
    """Answer for all images of a batch, in order."""
    if asked.scored is not None:
        scored = asked.scored.result()
        logits = iter(scored.logits.tolist())
    for one in asked.batch:
        if isinstance(one.image, ImageError):
            yield Failure(one.name, one.image)
        else:
            seconds = one.seconds + scored.seconds
            try:
                yield answer(question, one.name, one.image.facts, next(logits), seconds)
            except ScoreUndefined as error:
                yield Failure(one.name, error)


def _display_name(source: ImageSource) -> str:
    return str(source) if isinstance(source, str | Path) else "image"
