"""The answer: one image's detection, and what stands in its place when there is none."""

from __future__ import annotations

from dataclasses import dataclass

from d3.domain.errors import D3Error
from d3.domain.images import ImageFacts
from d3.domain.models import ModelReference
from d3.domain.scoring import Calibration, Measured, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection(Score):
    """A score with its circumstances: which image, which model, by which means.

    Attributes:
        name: the image's display name.
        views: how many permutations were averaged.
        image: facts of the original.
        model: which model answered.
        engine: what ran it, such as ``"torch"``.
        precision: ``"fp32"``, ``"fp16"`` or ``"bf16"``; the head always runs in float32.
        processing_time: seconds for this image: its decoding and its share of the forward pass.
        calibration: applied to the logit, with the rates that were measured for its threshold.
        notice: what must be said beside the verdict, from the model's manifest; may be empty.
    """

    name: str
    views: int
    image: ImageFacts
    model: ModelReference
    engine: str
    precision: str
    processing_time: float
    calibration: Calibration = Calibration()
    notice: str = ""

    @property
    def measured(self) -> Measured | None:
        """The rates measured for the threshold applied; None where nobody measured them."""
        known = self.calibration.measured
        return known if known is not None and known.threshold == self.threshold else None


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be judged, among others that could.

    Attributes:
        name: the image's display name.
        error: why not.
    """

    name: str
    error: D3Error
