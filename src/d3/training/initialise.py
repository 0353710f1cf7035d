"""A head start for a small encoder: its patch embedding begins as a bank of cosine filters.

Generators betray themselves in fine detail, which a randomly started transformer takes long to look
at. The patch embedding is a linear map of 3x14x14 values, so it can begin as part of the discrete
cosine transform of the patch's luma and colour differences; training goes on from there.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from d3.network import Encoder
from d3.network.encoder import CLIP_STD
from d3.training.filters import to_ycbcr

GAIN = 40.0  # brings the detail of an ordinary picture to tokens of size one


def start_from_cosines(encoder: Encoder, *, seed: int) -> None:
    """Set the patch embedding to cosine filters, and the tokens' other parts to small noise."""
    generator = torch.Generator().manual_seed(seed)
    filters = cosine_filters(encoder.spec.width, encoder.spec.patch_size)
    deviation = torch.tensor(CLIP_STD)[None, :, None, None]
    with torch.no_grad():
        encoder.conv1.weight.copy_(GAIN * torch.from_numpy(filters) * deviation)
        for parameter in (encoder.class_embedding, encoder.positional_embedding):
            parameter.normal_(std=0.02, generator=generator)


def cosine_filters(count: int, side: int) -> NDArray[np.float32]:
    """Return `count` filters [count, 3, side, side] on RGB, none of which sees a plain colour.

    Half look at luma and a quarter at each colour difference. Frequencies lie on an even lattice
    from coarse to the finest; each is weighted by its frequency, as pictures hold less of the high.
    """
    steps = (np.arange(side) + 0.5) * np.pi / side
    basis = np.cos(np.outer(np.arange(side), steps)) * np.sqrt(2 / side)
    basis[0] /= np.sqrt(2)
    to_planes = to_ycbcr(np.eye(3, dtype=np.float32)).T  # rows: luma and colour differences of RGB
    shares = (count - 2 * (count // 4), count // 4, count // 4)
    bank = []
    for plane, share in zip(to_planes, shares, strict=True):
        for vertical, horizontal in _frequencies(share, side):
            weight = np.hypot(vertical, horizontal) / side
            pattern = weight * np.outer(basis[vertical], basis[horizontal])
            bank.append(plane[:, None, None] * pattern)
    return np.stack(bank).astype(np.float32)


def _frequencies(count: int, side: int) -> list[tuple[int, int]]:
    """Spread `count` pairs of frequencies over the square lattice, without the constant one."""
    every = [(v, h) for v in range(side) for h in range(side) if v or h]
    every.sort(key=lambda pair: (pair[0] + pair[1], pair))
    chosen = np.linspace(0, len(every) - 1, count).round().astype(int)
    return [every[index] for index in chosen]
