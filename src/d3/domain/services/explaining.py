"""Explaining a score: which parts of an image look generated to the model in use."""

from __future__ import annotations

from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from d3.domain.errors import D3Error, ExplanationUnavailable, ScoreUndefined
from d3.domain.heatmaps import Heatmap
from d3.domain.images import ImageSource, turned
from d3.domain.ports.clock import Clock
from d3.domain.ports.detector import Explainer
from d3.domain.ports.images import Drawing, ImageDecoder
from d3.domain.ports.queue import MapSlots
from d3.domain.scoring import checked_views
from d3.domain.services.model_host import Lease, ModelHost

_LONGEST_SIDE = 1024


class ExplanationService:
    """Draws heat maps with the model in use.

    Args:
        host: holds the model.
        decoder: of images.
        drawing: scales and writes pictures.
        clock: tells the time.
    """

    def __init__(
        self, host: ModelHost, decoder: ImageDecoder, drawing: Drawing, clock: Clock
    ) -> None:
        self._host = host
        self._decoder = decoder
        self._drawing = drawing
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
            planned = self.plan(views)
        return planned.draw(source, Future())

    def plan(self, views: int, within: float | None = None) -> PlannedMap:
        """Take slots for a heat map, before any work is done for it.

        Args:
            views: 1 to 16 permutations to average.
            within: seconds after which nobody waits; None for ever.

        Raises:
            ModelNotLoaded: there is no model to ask.
            ExplanationUnavailable: what runs the model cannot explain, or not in this time.
            Overloaded: too much waits already.
            RequestInvalid: the views make no sense.
        """
        lease = self._host.lease()
        try:
            model = lease.model
            if not isinstance(model.queue.detector, Explainer):
                raise ExplanationUnavailable(
                    f"The engine {model.queue.detector.engine!r} gives scores and cannot explain "
                    "them.",
                    "Set D3_ENGINE=torch, which can, or leave explain out.",
                )
            views = checked_views(views, len(model.manifest.permutations))
            deadline = None if within is None else self._clock.monotonic() + within
            slots = model.queue.reserve_map(views, deadline)
        except D3Error:
            lease.end()
            raise
        return PlannedMap(lease, slots, self._decoder, self._drawing)


@dataclass(eq=False, slots=True)
class PlannedMap:
    """A heat map that has its slots; draw it or give it up, once."""

    lease: Lease
    slots: MapSlots
    decoder: ImageDecoder
    drawing: Drawing

    def release(self) -> None:
        """NullEvents wants it any more."""
        self.slots.release()
        self.lease.end()

    def draw(self, source: ImageSource, wanted: Future[Any]) -> Heatmap:
        """Draw it, which takes seconds.

        Args:
            source: the image.
            wanted: what somebody waits for; once it is cancelled drawing stops.

        Raises:
            CancelledError: it was.
            D3Error: see :mod:`d3.domain.errors`; never anything foreign.
        """
        slots: MapSlots | None = self.slots
        try:
            if wanted.cancelled():
                raise CancelledError
            manifest = self.lease.model.manifest
            small = self.decoder.decode(source, manifest.spec.image_size)
            drawn, slots = self.slots.submit(small.pixels), None
            wanted.add_done_callback(lambda _: drawn.cancel())
            logits = drawn.result()
        finally:
            if slots is not None:
                slots.release()
            self.lease.end()
        if not np.isfinite(logits).all():
            raise ScoreUndefined(
                "The model answered with something that is no number.",
                "Its weights are too large for the precision: try D3_PRECISION=fp32.",
            )
        return Heatmap(
            logits=turned(logits, small.orientation),
            pixels=self.decoder.picture(source, _LONGEST_SIDE),
            image=small.facts,
            model=manifest.reference,
            encode=self.drawing.png,
            notice=manifest.notice,
        )
