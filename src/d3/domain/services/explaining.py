"""Explaining a score: which parts of an image look generated to the model in use."""

from __future__ import annotations

import numpy as np

from d3.domain.errors import ExplanationUnavailable, ScoreUndefined
from d3.domain.heatmaps import Heatmap
from d3.domain.images import ImageSource, turned
from d3.domain.ports import Drawing, Explainer, ImageDecoder
from d3.domain.scoring import checked_views
from d3.domain.services.hosting import LoadedModel, ModelHost

_LONGEST_SIDE = 1024


class ExplanationService:
    """Draws heat maps with the model in use.

    Args:
        host: holds the model.
        decoder: of images.
        drawing: scales and writes pictures.
    """

    def __init__(self, host: ModelHost, decoder: ImageDecoder, drawing: Drawing) -> None:
        self._host = host
        self._decoder = decoder
        self._drawing = drawing

    def check(self) -> None:
        """Ask whether the model in use can explain at all, before any work is done.

        Raises:
            ExplanationUnavailable: it cannot.
        """
        with self._host.using() as model:
            _explainer(model)

    def explain(self, source: ImageSource, *, views: int = 1) -> Heatmap:
        """The heat map of one image.

        Args:
            source: a path, encoded bytes, uint8 pixels (height, width, 3) or a PIL image.
            views: 1 to 16 permutations to average.

        Raises:
            ExplanationUnavailable: what runs the model cannot explain.
            D3Error: see :mod:`d3.domain.errors`; never anything foreign.
        """
        with self._host.using() as model:
            explainer = _explainer(model)
            manifest = model.manifest
            views = checked_views(views, len(manifest.permutations))
            small = self._decoder.decode(source, manifest.spec.image_size)
            logits = explainer.explain(small.pixels, views)
        if not np.isfinite(logits).all():
            raise ScoreUndefined(
                "The model answered with something that is no number.",
                "Its weights are too large for the precision: try D3_PRECISION=fp32.",
            )
        return Heatmap(
            logits=turned(logits, small.orientation),
            pixels=self._decoder.picture(source, _LONGEST_SIDE),
            image=small.facts,
            model=manifest.reference,
            encode=self._drawing.png,
            notice=manifest.notice,
        )


def _explainer(model: LoadedModel) -> Explainer:
    detector = model.queue.detector
    if isinstance(detector, Explainer):
        return detector
    raise ExplanationUnavailable(
        f"The engine {detector.engine!r} gives scores and cannot explain them.",
        "Set D3_ENGINE=torch, which can, or leave explain out.",
    )
