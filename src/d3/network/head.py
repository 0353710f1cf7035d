"""The attention head of D3: two features in, one logit out (section 3.3 of the paper)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class DiscrepancyHead(nn.Module):
    """Single-head self-attention over the pair of features, flattened into one linear layer.

    Parameter names are those of the published checkpoint ``classifier.pth``.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.fc = nn.Linear(2 * width, 1)

    def forward(self, shuffled: Tensor, original: Tensor) -> Tensor:
        """Logits (...) of two features (..., width); above 0 leans towards generated."""
        pair = torch.stack([shuffled, original], dim=-2)
        scores = self.query(pair) @ self.key(pair).mT / math.sqrt(self.width)
        # The published weights were trained with the softmax over the queries, not the keys.
        attended = scores.softmax(dim=-2) @ self.value(pair)
        logit: Tensor = self.fc(attended.flatten(-2))
        return logit.squeeze(-1)
