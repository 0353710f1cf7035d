"""Calibration: temperature and bias of logits, the threshold, and the abstain band.

Temperature and bias are fitted with equal weight for both kinds (Platt, 1999), so probabilities
hold where half of the images are generated. The threshold is the conformal quantile of the real
images: a new real image exceeds it with at most the false positive rate asked for. Below it
lies the abstain band, down to the quantile below which few generated images lie; there the
verdict is left open. All reported figures come from cross-fitting, on images that the fit had
not seen.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from d3.domain.intervals import wilson
from d3.domain.scoring import AbstainBand, Calibration, Measured, Reference, Share
from d3.evaluation.bootstrap import (
    folds,
    interval,
    replicates_at_once,
    replicates_for,
    resample,
)
from d3.evaluation.dataset import DatasetInvalid
from d3.evaluation.metrics import Numbers, Sample
from d3.evaluation.scores import Scores

FOLDS = 5
FEWEST = 2 * FOLDS
"""Images of each kind without which nothing is fitted."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A calibration with its threshold in [0, 1] and abstain band."""

    scale: float
    bias: float
    threshold: float
    band: AbstainBand

    def predictions(self, logits: Numbers) -> Numbers:
        """Probabilities of raw logits, exactly as in a detection."""
        calibration = Calibration(self.scale, self.bias)
        return np.array([calibration.probability(one) for one in logits.tolist()])

    def reference(self, fake: NDArray[np.bool_], logits: Numbers) -> Reference:
        """The probabilities of the images that it was fitted on, counted."""
        predictions = self.predictions(logits)
        return Reference.of(predictions[~fake].tolist(), predictions[fake].tolist())


@dataclass(frozen=True, slots=True)
class Quality:
    """A calibration's figures on a data set.

    Attributes:
        ece: expected calibration error, with equal weight for both kinds.
        fpr: real images called fake.
        tpr: generated images called fake.
        uncertain: verdicts left open, with equal weight for both kinds.
    """

    threshold: float
    ece: Share
    fpr: Share
    tpr: Share
    uncertain: float


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The result of a calibration.

    Attributes:
        fitted: on all images.
        after: the new calibration, on images that its fit had not seen.
        reference: the probabilities that later ones are compared with.
        warnings: what the numbers cannot show, as sentences.
    """

    fitted: Fitted
    before: Quality
    after: Quality
    real: int
    fake: int
    reference: Reference
    warnings: list[str]

    def calibration(self, name: str, dataset: str) -> Calibration:
        """For a manifest."""
        measured = Measured(
            threshold=self.fitted.threshold,
            fpr=self.after.fpr,
            tpr=self.after.tpr,
            real=self.real,
            fake=self.fake,
            dataset=dataset,
        )
        return Calibration(self.fitted.scale, self.fitted.bias, name, measured, self.reference)

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def calibrate(
    scores: Scores,
    *,
    before: Calibration,
    threshold: float,
    band: AbstainBand,
    max_fpr: float,
    max_miss: float,
    seed: int,
) -> Calibrated:
    """Fit, and measure before and after.

    Args:
        scores: of both kinds.
        before: the model's present calibration.
        threshold: the model's present one.
        band: the model's present one.
        max_fpr: the share of real images that may be called fake.
        max_miss: the share of generated images that may be called real outright.
        seed: of the folds and of the bootstrap.

    Raises:
        DatasetInvalid: a kind has fewer than ten images.
    """
    fake, logits = scores.fake, scores.logit
    reals, fakes = int((~fake).sum()), int(fake.sum())
    if min(reals, fakes) < FEWEST:
        raise DatasetInvalid(
            f"{reals} real and {fakes} generated images are too few for a calibration.",
            f"Use at least {FEWEST} of each, and several hundred for a reliable result.",
        )
    old = Fitted(before.scale, before.bias, threshold, band)
    new = fit(fake, logits, max_fpr=max_fpr, max_miss=max_miss)
    said = np.empty(len(fake))
    above, doubtful = np.empty(len(fake), bool), np.empty(len(fake), bool)
    number = folds(fake, FOLDS, seed)
    for held_out in (number == one for one in range(FOLDS)):
        kept = ~held_out
        fold = fit(fake[kept], logits[kept], max_fpr=max_fpr, max_miss=max_miss)
        said[held_out] = fold.predictions(logits[held_out])
        above[held_out], doubtful[held_out] = _verdicts(fold, said[held_out])
    present = old.predictions(logits)
    return Calibrated(
        fitted=new,
        before=_quality(fake, present, *_verdicts(old, present), threshold, seed),
        after=_quality(fake, said, above, doubtful, new.threshold, seed),
        real=reals,
        fake=fakes,
        reference=new.reference(fake, logits),
        warnings=_warnings(reals, max_fpr, new),
    )


def fit(fake: NDArray[np.bool_], logits: Numbers, *, max_fpr: float, max_miss: float) -> Fitted:
    """Fit temperature, bias, threshold and band."""
    scale, bias = fit_calibration(fake, logits, weights=balancing(fake))
    plain = Fitted(scale, bias, 0.5, AbstainBand())
    predictions = plain.predictions(logits)
    reals, fakes = np.sort(predictions[~fake]), np.sort(predictions[fake])
    # The conformal quantile: of n + 1 exchangeable real images, at most the share asked exceeds it.
    rank = math.ceil((len(reals) + 1) * (1 - max_fpr) - 1e-9)
    threshold = float(reals[min(rank, len(reals)) - 1])
    lowest = float(fakes[min(math.floor(max_miss * len(fakes)), len(fakes) - 1)])
    return Fitted(scale, bias, threshold, AbstainBand(below=max(0.0, threshold - lowest)))


def fit_calibration(
    labels: ArrayLike, logits: ArrayLike, weights: ArrayLike | None = None
) -> tuple[float, float]:
    """The scale and bias that make `sigmoid(scale * logit + bias)` most likely.

    Newton's method on the two parameters (Platt, 1999), with his softened targets, so that
    separable classes have a finite answer. The scale is kept positive, to preserve the order. Each
    image counts as much as its weight, 1 unless given.
    """
    truth = np.asarray(labels).astype(bool)
    values = np.asarray(logits, dtype=np.float64)
    mass = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    targets = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    spread = values.std() + 1e-12
    inputs = np.stack([values / spread, np.ones_like(values)], axis=1)
    parameters = np.array([1.0, 0.0])
    for _ in range(100):
        guesses = 1 / (1 + np.exp(-np.clip(inputs @ parameters, -60, 60)))
        gradient = inputs.T @ (mass * (guesses - targets))
        curvature = (inputs * (mass * guesses * (1 - guesses))[:, None]).T @ inputs
        step = np.linalg.solve(curvature + 1e-6 * np.eye(2), gradient)
        parameters -= step / max(1.0, np.linalg.norm(step))
        if np.abs(step).max() < 1e-9:
            break
    return max(float(parameters[0] / spread), 1e-3), float(parameters[1])


def balancing(fake: NDArray[np.bool_]) -> Numbers:
    """Weights [n] of mean 1 that give both kinds the same total."""
    shares = {True: fake.mean(), False: 1 - fake.mean()}
    weights: Numbers = np.where(
        fake, 0.5 / max(shares[True], 1e-12), 0.5 / max(shares[False], 1e-12)
    )
    return weights


def _verdicts(fitted: Fitted, predictions: Numbers) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which predictions lie above the threshold, and which in the band."""
    low, high = fitted.threshold - fitted.band.below, fitted.threshold + fitted.band.above
    return predictions > fitted.threshold, (low < predictions) & (predictions < high)


def _quality(  # noqa: PLR0917  columns of the same images
    fake: NDArray[np.bool_],
    predictions: Numbers,
    above: NDArray[np.bool_],
    doubtful: NDArray[np.bool_],
    threshold: float,
    seed: int,
) -> Quality:
    weights = balancing(fake)
    sample = Sample(fake, predictions, predictions)
    error = float(sample.measure(weights)["ece"])
    count = len(fake)
    drawn = resample(
        sample,
        fake.astype(np.int64),
        seed=seed,
        replicates=replicates_for(count),
        at_once=replicates_at_once(count),
        weights=weights,
    )
    return Quality(
        threshold=threshold,
        ece=Share(error, *interval(drawn["ece"])),
        fpr=_share(above[~fake]),
        tpr=_share(above[fake]),
        uncertain=float((doubtful[~fake].mean() + doubtful[fake].mean()) / 2),
    )


def _share(hits: NDArray[np.bool_]) -> Share:
    count = int(np.count_nonzero(hits))
    return Share(count / len(hits), *wilson(count, len(hits)))


def fewest_reals(max_fpr: float) -> int:
    """Real images without which such a false positive rate cannot be kept."""
    return math.ceil(1 / max_fpr - 1e-9) - 1


def _warnings(reals: int, max_fpr: float, fitted: Fitted) -> list[str]:
    needed = fewest_reals(max_fpr)
    warnings = []
    if reals < needed:
        warnings.append(
            f"{reals:,} real images are too few to measure a false positive rate of {max_fpr:.3g}; "
            f"at least {needed:,} are needed. The threshold is their highest prediction."
        )
    elif reals < 10 * needed:
        warnings.append(
            f"With {reals:,} real images, the false positive rate is only a rough estimate. Use at "
            f"least {10 * needed:,} for a better one."
        )
    if fitted.threshold >= 1:
        warnings.append(
            "Some real images have a prediction of 1, so no threshold can exclude them."
        )
    return warnings
