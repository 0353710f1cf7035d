"""A handful of example pictures of both kinds, from scenes that no training has seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from torch import nn

from d3.training.forging import Pictures
from d3.training.generators import Family
from d3.training.pairs import Pairs

_FORMATS: tuple[tuple[str, Mapping[str, int | bool]], ...] = (
    ("jpg", {"quality": 92}),
    ("png", {}),
    ("webp", {"quality": 92}),
)


def write_examples(pairs: Pairs, folder: Path) -> list[Path]:
    """Write the first scenes of `pairs` as files named by their kind; return the files.

    For each family in turn: one scene's camera picture and another scene's forgery, so that no two
    files show the same scene. Formats take turns alike for both kinds.
    """
    raise NotImplementedError
