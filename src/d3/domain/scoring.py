"""From logits to a verdict: calibration, threshold, confidence, spread and the right to doubt."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from d3.domain.errors import ScoreUndefined, ThresholdInvalid, ViewsInvalid, shown

MAX_VIEWS = 16


class Verdict(StrEnum):
    """The verdict on an image."""

    FAKE = "fake"
    REAL = "real"
    UNCERTAIN = "uncertain"


class Reason(StrEnum):
    """Why a verdict is ``uncertain``; :attr:`sentence` says it to people."""

    TOO_SMALL = "too_small"
    ONE_COLOUR = "one_colour"
    ALPHA_ONLY = "alpha_only"
    SPREAD = "spread"
    ABSTAIN_BAND = "abstain_band"
    PANEL = "panel"
    UNSTABLE = "unstable"
    FRAMES = "frames"
    FEW_FRAMES = "few_frames"

    @property
    def is_lack(self) -> bool:
        """Whether the image itself carries nothing to judge, whatever model and threshold."""
        return self in {Reason.TOO_SMALL, Reason.ONE_COLOUR, Reason.ALPHA_ONLY}

    @property
    def sentence(self) -> str:
        """One sentence for people."""
        return _SENTENCES[self]


_SENTENCES = {
    Reason.TOO_SMALL: "The image is too small to be judged: a side has fewer than 32 pixels.",
    Reason.ONE_COLOUR: "The whole image has one colour, so there is nothing to judge.",
    Reason.ALPHA_ONLY: (
        "The image exists only in its transparency, which D3 does not judge. Without transparency "
        "it has a single colour."
    ),
    Reason.SPREAD: "The views disagree: some are above the threshold and some below.",
    Reason.ABSTAIN_BAND: (
        "The probability is too close to the threshold: it is within the model's abstain band."
    ),
    Reason.PANEL: "The models of the panel do not agree; each one's opinion is given.",
    Reason.UNSTABLE: (
        "The verdict does not survive a harmless change of the image, such as saving it once more."
    ),
    Reason.FRAMES: "The frames of the clip do not agree enough for a verdict.",
    Reason.FEW_FRAMES: (
        "Fewer than three frames with something to judge were looked at. A smaller `every`, such "
        "as 200ms, looks at more where the clip has them."
    ),
}


@dataclass(frozen=True, slots=True)
class Share:
    """A measured share, or a difference of two, with its 95 % interval; NaN where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What a calibrated threshold did on images that its fit had not seen.

    Attributes:
        threshold: the one that was fitted; at another one the rates are others.
        fpr: false positive rate: real images above it.
        tpr: true positive rate: generated images above it.
    """

    threshold: float
    fpr: Share
    tpr: Share
    real: int
    fake: int
    dataset: str = ""


BINS = 20
"""Parts of [0, 1], all equally wide, in which probabilities are counted."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The probabilities of the images of a calibration: what later images are compared with.

    Attributes:
        real: how many real images lie in each of the :data:`BINS`; the last one includes 1.
        fake: how many generated images.
    """

    real: tuple[int, ...]
    fake: tuple[int, ...]

    def __post_init__(self) -> None:
        for counts in (self.real, self.fake):
            if len(counts) != BINS or min(counts) < 0 or not any(counts):
                raise ValueError(f"a reference has {BINS} counts of real and of generated images")

    @classmethod
    def of(cls, real: Iterable[float], fake: Iterable[float]) -> Self:
        """Count these probabilities of real and of generated images."""
        return cls(histogram(real), histogram(fake))


def histogram(predictions: Iterable[float]) -> tuple[int, ...]:
    """How many probabilities lie in each of the :data:`BINS`."""
    counts = [0] * BINS
    for one in predictions:
        counts[min(int(one * BINS), BINS - 1)] += 1
    return tuple(counts)


@dataclass(frozen=True, slots=True)
class Calibration:
    """An affine map of the logit: ``scale * logit + bias``; the identity until it is fitted.

    Attributes:
        scale: positive; the inverse of the temperature.
        bias: added after scaling.
        name: where it came from, kept with each result.
        measured: how well the threshold fitted with it did; None where that was never measured.
        reference: the probabilities of the images that it was fitted on; None where they were
            never counted.
    """

    scale: float = 1.0
    bias: float = 0.0
    name: str = "none"
    measured: Measured | None = None
    reference: Reference | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0 and math.isfinite(self.bias)):
            raise ValueError("a calibration needs a finite positive scale and a finite bias")

    @property
    def fitted(self) -> bool:
        """Whether it is more than the identity."""
        return (self.scale, self.bias, self.name) != (1.0, 0.0, "none")

    def probability(self, logit: float) -> float:
        """The probability in [0, 1] that the image is generated."""
        return sigmoid(self.scale * logit + self.bias)


@dataclass(frozen=True, slots=True)
class AbstainBand:
    """How close to the threshold a prediction may come before the verdict is ``uncertain``.

    Attributes:
        below: a distance in probability, 0 to 1, under the threshold.
        above: the same over it.
    """

    below: float = 0.0
    above: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.below <= 1 and 0 <= self.above <= 1):
            raise ValueError("an abstain band is two distances between 0 and 1")

    def holds(self, prediction: float, threshold: float) -> bool:
        """Whether the prediction lies strictly inside the band around the threshold."""
        return threshold - self.below < prediction < threshold + self.above


@dataclass(frozen=True, slots=True)
class Score:
    """One image's logits read as a verdict.

    Attributes:
        prediction: probability in [0, 1] that the image is generated, after calibration.
        is_fake: ``prediction > threshold``, and no more than that: where the two could differ, go
            by the verdict.
        confidence: ``2 * |prediction - 0.5|``, in [0, 1].
        verdict: ``fake`` or ``real``; ``uncertain`` where the views or the model's abstain band
            lie on both sides of the threshold, and where the image carries nothing to judge.
        logit: the mean of the views' logits, before calibration.
        spread: largest minus smallest probability of the views; 0 for one view.
        threshold: in [0, 1], the one applied.
        reason: why the verdict is ``uncertain``; None where it is not.
    """

    prediction: float
    is_fake: bool
    confidence: float
    verdict: Verdict
    logit: float
    spread: float
    threshold: float
    reason: Reason | None = None

    def tried(self, changed: Iterable[float]) -> Score:
        """The same after a test of its stability.

        A verdict that stood is ``uncertain`` if a change of the image takes its probability to the
        other side of the threshold. The abstain band plays no part in that, and a verdict that was
        ``uncertain`` before keeps its reason.

        Args:
            changed: the probability of each changed image, after calibration.
        """
        turned = any((one > self.threshold) is not self.is_fake for one in changed)
        if self.reason is not None or not turned:
            return self
        return replace(self, verdict=Verdict.UNCERTAIN, reason=Reason.UNSTABLE)


def assess(
    logits: Sequence[float],
    *,
    threshold: float,
    calibration: Calibration = Calibration(),
    abstain_band: AbstainBand = AbstainBand(),
    lack: Reason | None = None,
) -> Score:
    """Read one image's logits, one per view, as a verdict.

    Args:
        logits: one to sixteen raw logits of the network.
        threshold: in [0, 1].
        calibration: applied to the mean logit and to each view's.
        abstain_band: the model's.
        lack: why the image carries nothing to judge, see
            :attr:`d3.domain.images.ImageFacts.lack`; the verdict is then ``uncertain``.

    Raises:
        ThresholdInvalid: the threshold is not a number in [0, 1].
        ScoreUndefined: a logit is not finite.
        ValueError: there are no logits.
    """
    threshold = checked_threshold(threshold)
    if not logits:
        raise ValueError("a score needs one or more logits")
    if not all(map(math.isfinite, logits)):
        raise ScoreUndefined("The model's output is not a finite number.", "Use another model.")
    logit = math.fsum(logits) / len(logits)
    prediction = calibration.probability(logit)
    views = [calibration.probability(view) for view in logits]
    lowest, highest = min(views), max(views)
    is_fake = prediction > threshold
    reason = lack
    if reason is None and lowest <= threshold < highest:
        reason = Reason.SPREAD
    if reason is None and abstain_band.holds(prediction, threshold):
        reason = Reason.ABSTAIN_BAND
    decided = Verdict.FAKE if is_fake else Verdict.REAL
    return Score(
        prediction=prediction,
        is_fake=is_fake,
        confidence=2 * abs(prediction - 0.5),
        verdict=decided if reason is None else Verdict.UNCERTAIN,
        logit=logit,
        spread=highest - lowest,
        threshold=threshold,
        reason=reason,
    )


def sigmoid(logit: float) -> float:
    """The logistic function, exact at both ends of the range."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    odds = math.exp(logit)
    return odds / (1 + odds)


def checked_threshold(threshold: float) -> float:
    """The threshold as a float in [0, 1].

    Raises:
        ThresholdInvalid: it is anything else, NaN included.
    """
    try:
        value = float(threshold)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not 0 <= value <= 1:
        raise ThresholdInvalid(
            f"The threshold {shown(threshold)} is not a number between 0 and 1.",
            "Use a number such as 0.5, or leave it out to use the model's threshold.",
        )
    return value


def checked_views(views: int, available: int = MAX_VIEWS, model: str | None = None) -> int:
    """The number of views, from 1 to what the model has permutations for.

    Args:
        views: that are asked for.
        available: the most that the model can average.
        model: its name, where it is known, for the error.

    Raises:
        ViewsInvalid: it is anything else.
    """
    most = min(MAX_VIEWS, available)
    try:
        number = 0 if isinstance(views, bool) else operator.index(views)
    except TypeError:
        number = 0
    if not 1 <= number <= most:
        called = "This model" if model is None else f"The model {model!r}"
        raise ViewsInvalid(
            f"{called} cannot average {shown(views)} views.",
            f"Use a whole number from 1 to {most}." if most > 1 else "Use 1, or leave it out.",
        )
    return number
