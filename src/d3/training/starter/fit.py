"""Fits a D3: encoder and head together, or a head alone on a frozen encoder.

What requires gradients is trained: freeze the encoder with `requires_grad_(False)` to train the
head alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from d3.domain.inputs import CLIP_DEVIATION
from d3.network import D3Network, Encoder
from d3.training.starter.filters import to_ycbcr
from d3.training.starter.generators import Pictures
from d3.training.starter.pairs import Pairs
from d3.training.starter.parallel import in_bfloat16

GAIN = 40.0  # brings the detail of an ordinary picture to tokens of size one
STEEPNESS = 2.0  # how close the rounded corner of the absolute value comes to zero


def start_as_spectrum(encoder: Encoder, *, seed: int) -> None:
    """Initialise an encoder as a crude spectrum analyser.

    Generators leave traces in the spectrum of fine detail, which a randomly initialised transformer
    learns slowly. So the patch embedding starts as a bank of cosine filters, the first block takes
    absolute values, and the second averages over the patches. All of it goes on learning. The MLPs
    must be no narrower than the tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    filters = cosine_filters(encoder.spec.width, encoder.spec.patch_size)
    deviation = torch.tensor(CLIP_DEVIATION)[None, :, None, None]
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


Batch: TypeAlias = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How long and how fast to learn.

    Attributes:
        pairs_per_batch: pairs, of two pictures each.
        alone_per_batch: photographs without a partner.
        rate: peak learning rate, reached after the warm-up, falling to zero as a half cosine.
        warm_up: share of the steps.
        weight_decay: of AdamW, on matrices only.
    """

    steps: int = 1000
    pairs_per_batch: int = 9
    alone_per_batch: int = 6
    rate: float = 1e-3
    warm_up: float = 0.05
    weight_decay: float = 0.05


def pair_batches(
    pairs: Pairs, alone: Pictures, settings: FitSettings, rng: np.random.Generator
) -> Iterator[Batch]:
    """Yield batches for ever: uint8 [n, S, S, 3], labels [n].

    First the camera pictures of the pairs and the pictures `alone` (label 0), then the pairs'
    forgeries (label 1). Every forgery is seen once before any is seen again. Both of a pair are
    mirrored, or neither.
    """
    count = settings.pairs_per_batch
    forgeries = _in_turns(len(pairs.generated), rng)
    others = _in_turns(len(alone), rng)
    while True:
        rows, more = (
            list(islice(forgeries, count)),
            list(islice(others, settings.alone_per_batch)),
        )
        mirrored = rng.random(count) < 0.5
        real = [*_mirror(pairs.camera[pairs.partner[rows]], mirrored)]
        real += _mirror(alone[more], rng.random(len(more)) < 0.5)
        fake = _mirror(pairs.generated[rows], mirrored)
        labels = torch.cat([torch.zeros(len(real)), torch.ones(len(fake))])
        yield torch.from_numpy(np.stack([*real, *fake])), labels


def _in_turns(count: int, rng: np.random.Generator) -> Iterator[int]:
    """Every number below `count` in random order, again and again."""
    while True:
        yield from rng.permutation(count).tolist()


def _mirror(pictures: Pictures, which: NDArray[np.bool_]) -> list[Pictures]:
    return [one[:, ::-1] if turn else one for one, turn in zip(pictures, which, strict=True)]


def fit(
    network: D3Network,
    batches: Iterator[Batch],
    settings: FitSettings,
    *,
    seed: int,
    progress: Callable[[int, float], None] = lambda _step, _loss: None,
) -> None:
    """Train what requires gradients, in place; every picture gets a fresh permutation each time.

    `progress` gets the step and its loss (binary cross-entropy, in nats).
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(
        [
            {
                "params": [p for p in parameters if p.ndim >= 2],
                "weight_decay": settings.weight_decay,
            },
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=settings.rate,
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _rate_at(step, settings.steps, settings.warm_up)
    )
    network.train()
    for step in range(settings.steps):
        pictures, labels = next(batches)
        orders = torch.rand(len(pictures), 1, network.encoder.spec.patches, generator=generator)
        with in_bfloat16():
            logits = network(pictures, orders.argsort(dim=-1))
        loss = nn.functional.binary_cross_entropy_with_logits(logits.float().squeeze(1), labels)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        progress(step, loss.item())
    network.eval()


def _rate_at(step: int, steps: int, warm_up: float) -> float:
    """Return the share of the peak rate: a linear rise, then half a cosine down to zero."""
    rise = max(1, round(warm_up * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
