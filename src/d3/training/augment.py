"""Random changes to training pictures that leave the answer as it is, alike for both of a pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from d3.training.delivery import recompress
from d3.training.forging import Pictures


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How often and how far pictures are changed.

    Attributes:
        jpeg: share of pairs compressed once more.
        lowest_quality: of that compression; the highest is 95.
    """

    jpeg: float = 0.5
    lowest_quality: int = 45


def augment_pair(
    camera: Pictures, generated: Pictures, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[Pictures, Pictures]:
    """Mirror, turn and recompress both pictures [S, S, 3] of a pair in the same way."""
    turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
    quality = 0
    if rng.random() < augmentation.jpeg:
        quality = int(rng.integers(augmentation.lowest_quality, 96))
    changed = []
    for picture in (camera, generated):
        pixels = np.rot90(picture, turns)
        pixels = np.ascontiguousarray(pixels[:, ::-1] if mirrored else pixels)
        changed.append(recompress(pixels, quality) if quality else pixels)
    return changed[0], changed[1]
