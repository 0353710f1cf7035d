"""The answer: one image's detection, and what stands in its place when there is none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from d3.domain.clips import ClipVerdict
from d3.domain.errors import D3Error
from d3.domain.images import Content, ImageFacts
from d3.domain.inputs import Change
from d3.domain.models import ModelReference
from d3.domain.panels import PanelVerdict
from d3.domain.records import IMAGE_FACTS, ResultRecord, image_fields, parsed
from d3.domain.scoring import AbstainBand, Calibration, Measured, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection(ResultRecord):
    """A verdict just reached: a flat record whose parts can also be had together.

    Attributes:
        logit: the mean of the views' logits, before calibration.
        model_name: which model answered.
        model_version: likewise.
        model_sha256: likewise.
        image_content: whether the image carries anything to judge.
        calibration_measured: the rates measured for the threshold that was fitted with the
            calibration; None where nobody measured them.
    """

    logit: float
    model_name: str
    model_version: int
    model_sha256: str
    image_content: Content = Content.PICTURE
    calibration_measured: Measured | None = None

    @classmethod
    def of(
        cls,
        score: Score,
        *,
        name: str,
        views: int,
        image: ImageFacts,
        model: ModelReference,
        engine: str,
        precision: str,
        processing_time: float,
        logits: Sequence[float] = (),
        device: str = "",
        libraries: str = "",
        calibration: Calibration = Calibration(),
        abstain_band: AbstainBand = AbstainBand(),
        notice: str = "",
        panel: PanelVerdict | None = None,
        stability: Mapping[Change, float] | None = None,
        clip: ClipVerdict | None = None,
    ) -> Self:
        """A score with its circumstances: which image, which model, by which means."""
        return cls(
            **{one: getattr(score, one) for one in Score.__dataclass_fields__},
            **image_fields(image),
            image_name=name,
            image_content=image.content,
            views=views,
            model_name=model.name,
            model_version=model.version,
            model_sha256=model.sha256,
            engine=engine,
            precision=precision,
            processing_time=processing_time,
            calibration_name=calibration.name,
            calibration_scale=calibration.scale,
            calibration_bias=calibration.bias,
            calibration_measured=calibration.measured,
            abstain_below=abstain_band.below,
            abstain_above=abstain_band.above,
            notice=notice,
            view_logits=json.dumps(list(logits)) if len(logits) > 1 else "",
            device=device,
            libraries=libraries,
            panel=panel.to_json() if panel is not None else "",
            agreement=panel.agreement if panel is not None else None,
            stability_probabilities=json.dumps(stability) if stability else "",
            clip=clip.to_json() if clip is not None else "",
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it as a JSON document holds it, by the names that every export has."""
        image = asdict(replace(self.image, provenance=None))
        del image["provenance"]
        recorded = {one.name: getattr(self, one.name) for one in fields(ResultRecord)}
        del recorded["panel"], recorded["stability_probabilities"]  # what they hold stands there
        return (
            recorded
            | parsed(self)
            | {
                "name": self.name,
                "reason_text": self.reason_text,
                "image_note_text": self.image_note_text,
                "image": image | {"note_text": self.image_note_text},
                "model": asdict(self.model),
                "calibration": asdict(self.calibration),
                "logits": list(self.logits),
            }
        )

    @property
    def name(self) -> str:
        """The image's display name."""
        return self.image_name

    @property
    def image(self) -> ImageFacts:
        """Facts of the original."""
        facts = {fact: getattr(self, field) for field, fact in IMAGE_FACTS.items()}
        return ImageFacts(**facts, content=self.image_content, provenance=self.provenance)

    @property
    def model(self) -> ModelReference:
        """Which model answered."""
        return ModelReference(self.model_name, self.model_version, self.model_sha256)

    @property
    def calibration(self) -> Calibration:
        """Applied to the logit, with the rates that were measured for its threshold."""
        return Calibration(
            self.calibration_scale,
            self.calibration_bias,
            self.calibration_name,
            self.calibration_measured,
        )

    @property
    def measured(self) -> Measured | None:
        """The rates measured for the threshold applied; None where nobody measured them."""
        known = self.calibration_measured
        return known if known is not None and known.threshold == self.threshold else None

    @property
    def calibration_fpr(self) -> float | None:
        """The false positive rate measured for the threshold applied."""
        return None if self.measured is None else self.measured.fpr.value

    @property
    def calibration_tpr(self) -> float | None:
        """The true positive rate measured for the threshold applied."""
        return None if self.measured is None else self.measured.tpr.value


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be judged, among others that could.

    Attributes:
        name: the image's display name.
        error: why not.
    """

    name: str
    error: D3Error
