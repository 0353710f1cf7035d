"""What is asked of an image, and how logits become the answer; the same for every face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from d3.domain.detections import Detection
from d3.domain.images import ImageFacts
from d3.domain.scoring import assess, checked_threshold, checked_views
from d3.domain.services.model_host import LoadedModel


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and of which model.

    Attributes:
        model: the one that answers.
        threshold: in [0, 1].
        views: 1 to 16.
    """

    model: LoadedModel
    threshold: float
    views: int


def ask_of(model: LoadedModel, *, threshold: float | None, views: int) -> Question:
    """A question to this model.

    Args:
        model: the one that answers.
        threshold: in [0, 1]; the model's own unless said.
        views: 1 to 16.

    Raises:
        ThresholdInvalid: the threshold is not a number in [0, 1].
        ViewsInvalid: the model cannot give that many views.
    """
    manifest = model.manifest
    return Question(
        model,
        manifest.threshold if threshold is None else checked_threshold(threshold),
        checked_views(views, len(manifest.permutations)),
    )


def answer(
    question: Question, name: str, facts: ImageFacts, logits: Sequence[float], seconds: float
) -> Detection:
    """The detection that follows from an image's raw logits, one per view.

    Args:
        question: what was asked.
        name: the image's display name.
        facts: of the original.
        logits: raw, one per view.
        seconds: the image's processing time.
    """
    manifest, detector = question.model.manifest, question.model.queue.detector
    score = assess(
        logits,
        threshold=question.threshold,
        calibration=manifest.calibration,
        abstain_band=manifest.abstain_band,
        lack=facts.lack,
    )
    return Detection.of(
        score,
        name=name,
        views=question.views,
        image=facts,
        model=question.model.reference,
        engine=detector.engine,
        precision=detector.precision,
        processing_time=seconds,
        calibration=manifest.calibration,
        abstain_band=manifest.abstain_band,
        notice=manifest.notice,
    )
