"""D3 itself: an image beside its patch-shuffled self, told apart by an attention head.

::

    pixels ──embed──> patches ──┬── as they are ──┐
                                ├── permuted 1 ───┤ encode, in ──> features ──> head ──> K logits
                                └── permuted K ───┘ one forward    (1 + K)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from d3.network.encoder import Encoder
from d3.network.head import DiscrepancyHead


class D3Network(nn.Module):
    """The Discrepancy Deepfake Detector (Yang et al., CVPR 2025), with one logit per view.

    A shuffled image is the same patches at other positions, so the patch embedding is computed
    once and its rows are permuted: exact, since the shuffle's grid is the encoder's own.
    """

    def __init__(self, encoder: Encoder, head: DiscrepancyHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def features(self, pixels: Tensor, permutations: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the original and of each shuffled image.

        Args:
            pixels: uint8 RGB (n, S, S, 3).
            permutations: (K, patches), the same for every image, or (n, K, patches).

        Returns:
            (n, width) and (n, K, width), float32, from ``n * (1 + K)`` encodings in one forward.
        """
        patches = self.encoder.embed(pixels)
        count, positions, width = patches.shape
        orders = permutations.expand(count, -1, positions)
        views = orders.shape[1]
        rows = orders.reshape(count, views * positions, 1).expand(-1, -1, width)
        shuffled = patches.gather(1, rows).view(count, views, positions, width)
        branches = torch.cat([patches.unsqueeze(1), shuffled], dim=1)
        encoded = self.encoder.encode(branches.flatten(0, 1)).float()
        encoded = encoded.view(count, 1 + views, width)
        return encoded[:, 0], encoded[:, 1:]

    def forward(self, pixels: Tensor, permutations: Tensor) -> Tensor:
        """Logits (n, K), float32; arguments as for :meth:`features`."""
        original, shuffled = self.features(pixels, permutations)
        logits: Tensor = self.head(shuffled, original.unsqueeze(1).expand_as(shuffled))
        return logits
