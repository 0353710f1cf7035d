"""A handful of example files of both kinds, from scenes that no training has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image as PillowImage
from torch import nn

from d3.training.delivery import to_pixels
from d3.training.forging import redraw
from d3.training.generators import Family
from d3.training.pairs import matched_pair, photograph_scene

_SUFFIXES = ("jpg", "png", "webp", "jpg", "webp")
_QUALITY = 90


def write_examples(
    folder: Path,
    generators: Mapping[Family, nn.Module],
    scenes: Sequence[int],
    *,
    seed: int,
    size: int = 224,
) -> list[Path]:
    """Write a camera picture and a forgery of each scene; return the files, two per scene.

    Families and file formats take turns. Both files of a scene have the same format and quality, so
    neither tells the kind: `camera-01.jpg`, `generated-01-transposed.jpg`, `camera-02.png`, ...
    """
    folder.mkdir(parents=True, exist_ok=True)
    families = tuple(generators)
    files = []
    for count, scene in enumerate(scenes):
        number = count % len(families)
        family = families[number]
        original = photograph_scene(seed, scene, size)
        redrawn = redraw(generators[family], original[None], seed=seed + scene)[0]
        pair = matched_pair(seed, scene, number, original, redrawn)
        suffix = _SUFFIXES[count % len(_SUFFIXES)]
        names = (f"camera-{count + 1:02}", f"generated-{count + 1:02}-{family}")
        for name, picture in zip(names, pair, strict=True):
            file = folder / f"{name}.{suffix}"
            PillowImage.fromarray(to_pixels(picture)).save(file, quality=_QUALITY)
            files.append(file)
    return files
