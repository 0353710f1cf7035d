"""A rendered data set as files: camera pictures, and what every generator makes of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from torch import nn

from d3.domain.errors import RequestInvalid
from d3.evaluation.files import writing
from d3.training.starter.generators import Family, Pictures, train_generators
from d3.training.starter.pairs import CHUNK, file_format_of, forge_scenes, photograph_scene
from d3.training.starter.parallel import one_core_each, two_at_a_time
from d3.training.starter.postprocessing import encode

SIZE = 224
LEARNT_FROM = 100_000  # no scene that is written has so high a number
_FULL = (300, 300)  # scenes for the generators to learn from, and steps of learning
_QUICK = (16, 25)

Progress: TypeAlias = Callable[[str, float], None]


@one_core_each()
def render_dataset(
    out: Path,
    *,
    seed: int = 0,
    scenes: int = 150,
    quick: bool = False,
    progress: Progress = lambda _stage, _share: None,
) -> int:
    """Write ``real/SCENE`` and ``fake/FAMILY/SCENE`` below ``out``, which must not be there yet.

    Both files of a scene have the same size, format and quality. The generators learn from other
    scenes. ``quick`` trains them for a moment only: good enough for trying a command. Everything
    follows from the seed. Returns the number of files.

    Raises:
        RequestInvalid: ``out`` is there already.
        StorageFailed: it cannot be written; nothing is left behind.
    """
    if out.exists():
        raise RequestInvalid(f"{out} already exists.", "Choose a new folder.")
    learnt, steps = _QUICK if quick else _FULL
    generators = train_generators(
        _photographed(range(LEARNT_FROM, LEARNT_FROM + learnt), seed),
        steps=steps,
        seed=seed,
        progress=partial(progress, "generators"),
    )
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
        try:
            count = _write(unfinished, generators, list(range(scenes)), seed, progress)
            unfinished.chmod(0o755)
            unfinished.replace(out)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return count


def _photographed(scenes: range, seed: int) -> Pictures:
    """Photograph scenes, two at a time."""
    with two_at_a_time() as pool:
        return np.stack(list(pool.map(partial(photograph_scene, seed, size=SIZE), scenes)))


def _write(
    folder: Path,
    generators: Mapping[Family, nn.Module],
    scenes: list[int],
    seed: int,
    progress: Progress,
) -> int:
    for name in ("real", *(f"fake/{family}" for family in generators)):
        (folder / name).mkdir(parents=True)

    def make(chunk: list[int]) -> int:
        turns = np.tile(np.arange(len(generators)), len(chunk))
        for scene, family, pair in forge_scenes(generators, chunk, turns, seed=seed, size=SIZE):
            for picture, kind in zip(pair, ("real", f"fake/{family}"), strict=True):
                content, suffix = encode(picture, file_format_of(seed, scene))
                (folder / kind / f"{scene:05}.{suffix}").write_bytes(content)
        return len(chunk)

    chunks = [scenes[start : start + CHUNK] for start in range(0, len(scenes), CHUNK)]
    done = 0
    with two_at_a_time() as pool:
        for count in pool.map(make, chunks):
            done += count
            progress("pictures", done / len(scenes))
    return done * (1 + len(generators))
