"""Fitting a D3: encoder and head together, or a head alone on a frozen encoder.

What is trained is whatever requires gradients: freeze the encoder with `requires_grad_(False)` and
the same loop trains the head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from d3.network import D3Network
from d3.training.starter.forging import Pictures
from d3.training.starter.pairs import Pairs
from d3.training.starter.workers import in_bfloat16

Batch: TypeAlias = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How long and how fast to learn.

    Attributes:
        steps: optimiser steps.
        pairs_per_batch: pairs, of two pictures each.
        alone_per_batch: photographs beside them that nobody redid.
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

    `progress` is told the step and its loss (binary cross-entropy, in nats).
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
