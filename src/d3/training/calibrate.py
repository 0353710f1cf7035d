"""Making a logit mean what it says: Platt scaling on held-out pictures, folded into the head."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike

from d3.network import DiscrepancyHead


def fit_calibration(labels: ArrayLike, logits: ArrayLike) -> tuple[float, float]:
    """Return the scale and bias that make `sigmoid(scale * logit + bias)` likeliest.

    Newton's method on the two parameters (Platt, 1999), with his softened targets, so that
    separable classes have a finite answer. The scale is kept positive, for the order to stay.
    """
    truth = np.asarray(labels).astype(bool)
    values = np.asarray(logits, dtype=np.float64)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    targets = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    spread = values.std() + 1e-12
    inputs = np.stack([values / spread, np.ones_like(values)], axis=1)
    weights = np.array([1.0, 0.0])
    for _ in range(100):
        guesses = _sigmoid(inputs @ weights)
        gradient = inputs.T @ (guesses - targets)
        curvature = (inputs * (guesses * (1 - guesses))[:, None]).T @ inputs
        step = np.linalg.solve(curvature + 1e-6 * np.eye(2), gradient)
        weights -= step / max(1.0, np.linalg.norm(step))
        if np.abs(step).max() < 1e-9:
            break
    return max(float(weights[0] / spread), 1e-3), float(weights[1])


def fold_calibration(head: DiscrepancyHead, scale: float, bias: float) -> None:
    """Scale and shift the head's logits for good, in place: no calibration is needed any more."""
    with torch.no_grad():
        head.fc.weight.mul_(scale)
        head.fc.bias.mul_(scale).add_(bias)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -60, 60))))
