"""The logits of parts of an image: the network sees one window of patches at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from d3.domain.models import EncoderSpec
from d3.network.encoder import with_class_token
from d3.network.model import D3Network

SIDE = 4
"""Patches along a window's side."""

_TOKENS_AT_ONCE = 2048


def parts(spec: EncoderSpec) -> int:
    """How many parts the windows are scored in; each costs about as much as an image."""
    side = min(SIDE, spec.grid)
    return math.ceil(_count(spec) * (side**2 + 1) / (spec.grid**2 + 1))


def window_logits(
    network: D3Network, pixels: Tensor, permutations: Tensor, start: int, stop: int
) -> Tensor:
    """Logits (windows,) of the windows in parts ``start`` to ``stop``.

    A window's patches go through both branches at the places they have there; all others are left
    out. All windows together cost about as much as twenty encodings.

    Args:
        network: in evaluation mode.
        pixels: uint8 RGB (1, S, S, 3).
        permutations: (K, patches); a window's logit is the mean over them.
        start: the first part.
        stop: one past the last, at most :func:`parts`.
    """
    encoder = network.encoder
    spec, views = encoder.spec, len(permutations)
    first_window, end = (_count(spec) * part // parts(spec) for part in (start, stop))
    windows = _windows(spec, pixels.device)[first_window:end]
    patches = with_class_token(encoder.embed(pixels))
    tokens = patches + encoder.permuted_positions(permutations)
    first = torch.zeros(len(windows), 1, dtype=windows.dtype, device=windows.device)
    rows = torch.cat([first, windows + 1], dim=1)
    logits = []
    for some in torch.split(rows, max(1, _TOKENS_AT_ONCE // (rows.shape[1] * (1 + views)))):
        seen = tokens[:, some].transpose(0, 1)
        features = encoder.encode_tokens(seen.flatten(0, 1)).float()
        features = features.view(len(some), 1 + views, -1)
        logits.append(network.head.views(features[:, 0], features[:, 1:]).mean(dim=1))
    return torch.cat(logits)


def averaged(logits: Tensor, spec: EncoderSpec) -> Tensor:
    """Logits (grid, grid): for each patch the mean of the windows (windows,) that hold it."""
    windows = _windows(spec, logits.device)
    total = torch.zeros(spec.grid**2, dtype=torch.float64, device=logits.device)
    count = torch.zeros_like(total)
    every = logits.double()[:, None].expand(windows.shape)
    total.index_add_(0, windows.flatten(), every.flatten())
    count.index_add_(0, windows.flatten(), torch.ones_like(total).new_ones(windows.numel()))
    return (total / count).view(spec.grid, spec.grid)


def _count(spec: EncoderSpec) -> int:
    """The number of windows."""
    return (spec.grid - min(SIDE, spec.grid) + 1) ** 2


def _windows(spec: EncoderSpec, device: torch.device) -> Tensor:
    """The patches (windows, side * side) of every window."""
    side = min(SIDE, spec.grid)
    places = torch.arange(spec.grid**2, device=device).view(spec.grid, spec.grid)
    return places.unfold(0, side, 1).unfold(1, side, 1).reshape(-1, side * side)
