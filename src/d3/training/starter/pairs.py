"""Content-matched pairs: a camera's picture and the same picture redrawn by a generator.

Scenes are numbered; a split is a range of numbers, so no scene is ever in two splits. Everything
about a pair follows from the seed and the scene's number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from d3.training.starter.camera import draw_camera, photograph
from d3.training.starter.delivery import Delivery, deliver, draw_delivery, to_pixels
from d3.training.starter.filters import Image
from d3.training.starter.forging import Pictures, redraw
from d3.training.starter.generators import Family
from d3.training.starter.matching import match_partner
from d3.training.starter.scenes import render_scene
from d3.training.starter.workers import two_at_a_time

CHUNK = 20  # scenes in float at a time


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
        chosen: Pictures = self.generated[self.family == self.families.index(family)]
        return chosen


def photograph_scene(seed: int, scene: int, size: int) -> Pictures:
    """Render and photograph one scene: [size, size, 3] before any file format."""
    rng = np.random.default_rng([seed, scene, 2])
    picture = photograph(render_scene(seed, scene, 2 * size), draw_camera(rng), rng)
    return to_pixels(picture)


def photograph_scenes(seed: int, scenes: Sequence[int], size: int) -> Pictures:
    """Photograph many scenes: [scenes, size, size, 3]."""
    return np.stack([photograph_scene(seed, scene, size) for scene in scenes])


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
    partner = np.repeat(np.arange(len(scenes)), per_scene)
    turn = np.tile(np.arange(per_scene), len(scenes))
    family = (partner * per_scene + turn) % len(families)
    camera = np.empty((len(scenes), size, size, 3), np.uint8)
    generated = np.empty((len(partner), size, size, 3), np.uint8)

    def make(start: int) -> None:
        """Fill in a few scenes and their forgeries."""
        chunk = scenes[start : start + CHUNK]
        turns = family[start * per_scene : (start + len(chunk)) * per_scene]
        forged = forge_scenes(generators, chunk, turns, seed=seed, size=size)
        for place, (scene, _, pair) in enumerate(forged):
            row = start * per_scene + place
            camera[partner[row]], generated[row] = (
                deliver(p, delivery_of(seed, scene)) for p in pair
            )

    starts = range(0, len(scenes), CHUNK)
    with two_at_a_time() as pool:
        for done, _ in enumerate(pool.map(make, starts), start=1):
            progress(done / len(starts))
    return Pairs(camera, generated, partner, family, families)


def forge_scenes(
    generators: Mapping[Family, nn.Module],
    scenes: Sequence[int],
    turns: NDArray[np.int64],
    *,
    seed: int,
    size: int,
) -> Iterator[tuple[int, Family, tuple[Image, Image]]]:
    """Photograph scenes and have generators redraw them.

    `turns` holds as many positions in `generators` for each scene. Yields scene, family, and the
    matched camera picture and forgery in [0, 1], before any file format.
    """
    families = tuple(generators)
    places = np.repeat(np.arange(len(scenes)), len(turns) // len(scenes))
    originals = photograph_scenes(seed, scenes, size)[places]
    redrawn = np.empty(originals.shape, np.float32)
    for number, name in enumerate(families):
        mine = turns == number
        if mine.any():
            redrawn[mine] = redraw(generators[name], originals[mine], seed=seed + scenes[0])
    for place, turn, original, forgery in zip(places, turns, originals, redrawn, strict=True):
        scene = scenes[int(place)]
        pair = matched_pair(seed, scene, int(turn), original, forgery)
        yield scene, families[turn], pair


def delivery_of(seed: int, scene: int) -> Delivery:
    """Return how a scene's pictures are stored, all in the same way."""
    return draw_delivery(np.random.default_rng([seed, scene, 4]))


def matched_pair(
    seed: int, scene: int, family: int, original: Pictures, redrawn: Image
) -> tuple[Image, Image]:
    """Return a camera picture and its forgery, matched, in [0, 1], before any file format."""
    picture = original.astype(np.float32) / np.float32(255)
    rng = np.random.default_rng([seed, scene, 5, family])
    return picture, match_partner(redrawn, picture, rng)
