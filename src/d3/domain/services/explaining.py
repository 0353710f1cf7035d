"""Explaining a score: which parts of an image look generated to the model in use."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

import numpy as np

from d3.domain.coroutines import finished, start
from d3.domain.errors import ExplanationUnavailable
from d3.domain.heatmaps import Encode, Heatmap, Map
from d3.domain.images import DecodedImage, ImageSource, turned
from d3.domain.models import D3
from d3.domain.ports.clock import Clock
from d3.domain.ports.detector import Explainer
from d3.domain.ports.images import ImageDecoder
from d3.domain.ports.queue import Lane
from d3.domain.scoring import checked_views
from d3.domain.services.lanes import LanePool
from d3.domain.services.model_host import LoadedModel, ModelHost

T = TypeVar("T")
_LONGEST_SIDE = 1024


class ExplanationService:
    """Draws heat maps with the model in use.

    Args:
        host: holds the model.
        decoder: of images.
        encode: writes PNG files.
        pool: where decoding and drawing run.
        clock: tells the time.
    """

    def __init__(
        self,
        host: ModelHost,
        decoder: ImageDecoder,
        encode: Encode,
        pool: LanePool,
        clock: Clock,
    ) -> None:
        self._host = host
        self._decoder = decoder
        self._encode = encode
        self._pool = pool
        self._clock = clock

    def explain(self, source: ImageSource, *, views: int = 1) -> Heatmap:
        """The heat map of one image.

        Args:
            source: a path, encoded bytes, uint8 pixels (height, width, 3) or a PIL image.
            views: 1 to 16 permutations to average.

        Raises:
            ExplanationUnavailable: what runs the model cannot explain.
            D3Error: see :mod:`d3.domain.errors`; never anything foreign.
        """
        with self._host.using():  # loads it where it is not
            explaining = self.begin(source, views, lambda heatmap: heatmap)
            try:
                return explaining.result()
            finally:
                explaining.cancel()

    def begin(
        self,
        source: ImageSource,
        views: int,
        show: Callable[[Heatmap], T],
        *,
        within: float | None = None,
        model: str | None = None,
    ) -> Future[T]:
        """Have a heat map drawn; a future that is cancelled spares every part not begun.

        Args:
            source: the image.
            views: 1 to 16 permutations to average.
            show: what is wanted of the map; called on a thread of the pool.
            within: seconds after which nobody waits; None for ever.
            model: name of a loaded one; the model in use unless said.

        The future raises:
            ModelNotLoaded: there is no model to ask.
            ExplanationUnavailable: what runs the model cannot explain, or not in this time.
            Overloaded: too much waits already.
            RequestInvalid: the views make no sense.
            D3Error: the image cannot be judged.
        """
        return start(self._explain(source, views, show, within, model))

    async def _explain(
        self,
        source: ImageSource,
        views: int,
        show: Callable[[Heatmap], T],
        within: float | None,
        name: str | None,
    ) -> T:
        with self._host.panel(None if name is None else [name]) as panel:
            image, logits = await self._draw(panel.chief, source, views, within)
        heatmap = partial(self._heatmap, source, image, logits, panel.chief)
        return await finished(self._pool.submit(lambda: show(heatmap()), Lane.BULK))

    async def _draw(
        self, model: LoadedModel, source: ImageSource, views: int, within: float | None
    ) -> tuple[DecodedImage, Map]:
        """The decoded image and the raw logits (grid, grid) of its patches."""
        queue, manifest = model.queue, model.manifest
        _check_explains(model)
        deadline = None if within is None else self._clock.monotonic() + within
        slots = queue.reserve_map(checked_views(views, manifest.views, manifest.name), deadline)
        submitted = False
        try:
            decode = partial(self._decoder.decode, source, manifest.input_spec.pixels)
            image = await finished(self._pool.submit(decode, Lane.INTERACTIVE))
            submitted = True
            return image, await finished(slots.submit(image.pixels))
        finally:
            if not submitted:
                slots.release()

    def _heatmap(
        self, source: ImageSource, image: DecodedImage, logits: Map, model: LoadedModel
    ) -> Heatmap:
        if not np.isfinite(logits).all():
            raise model.undefined()
        return Heatmap(
            logits=turned(logits, image.orientation),
            pixels=self._decoder.picture(source, _LONGEST_SIDE),
            image=image.facts,
            model=model.reference,
            encode=self._encode,
            notice=model.manifest.notice,
        )


def _check_explains(model: LoadedModel) -> None:
    if model.explains:
        return
    manifest, engine = model.manifest, model.queue.detector.engine
    if manifest.architecture != D3:
        raise ExplanationUnavailable(
            f"The scores of a {manifest.architecture} cannot be explained.",
            "Load a D3 model, or leave out explain.",
        )
    if isinstance(model.queue.detector, Explainer):
        raise ExplanationUnavailable(
            f"The model {manifest.name!r} is scored together with another one, and only the first "
            "of them can be explained.",
            f"Load {manifest.name!r} as the model in use, or leave out explain.",
        )
    raise ExplanationUnavailable(
        f"The engine {engine!r} cannot explain scores.",
        "Set D3_ENGINE=torch, or leave out explain.",
    )
