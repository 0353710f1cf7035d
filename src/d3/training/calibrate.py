"""Folding a fitted calibration into the head, so that the model needs none."""

from __future__ import annotations

import torch

from d3.network import DiscrepancyHead


def fold_calibration(head: DiscrepancyHead, scale: float, bias: float) -> None:
    """Scale and shift the head's logits for good, in place: no calibration is needed any more."""
    with torch.no_grad():
        head.fc.weight.mul_(scale)
        head.fc.bias.mul_(scale).add_(bias)
