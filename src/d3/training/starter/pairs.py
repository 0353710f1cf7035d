"""Pairs of a camera's picture and the same picture redrawn by a generator.

Pictures are rendered scenes or parts of photographs. Both of a pair are stored alike. Scenes
are numbered; a split is a range of numbers, so no scene is in two splits. Everything about a
pair depends on the seed, the split's name and its number alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch import nn

from d3.training.starter.camera import draw_camera, photograph
from d3.training.starter.filters import Image, match_partner
from d3.training.starter.generators import Family, Pictures, redraw
from d3.training.starter.parallel import two_at_a_time
from d3.training.starter.postprocessing import (
    FileFormat,
    PostProcessing,
    cut,
    draw_file_format,
    draw_postprocessing,
    postprocess,
    to_pixels,
)
from d3.training.starter.scenes import render_scene

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


def file_format_of(seed: int, scene: int) -> FileFormat:
    """Return how a scene's pictures are stored, all in the same way."""
    return draw_file_format(np.random.default_rng([seed, scene, 4]))


def matched_pair(
    seed: int, scene: int, family: int, original: Pictures, redrawn: Image
) -> tuple[Image, Image]:
    """Return a camera picture and its forgery, matched, in [0, 1], before any file format."""
    picture = original.astype(np.float32) / np.float32(255)
    rng = np.random.default_rng([seed, scene, 5, family])
    return picture, match_partner(redrawn, picture, rng)


Originals: TypeAlias = Sequence[PillowImage.Image]

SCENE_SIDE = 384


@dataclass(frozen=True, slots=True)
class Cutting:
    """How pictures are cut and redone.

    Attributes:
        sides: the shortest and the longest length of a picture's longer side, in pixels.
        scenes: share of pictures that are cut from rendered scenes instead of photographs.
        matched: share of redone pictures brought to their partner's colour, noise and sharpness.
    """

    sides: tuple[int, int] = (224, 512)
    scenes: float = 0.1
    matched: float = 0.7


@dataclass(frozen=True, slots=True)
class Source:
    """Originals to cut pictures from.

    Attributes:
        split: its name; another name gives other choices.
    """

    split: str
    originals: Originals = field(repr=False)
    seed: int
    cutting: Cutting

    def chance(self, number: int) -> np.random.Generator:
        """The random generator of a picture."""
        return np.random.default_rng([self.seed, zlib.crc32(self.split.encode()), number])

    def picture(self, number: int, chance: np.random.Generator) -> Pictures:
        """Return the `number`-th picture [H, W, 3]; its sides are multiples of eight."""
        if chance.random() < self.cutting.scenes:
            scene = zlib.crc32(self.split.encode()) + number
            original = PillowImage.fromarray(photograph_scene(self.seed, scene, SCENE_SIDE))
        else:
            original = self.originals[int(chance.integers(len(self.originals)))]
        return cut(original, chance, self.cutting.sides)


def redone(
    generator: nn.Module, picture: Pictures, chance: np.random.Generator, matched: float
) -> Image:
    """Return what a generator makes of a picture [H, W, 3], in [0, 1]."""
    forged: Image = redraw(generator, picture[None], seed=int(chance.integers(2**31)))[0]
    if chance.random() < matched:
        return match_partner(forged, picture.astype(np.float32) / np.float32(255), chance)
    return forged


def make_training_pairs(
    generators: Mapping[Family, nn.Module],
    source: Source,
    count: int,
    *,
    size: int,
    progress: Callable[[float], None] = lambda _share: None,
) -> Pairs:
    """Cut `count` pictures and have the generators redo them, taking turns."""
    families = tuple(generators)
    camera = np.empty((count, size, size, 3), np.uint8)
    generated = np.empty_like(camera)
    family = np.empty(count, np.int64)

    def make(number: int) -> None:
        chance = source.chance(number)
        picture, how = source.picture(number, chance), draw_postprocessing(chance)
        family[number] = number % len(families)
        generator = generators[families[family[number]]]
        forged = redone(generator, picture, chance, source.cutting.matched)
        camera[number] = postprocess(picture, how, size)
        generated[number] = postprocess(forged, how, size)

    _each(make, count, progress)
    return Pairs(camera, generated, np.arange(count), family, families)


def make_test_pairs(
    generators: Mapping[Family, nn.Module],
    source: Source,
    count: int,
    conditions: Mapping[str, int],
    *,
    size: int,
    progress: Callable[[float], None] = lambda _share: None,
) -> tuple[dict[str, Pairs], NDArray[np.int64]]:
    """Cut `count` pictures and have every family redo each of them.

    `conditions` names JPEG qualities at which the published files of
    both kinds are compressed once more; 0 leaves them as they are. Returns the pairs under each
    condition, and the longer side [count] of each picture as it was cut.
    """
    families = tuple(generators)
    camera = {name: np.empty((count, size, size, 3), np.uint8) for name in conditions}
    generated = {
        name: np.empty((count * len(families), size, size, 3), np.uint8) for name in conditions
    }
    longer = np.empty(count, np.int64)

    def put(
        into: dict[str, Pictures], row: int, picture: Pictures | Image, how: PostProcessing
    ) -> None:
        for name, quality in conditions.items():
            into[name][row] = postprocess(picture, how.then_jpeg(quality), size)

    def make(number: int) -> None:
        chance = source.chance(number)
        picture, how = source.picture(number, chance), draw_postprocessing(chance)
        longer[number] = max(picture.shape)
        put(camera, number, picture, how)
        for place, family in enumerate(families):
            forged = redone(generators[family], picture, chance, source.cutting.matched)
            put(generated, number * len(families) + place, forged, how)

    _each(make, count, progress)
    partner, family = np.divmod(np.arange(count * len(families)), len(families))
    pairs = {
        name: Pairs(camera[name], generated[name], partner, family, families) for name in conditions
    }
    return pairs, longer


def make_photographs(
    source: Source,
    count: int,
    *,
    size: int,
    progress: Callable[[float], None] = lambda _share: None,
) -> Pictures:
    """Cut `count` pictures without a partner: [count, size, size, 3]."""
    pictures = np.empty((count, size, size, 3), np.uint8)

    def make(number: int) -> None:
        chance = source.chance(number)
        picture = source.picture(number, chance)
        pictures[number] = postprocess(picture, draw_postprocessing(chance), size)

    _each(make, count, progress)
    return pictures


def _each(make: Callable[[int], None], count: int, progress: Callable[[float], None]) -> None:
    with two_at_a_time() as pool:
        for done, _ in enumerate(pool.map(make, range(count)), start=1):
            progress(done / count)
