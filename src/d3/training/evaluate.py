"""Scoring pictures with a network, and measuring how well the scores tell each family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from d3.evaluation.metrics import (
    accuracy,
    auroc,
    average_precision,
    balanced_accuracy,
    best_direction_auroc,
)
from d3.network import D3Network
from d3.training.baselines import BASELINES
from d3.training.delivery import recompress
from d3.training.forging import Pictures
from d3.training.generators import Family
from d3.training.pairs import Pairs
from d3.training.workers import two_at_a_time

Logits: TypeAlias = NDArray[np.float64]
Figures: TypeAlias = dict[str, float]

CONDITIONS: Mapping[str, int] = {"clean": 0, "jpeg90": 90, "jpeg75": 75, "jpeg50": 50}
"""Qualities at which test pictures are compressed once more; 0 leaves them as they are."""


def score(
    network: D3Network,
    pictures: Pictures,
    permutations: Sequence[Sequence[int]],
    batch_size: int = 32,
) -> Logits:
    """Return the mean logit [n] over the permutations, computed in float32."""
    orders = torch.tensor(permutations)
    chunks = []
    with torch.inference_mode():
        for start in range(0, len(pictures), batch_size):
            chunk = torch.from_numpy(pictures[start : start + batch_size])
            chunks.append(network(chunk, orders).mean(dim=1).double().numpy())
    return np.concatenate(chunks)


def evaluate(
    network: D3Network,
    pairs: Pairs,
    permutations: Sequence[Sequence[int]],
    groups: Mapping[str, Sequence[Family]],
) -> dict[str, dict[str, Figures]]:
    """Measure under every condition each family, and each named group of families together.

    A family's forgeries stand against all camera pictures; `groups` must name families of `pairs`.
    Logits above zero count as generated.
    """

    def measure(quality: int) -> dict[str, Figures]:
        camera = score(network, compress(pairs.camera, quality), permutations)
        forged = {
            family: score(network, compress(pairs.of(family), quality), permutations)
            for family in pairs.families
        }
        figures = {str(family): _figures(camera, logits) for family, logits in forged.items()}
        for name, members in groups.items():
            together = np.concatenate([forged[family] for family in members])
            figures[name] = _figures(camera, together)
        return figures

    with two_at_a_time() as pool:
        return dict(zip(CONDITIONS, pool.map(measure, CONDITIONS.values()), strict=True))


def evaluate_baselines(pairs: Pairs) -> dict[str, Figures]:
    """Return, per family, the AUROC of each trivial detector in its better direction."""
    camera = {name: [measure(p) for p in pairs.camera] for name, measure in BASELINES.items()}
    results: dict[str, Figures] = {}
    for family in pairs.families:
        forged = pairs.of(family)
        labels = [0] * len(pairs.camera) + [1] * len(forged)
        results[str(family)] = {
            name: best_direction_auroc(labels, camera[name] + [measure(p) for p in forged])
            for name, measure in BASELINES.items()
        }
    return results


def compress(pictures: Pictures, quality: int) -> Pictures:
    """Return pictures [n, S, S, 3] as JPEG of that quality shows them; 0 leaves them alone."""
    if not quality:
        return pictures
    return np.stack([recompress(picture, quality) for picture in pictures])


def _figures(camera: Logits, forged: Logits) -> Figures:
    labels = np.repeat([0, 1], [len(camera), len(forged)])
    logits = np.concatenate([camera, forged])
    return {
        "auroc": auroc(labels, logits),
        "average_precision": average_precision(labels, logits),
        "accuracy": accuracy(labels, logits, 0.0),
        "balanced_accuracy": balanced_accuracy(labels, logits, 0.0),
        "generated": float(len(forged)),
        "camera": float(len(camera)),
    }
