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
from d3.training.forging import Pictures
from d3.training.pairs import Pairs
from d3.training.workers import in_bfloat16

Batch: TypeAlias = tuple[Tensor, Tensor]

HEAD_CHUNK = 32
HEAD_BATCH = 128


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How long and how fast to learn.

    Attributes:
        steps: optimiser steps.
        pairs_per_batch: pairs, of two pictures each.
        alone_per_batch: photographs beside them that nobody redid.
        head_steps: before them, of the head alone, on features of the encoder as it begins.
        head_rate: peak learning rate of these.
        rate: peak learning rate, reached after the warm-up, falling to zero as a half cosine.
        warm_up: share of the steps.
        weight_decay: of AdamW, on matrices only.
    """

    steps: int = 1000
    pairs_per_batch: int = 9
    alone_per_batch: int = 6
    head_steps: int = 2000
    head_rate: float = 2e-3
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


def fit_head(
    network: D3Network,
    pictures: Pictures,
    labels: NDArray[np.bool_],
    settings: FitSettings,
    *,
    seed: int,
) -> None:
    """Train the head alone, in place, on the features that the encoder gives as it is.

    Args:
        network: its encoder stays as it is.
        pictures: [n, S, S, 3]; each is encoded once, with a permutation of its own.
        labels: [n], whether generated; both kinds weigh the same.
        settings: `head_steps` and `head_rate` count.
        seed: of the permutations and the order.
    """
    chance = torch.Generator().manual_seed(seed)
    network.eval()
    chunks = []
    with torch.inference_mode():
        for start in range(0, len(pictures), HEAD_CHUNK):
            chunk = torch.from_numpy(pictures[start : start + HEAD_CHUNK])
            orders = torch.rand(len(chunk), 1, network.encoder.spec.patches, generator=chance)
            chunks.append(torch.stack(_pair_of(network.features(chunk, orders.argsort(-1))), 1))
    features, truth = torch.cat(chunks).clone(), torch.from_numpy(labels).float()
    weight = torch.where(truth > 0, 0.5 / truth.mean(), 0.5 / (1 - truth.mean()))
    optimiser = torch.optim.AdamW(
        network.head.parameters(), lr=settings.head_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _rate_at(step, settings.head_steps, settings.warm_up)
    )
    for _ in range(settings.head_steps):
        rows = torch.randint(len(features), (HEAD_BATCH,), generator=chance)
        logits = network.head(features[rows, 1], features[rows, 0])
        loss = nn.functional.binary_cross_entropy_with_logits(
            logits, truth[rows], weight=weight[rows]
        )
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()


def _pair_of(features: tuple[Tensor, Tensor]) -> list[Tensor]:
    """The original's features and the one shuffled image's, both [n, width]."""
    original, shuffled = features
    return [original, shuffled[:, 0]]


def _rate_at(step: int, steps: int, warm_up: float) -> float:
    """Return the share of the peak rate: a linear rise, then half a cosine down to zero."""
    rise = max(1, round(warm_up * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
