"""How well scores tell two classes apart: AUROC, average precision, accuracy.

Labels are 1 for generated and 0 for camera; a higher score leans towards generated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the ROC curve, in [0, 1]; a tie counts half.

    Raises:
        ValueError: a class is missing, or a score is not a number.
    """
    truth, values = _checked(labels, scores)
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[group]  # the middle rank of equal scores
    positives = int(truth.sum())
    negatives = len(truth) - positives
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the precision averaged over the recalls, in [0, 1]; equal scores enter together.

    Raises:
        ValueError: a class is missing, or a score is not a number.
    """
    truth, values = _checked(labels, scores)
    order = np.argsort(-values, kind="stable")
    found = np.cumsum(truth[order])
    last = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    recall = found[last] / found[-1]
    precision = found[last] / (last + 1)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def accuracy(labels: ArrayLike, scores: ArrayLike, threshold: float) -> float:
    """Return the share of right answers when scores above the threshold count as generated.

    Raises:
        ValueError: a class is missing, or a score is not a number.
    """
    truth, values = _checked(labels, scores)
    return float(np.mean((values > threshold) == truth))


def balanced_accuracy(labels: ArrayLike, scores: ArrayLike, threshold: float) -> float:
    """Return the mean of the two classes' shares of right answers.

    Raises:
        ValueError: a class is missing, or a score is not a number.
    """
    truth, values = _checked(labels, scores)
    above = values > threshold
    return float((above[truth].mean() + (~above[~truth]).mean()) / 2)


def best_direction_auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the AUROC of the scores or of their negatives, whichever is larger: at least 0.5."""
    area = auroc(labels, scores)
    return max(area, 1 - area)


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    truth, values = np.asarray(labels).astype(bool), np.asarray(scores, dtype=np.float64)
    if truth.shape != values.shape or truth.ndim != 1:
        raise ValueError("labels and scores are two lists of the same length")
    if truth.all() or not truth.any():
        raise ValueError("both classes must be present")
    if np.isnan(values).any():
        raise ValueError("a score is not a number")
    return truth, values
