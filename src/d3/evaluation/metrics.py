"""How well scores tell two classes apart: every metric, for one weighting of the images or many.

Labels are 1 for generated and 0 for camera; a higher score leans towards generated. The metrics are
scikit-learn's, with ``sample_weight``: equal scores enter a curve together.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers: TypeAlias = NDArray[np.float64]

ECE_BINS = 15
"""Of equal width, over the probabilities; a bin holds its upper edge."""

METRICS = (
    *("accuracy_real", "accuracy_fake", "accuracy", "balanced_accuracy"),
    *("ap", "auroc", "fpr_at_95_tpr", "tpr_at_1_fpr", "ece"),
)
"""What :meth:`Sample.measure` gives, each in [0, 1].

``accuracy_real`` and ``accuracy_fake`` are the classes' shares of right answers (true negative and
true positive rate), ``ap`` is the average precision, ``fpr_at_95_tpr`` the smallest false positive
rate at which 95 % of the generated images are found, ``tpr_at_1_fpr`` the share found while at most
1 % of the real ones are accused, ``ece`` the expected calibration error."""


class Sample:
    """Scored images of known kind, put in order once and measured as often as need be.

    Args:
        labels: [n] truth.
        scores: [n] that rank the images.
        predictions: [n] probabilities in [0, 1] that rise with the scores; the logistic function
            of the scores unless given.
        threshold: above it a prediction counts as generated.

    Raises:
        ValueError: the lists differ in length, or a score is not a number.
    """

    def __init__(
        self,
        labels: ArrayLike,
        scores: ArrayLike,
        predictions: ArrayLike | None = None,
        threshold: float = 0.5,
    ) -> None:
        truth, values = _checked(labels, scores)
        chances = _sigmoid(values) if predictions is None else np.asarray(predictions, float)
        self.order = np.lexsort((-chances, -values))
        self.truth = truth[self.order]
        self.scores = values[self.order]
        self.predictions = chances[self.order]
        self.ends = np.append(np.flatnonzero(np.diff(self.scores)), len(values) - 1)
        self._above = int(np.count_nonzero(self.predictions > threshold))
        edges = np.linspace(0, 1, ECE_BINS + 1)[1:-1]
        bins = np.searchsorted(edges, self.predictions)
        self._starts = np.append(0, np.flatnonzero(np.diff(bins)) + 1)

    def measure(self, weights: Numbers | None = None) -> dict[str, Numbers]:
        """Every one of :data:`METRICS`, NaN where a class that it needs is missing.

        Args:
            weights: [..., n], how much each image counts, in the order they were given; all the
                same unless said.

        Returns:
            Arrays [...]; of no dimension without weights.
        """
        if not len(self.truth):
            return dict.fromkeys(
                METRICS, np.full(() if weights is None else weights.shape[:-1], np.nan)
            )
        mass = np.ones(len(self.truth)) if weights is None else weights[..., self.order]
        found = np.cumsum(np.where(self.truth, mass, 0.0), axis=-1)
        false = np.cumsum(np.where(self.truth, 0.0, mass), axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._from_counts(mass, found, false)

    def curves(self) -> tuple[Numbers, Numbers, Numbers]:
        """False positive rates, true positive rates and precisions [k], from strict to lenient."""
        found = np.cumsum(self.truth)[self.ends]
        false = self.ends + 1 - found
        with np.errstate(invalid="ignore", divide="ignore"):
            return false / false[-1], found / found[-1], found / (found + false)

    def _from_counts(self, mass: Numbers, found: Numbers, false: Numbers) -> dict[str, Numbers]:
        real, fake = false[..., -1], found[..., -1]
        tpr = found[..., self.ends] / fake[..., None]
        fpr = false[..., self.ends] / real[..., None]
        both = found[..., self.ends] + false[..., self.ends]
        precision = np.where(both > 0, found[..., self.ends] / both, 0.0)
        before = np.diff(tpr, axis=-1, prepend=0.0)
        steps = np.diff(fpr, axis=-1, prepend=0.0)
        hits = found[..., self._above - 1] if self._above else np.zeros_like(fake)
        alarms = false[..., self._above - 1] if self._above else np.zeros_like(real)
        right_fake, right_real = hits / fake, 1 - alarms / real
        missing = np.isnan(fpr[..., -1]) | np.isnan(tpr[..., -1])
        values = {
            "accuracy_real": right_real,
            "accuracy_fake": right_fake,
            "accuracy": (hits + real - alarms) / (real + fake),
            "balanced_accuracy": (right_real + right_fake) / 2,
            "ap": np.sum(before * precision, axis=-1),
            "auroc": np.sum(steps * (tpr - before / 2), axis=-1),
            "fpr_at_95_tpr": _first(fpr, tpr >= 0.95),
            "tpr_at_1_fpr": np.max(np.where(fpr <= 0.01, tpr, 0.0), axis=-1),
            "ece": self._calibration_error(mass),
        }
        for name in ("ap", "auroc", "fpr_at_95_tpr", "tpr_at_1_fpr"):
            values[name] = np.where(missing, np.nan, values[name])
        return values

    def _calibration_error(self, mass: Numbers) -> Numbers:
        """The mean distance between prediction and frequency, over the bins."""
        surplus = mass * (self.truth - self.predictions)
        gaps = np.abs(np.add.reduceat(surplus, self._starts, axis=-1)).sum(axis=-1)
        return np.asarray(gaps / mass.sum(axis=-1))

    def reliability(self, weights: Numbers | None = None) -> list[tuple[float, float, int]]:
        """For each bin that holds images: their mean prediction, the share of fakes, their number.

        From high predictions to low.

        Args:
            weights: [n] how much each image counts towards mean and share.
        """
        mass = np.ones(len(self.truth)) if weights is None else weights[self.order]
        sizes = np.diff(np.append(self._starts, len(self.truth)))
        within = np.add.reduceat(mass, self._starts)
        said = np.add.reduceat(mass * self.predictions, self._starts) / within
        happened = np.add.reduceat(mass * self.truth, self._starts) / within
        return list(zip(said.tolist(), happened.tolist(), sizes.tolist(), strict=True))


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the ROC curve, in [0, 1]; a tie counts half.

    Raises:
        ValueError: a class is missing, or a score is not a number.
    """
    return _one("auroc", labels, scores)


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the precision averaged over the recalls, in [0, 1]; equal scores enter together.

    Raises:
        ValueError: a class is missing, or a score is not a number.
    """
    return _one("ap", labels, scores)


def accuracy(labels: ArrayLike, scores: ArrayLike, threshold: float) -> float:
    """Return the share of right answers when scores above the threshold count as generated.

    Raises:
        ValueError: a class is missing, or a score is not a number.
    """
    return _one("accuracy", labels, scores, threshold)


def best_direction_auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the AUROC of the scores or of their negatives, whichever is larger: at least 0.5."""
    area = auroc(labels, scores)
    return max(area, 1 - area)


def _one(name: str, labels: ArrayLike, scores: ArrayLike, threshold: float = 0.0) -> float:
    """A metric of plain scores; those above the threshold count as generated."""
    truth, values = _checked(labels, scores)
    if truth.all() or not truth.any():
        raise ValueError("both classes must be present")
    called = (values > threshold).astype(float)
    return float(Sample(truth, values, called, 0.5).measure()[name])


def _first(values: Numbers, reached: NDArray[np.bool_]) -> Numbers:
    """The value at the first place that is reached, along the last axis."""
    place = np.argmax(reached, axis=-1)[..., None]
    return np.asarray(np.take_along_axis(values, place, axis=-1)[..., 0])


def _sigmoid(values: Numbers) -> Numbers:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -700, 700))))


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], Numbers]:
    truth, values = np.asarray(labels).astype(bool), np.asarray(scores, dtype=np.float64)
    if truth.shape != values.shape or truth.ndim != 1:
        raise ValueError("labels and scores are two lists of the same length")
    if np.isnan(values).any():
        raise ValueError("a score is not a number")
    return truth, values
