"""Content-matched pairs: a camera's picture and the same picture redrawn by a generator.

Scenes are numbered; a split is a range of numbers, so no scene is ever in two splits. Everything
about a pair follows from the seed and the scene's number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from d3.training.camera import draw_camera, photograph
from d3.training.delivery import deliver, draw_delivery, to_pixels
from d3.training.forging import Pictures, redraw
from d3.training.generators import Family
from d3.training.matching import match_partner
from d3.training.scenes import render_scene

THREADS = 2
CHUNK = 64  # scenes in float at a time


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pictures as they leave the common file format, uint8 RGB.

    Attributes:
        camera: [scenes, S, S, 3].
        generated: [forgeries, S, S, 3].
        partner: [forgeries] rows of `camera` that the forgeries redraw.
        family: [forgeries] positions in `families`.
        families: the generator families that took part.
    """

    camera: Pictures
    generated: Pictures
    partner: NDArray[np.int64]
    family: NDArray[np.int64]
    families: tuple[Family, ...]

    def of(self, family: Family) -> Pictures:
        """Return one family's forgeries."""
        return self.generated[self.family == self.families.index(family)]


def photograph_scene(seed: int, scene: int, size: int) -> Pictures:
    """Render and photograph one scene: [size, size, 3] before any file format."""
    rng = np.random.default_rng([seed, scene, 2])
    return to_pixels(photograph(render_scene(seed, scene, 2 * size), draw_camera(rng), rng))


def photograph_scenes(seed: int, scenes: Sequence[int], size: int) -> Pictures:
    """Photograph many scenes: [scenes, size, size, 3]."""
    with ThreadPoolExecutor(THREADS) as pool:
        return np.stack(list(pool.map(lambda scene: photograph_scene(seed, scene, size), scenes)))


def make_pairs(
    generators: Mapping[Family, nn.Module],
    scenes: range,
    *,
    seed: int,
    size: int,
    per_scene: int,
    progress: Callable[[float], None] = lambda _: None,
) -> Pairs:
    """Photograph scenes and have `per_scene` of the generators redraw each, taking turns."""
    families = tuple(generators)
    count = len(scenes) * per_scene
    camera = np.empty((len(scenes), size, size, 3), np.uint8)
    generated = np.empty((count, size, size, 3), np.uint8)
    partner = np.repeat(np.arange(len(scenes)), per_scene)
    turn = np.tile(np.arange(per_scene), len(scenes))
    family = (partner * per_scene + turn) % len(families)
    for start in range(0, len(scenes), CHUNK):
        chunk = scenes[start : start + CHUNK]
        originals = photograph_scenes(seed, chunk, size)
        first, last = start * per_scene, (start + len(chunk)) * per_scene
        redrawn = np.empty((last - first, size, size, 3), np.float32)
        for number, name in enumerate(families):
            rows = np.flatnonzero(family[first:last] == number)
            if len(rows):
                wanted = originals[partner[first:last][rows] - start]
                redrawn[rows] = redraw(generators[name], wanted, seed=seed + scenes[start])

        def finish(row: int) -> None:
            """Match one forgery with its partner, and store both the same way."""
            scene = partner[row] - start
            delivery = draw_delivery(np.random.default_rng([seed, chunk[scene], 4]))
            rng = np.random.default_rng([seed, chunk[scene], 5, int(family[row])])
            picture = originals[scene].astype(np.float32) / 255
            generated[row] = deliver(match_partner(redrawn[row - first], picture, rng), delivery)
            if row % per_scene == 0:
                camera[start + scene] = deliver(picture, delivery)

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(finish, range(first, last)))
        progress((start + len(chunk)) / len(scenes))
    return Pairs(camera, generated, partner, family, families)
