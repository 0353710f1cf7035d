"""A head start for a small encoder: it begins as a crude spectrum analyser.

Generators betray themselves in the spectrum of fine detail, which a randomly started transformer
takes long to look at. So training starts from an encoder whose patch embedding is a bank of cosine
filters (the patch embedding is a linear map of 3x14x14 values), whose first block takes absolute
values, and whose second averages over the patches. Everything goes on learning from there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from d3.network import Encoder
from d3.network.encoder import CLIP_STD
from d3.training.starter.filters import to_ycbcr

GAIN = 40.0  # brings the detail of an ordinary picture to tokens of size one
STEEPNESS = 2.0  # how close the rounded corner of the absolute value comes to zero


def start_as_spectrum(encoder: Encoder, *, seed: int) -> None:
    """Set the encoder's weights for a start; its MLPs must be no narrower than its tokens."""
    generator = torch.Generator().manual_seed(seed)
    filters = cosine_filters(encoder.spec.width, encoder.spec.patch_size)
    deviation = torch.tensor(CLIP_STD)[None, :, None, None]
    with torch.no_grad():
        encoder.conv1.weight.copy_(GAIN * torch.from_numpy(filters) * deviation)
        for parameter in (encoder.class_embedding, encoder.positional_embedding):
            parameter.normal_(std=0.02, generator=generator)
        for number, block in enumerate(encoder.transformer.resblocks):
            _pass_through(block)
            if number == 0:
                _take_absolute_values(block)
            elif number == 1:
                _average_patches(block)


def _pass_through(block: Any) -> None:
    """Let a block add nothing to its tokens yet."""
    for layer in (block.attn.out_proj, block.mlp.c_proj):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


def _take_absolute_values(block: Any) -> None:
    """Let the MLP add twice the negative part of each value: x + 2 max(-x, 0) = |x|."""
    width = block.mlp.c_proj.out_features
    each = torch.eye(width)
    block.mlp.c_fc.weight[:width] = -STEEPNESS * each
    block.mlp.c_fc.bias[:width] = 0
    block.mlp.c_proj.weight[:, :width] = (2 / STEEPNESS) * each


def _average_patches(block: Any) -> None:
    """Let every token add the mean of all: equal attention, values handed on as they are."""
    width = block.attn.embed_dim
    query_and_key, value = block.attn.in_proj_weight.split([2 * width, width])
    query_and_key.mul_(0.1)
    value.copy_(torch.eye(width))
    block.attn.out_proj.weight.copy_(torch.eye(width))


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
