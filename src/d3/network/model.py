"""Heads on an encoder: D3's, which compares an image with its patch-shuffled versions, and a probe.

::

    pixels ──embed──> patches ──┬── as they are ──┐
                                ├── permuted 1 ───┤ encode, in ──> features ──> head ──> K logits
                                └── permuted K ───┘ one forward    (1 + K)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from d3.network.encoder import Encoder, with_class_token


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

    def views(self, original: Tensor, shuffled: Tensor) -> Tensor:
        """Logits (n, K) of features (n, width) and (n, K, width)."""
        logits: Tensor = self(shuffled, original.unsqueeze(1).expand_as(shuffled))
        return logits


class ProbeHead(nn.Module):
    """UniversalFakeDetect (Ojha et al., CVPR 2023): one linear layer on CLIP's projected feature.

    Args:
        width: of the feature.
        projected: columns of CLIP's projection.
    """

    def __init__(self, width: int, projected: int) -> None:
        super().__init__()
        self.proj = nn.Parameter(nn.init.normal_(torch.empty(width, projected), std=width**-0.5))
        self.fc = nn.Linear(projected, 1)

    def forward(self, original: Tensor) -> Tensor:
        """Logits (...) of features (..., width); above 0 leans towards generated."""
        logit: Tensor = self.fc(original @ self.proj)
        return logit.squeeze(-1)

    def views(self, original: Tensor, shuffled: Tensor) -> Tensor:
        """Logits (n, max(K, 1)), all the same: it does not look at the shuffled images."""
        logits: Tensor = self(original)
        return logits.unsqueeze(1).expand(-1, max(1, shuffled.shape[1]))


class HeadsBeside(nn.Module):
    """Several heads on the same features.

    Args:
        heads: two or more.
    """

    def __init__(self, heads: Sequence[DiscrepancyHead | ProbeHead]) -> None:
        super().__init__()
        self.heads = tuple(heads)
        self._registered = nn.ModuleList(heads)

    def views(self, original: Tensor, shuffled: Tensor) -> Tensor:
        """Each head's logits in turn, side by side."""
        return torch.cat([one.views(original, shuffled) for one in self.heads], dim=1)


def draw_permutations(seed: int, count: int, patches: int) -> tuple[tuple[int, ...], ...]:
    """``count`` orders of ``patches`` patches.

    Drawn by sorting raw 64-bit words of PCG64, whose stream NumPy guarantees for ever (the stream
    of ``Generator.permutation`` it does not).
    """
    words = np.random.PCG64(seed).random_raw(count * patches).reshape(count, patches)
    return tuple(tuple(map(int, np.argsort(row, kind="stable"))) for row in words)


class D3Network(nn.Module):
    """The Discrepancy Deepfake Detector (Yang et al., CVPR 2025), with one logit per view.

    With another head, or several, it is another detector on the same encoder.

    A shuffled image is the same patches at other positions, so the patch embedding is computed
    once, and a branch is a permutation of the positions: exact, since the shuffle's grid is the
    encoder's own and attention does not see in which order its tokens lie.
    """

    def __init__(self, encoder: Encoder, head: DiscrepancyHead | ProbeHead | HeadsBeside) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def features(self, pixels: Tensor, permutations: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the original and of each shuffled image.

        Args:
            pixels: uint8 RGB (n, S, S, 3).
            permutations: (K, patches), the same for every image, or (n, K, patches). K may be 0.

        Returns:
            (n, width) and (n, K, width), float32, from ``n * (1 + K)`` encodings in one forward.
        """
        branches = self.branches(pixels, permutations)
        if self.training or self.encoder.tricks.one_forward:
            encoded = self.encoder.encode_tokens(branches.flatten(0, 1))
            encoded = encoded.view(*branches.shape[:2], -1)
        else:
            each = [self.encoder.encode_tokens(one) for one in branches.unbind(1)]
            encoded = torch.stack(each, dim=1)
        encoded = encoded.float()
        return encoded[:, 0], encoded[:, 1:]

    def branches(self, pixels: Tensor, permutations: Tensor) -> Tensor:
        """Tokens (n, 1 + K, 1 + patches, width): the original's, then the shuffled images'."""
        encoder, patches = self.encoder, self.encoder.embed(pixels)
        if not self.training and encoder.tricks.permuted_positions:
            positions = encoder.permuted_positions(permutations)
            return with_class_token(patches).unsqueeze(1) + positions
        count, places, width = patches.shape
        orders = permutations.expand(count, -1, places)
        rows = orders.reshape(count, -1, 1).expand(-1, -1, width)
        shuffled = patches.gather(1, rows).view(count, -1, places, width)
        branches = torch.cat([patches.unsqueeze(1), shuffled], dim=1)
        return with_class_token(branches) + encoder.positions

    def forward(self, pixels: Tensor, permutations: Tensor) -> Tensor:
        """Logits (n, columns), float32: of each head, K. Arguments as for :meth:`features`."""
        return self.head.views(*self.features(pixels, permutations))
