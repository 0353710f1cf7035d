"""Procedural scenes: what stands in front of the rendered camera, in linear light.

A scene is a background (sky and ground, wall, gradient, fractal surface) under a few layers
(solid and textured shapes, leaves, grass, writing, buildings, wires, points of light). Every choice
comes from one generator, so a seed and an index name a scene for good.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from d3.training.starter.filters import Image, gaussian_blur
from d3.training.starter.surfaces import colour, cover, fractal, mask, outline, ramp, texture

Painter: TypeAlias = Callable[[np.random.Generator, Image], None]
Background: TypeAlias = Callable[[np.random.Generator, int], Image]


def render_scene(seed: int, index: int, size: int) -> Image:
    """Render scene `index` of `seed` as linear RGB [size, size, 3] in [0, 1]."""
    rng = np.random.default_rng([seed, index, 1])
    background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    scene = np.asarray(background(rng, size), dtype=np.float32)
    for _ in range(rng.integers(1, 6)):
        PAINTERS[rng.integers(len(PAINTERS))](rng, scene)
    if rng.random() < 0.7:
        scene *= 0.5 + ramp(rng, size)[..., None]  # light falls from one side
    return np.clip(scene, 0.0, 1.0)


# Backgrounds.


def _sky(rng: np.random.Generator, size: int) -> Image:
    top = np.array([0.12, 0.3, 0.7], np.float32) * np.float32(rng.uniform(0.3, 1.2))
    haze = np.clip(colour(rng, (0.6, 1.0)), 0.3, 1)
    height = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    scene = np.broadcast_to(top + height * (haze - top), (size, size, 3)).copy()
    clouds = np.clip(fractal(rng, size, 1.8) * 2 - rng.uniform(0.6, 1.4), 0, 1)
    cover(scene, clouds, np.full(3, rng.uniform(0.6, 1.0), np.float32))
    for _ in range(rng.integers(1, 4)):
        level = size * rng.uniform(0.4, 0.9)
        steps = np.cumsum(rng.normal(0, rng.uniform(0.3, 3.0), size))
        ridge = level + steps - np.linspace(0, steps[-1], size)
        land = (np.arange(size)[:, None] > ridge[None, :]).astype(np.float32)
        cover(scene, land, texture(rng, size) * np.float32(rng.uniform(0.3, 1.0)))
    return scene


def _wall(rng: np.random.Generator, size: int) -> Image:
    scene = texture(rng, size)
    joint = colour(rng)
    tall = int(rng.integers(16, 80))
    wide = int(tall * rng.uniform(1, 3))
    gap = int(rng.integers(1, 5))

    def draw(sheet: ImageDraw.ImageDraw) -> None:
        for row, top in enumerate(range(0, size, tall)):
            sheet.rectangle((0, top, size, top + gap - 1), fill=255)
            for left in range(-(row % 2) * wide // 2, size, wide):
                sheet.rectangle((left, top, left + gap - 1, top + tall), fill=255)

    cover(scene, mask(size, draw), joint)
    return np.asarray(scene * (0.8 + 0.4 * fractal(rng, size, 1.0)[..., None]), dtype=np.float32)


def _surface(rng: np.random.Generator, size: int) -> Image:
    return texture(rng, size)


def _backdrop(rng: np.random.Generator, size: int) -> Image:
    first, second = colour(rng), colour(rng)
    return first + ramp(rng, size)[..., None] * (second - first)


# Layers.


def _shape(rng: np.random.Generator, scene: Image) -> None:
    size = scene.shape[0]
    corners = outline(rng, size)
    form = mask(size, lambda sheet: sheet.polygon(corners, fill=255))
    if rng.random() < 0.5:
        shift = tuple(int(s) for s in rng.integers(2, 20, 2))
        shadow = gaussian_blur(np.roll(form, shift, (0, 1))[::2, ::2], rng.uniform(1, 5))
        scene *= 1 - 0.6 * shadow.repeat(2, 0).repeat(2, 1)[..., None]
    paint = texture(rng, size) * (0.4 + 0.8 * ramp(rng, size)[..., None])
    if rng.random() < 0.3:
        form = gaussian_blur(form, rng.uniform(1, 3))  # out of focus
    cover(scene, form, paint)


def _leaves(rng: np.random.Generator, scene: Image) -> None:
    size = scene.shape[0]
    hue, patch = rng.uniform(0.12, 0.45), rng.uniform(0.1, 0.5)
    centre = rng.uniform(0, size, 2)
    sheet = PillowImage.fromarray((np.clip(scene, 0, 1) ** 0.5 * 255).astype(np.uint8))
    draw = ImageDraw.Draw(sheet)
    length = rng.uniform(4, 22)
    for _ in range(rng.integers(80, 500)):
        x, y = rng.normal(centre, size * patch)
        turn, reach = rng.uniform(0, 2 * np.pi), length * rng.uniform(0.5, 1.5)
        dx, dy = reach * np.cos(turn), reach * np.sin(turn)
        bend = rng.uniform(0.15, 0.4)
        tint = colorsys.hsv_to_rgb(hue + rng.normal(0, 0.03), rng.uniform(0.3, 0.9), rng.random())
        blade = [
            (x, y),
            (x + dx / 2 - bend * dy, y + dy / 2 + bend * dx),
            (x + dx, y + dy),
            (x + dx / 2 + bend * dy, y + dy / 2 - bend * dx),
        ]
        draw.polygon(blade, fill=tuple(int(255 * channel) for channel in tint))
    scene[:] = (np.asarray(sheet, dtype=np.float32) / 255) ** 2


def _grass(rng: np.random.Generator, scene: Image) -> None:
    size = scene.shape[0]
    sheet = PillowImage.fromarray((np.clip(scene, 0, 1) ** 0.5 * 255).astype(np.uint8))
    draw = ImageDraw.Draw(sheet)
    base, hue = size * rng.uniform(0.6, 1.05), rng.uniform(0.1, 0.4)
    tall = size * rng.uniform(0.05, 0.4)
    for _ in range(rng.integers(100, 400)):
        x, lean = rng.uniform(0, size), rng.normal(0, 0.25)
        reach = tall * rng.uniform(0.4, 1.2)
        tint = colorsys.hsv_to_rgb(hue + rng.normal(0, 0.02), rng.uniform(0.2, 0.9), rng.random())
        draw.line(
            [
                (x, base),
                (x + lean * reach / 2, base - reach / 2),
                (x + 2 * lean * reach, base - reach),
            ],
            fill=tuple(int(255 * channel) for channel in tint),
            width=int(rng.integers(1, 5)),
        )
    scene[:] = (np.asarray(sheet, dtype=np.float32) / 255) ** 2


def _writing(rng: np.random.Generator, scene: Image) -> None:
    """Rows of made-up letters, each two or three strokes."""
    size = scene.shape[0]
    tall = rng.uniform(8, 48)
    left, top = rng.uniform(0, size * 0.5, 2)
    width = max(1, round(tall * rng.uniform(0.06, 0.2)))
    rows, letters = rng.integers(1, 8), rng.integers(4, 24)

    def draw(sheet: ImageDraw.ImageDraw) -> None:
        for row in range(rows):
            for letter in range(letters):
                if rng.random() < 0.15:
                    continue
                corner = np.array([left + letter * tall * 0.7, top + row * tall * 1.5])
                for _ in range(rng.integers(2, 4)):
                    ends = corner + rng.choice([0.0, 0.5, 1.0], (2, 2)) * [tall * 0.5, tall]
                    if rng.random() < 0.3:
                        low, high = np.minimum(*ends), np.maximum(*ends) + 1
                        sheet.ellipse((*low, *high), outline=255, width=width)
                    else:
                        sheet.line([*ends.ravel()], fill=255, width=width)

    cover(scene, mask(size, draw), colour(rng, (0.0, 1.0)))


def _building(rng: np.random.Generator, scene: Image) -> None:
    size = scene.shape[0]
    left, right = np.sort(rng.uniform(-0.1, 1.1, 2)) * size
    top = rng.uniform(0, 0.6) * size
    across, down = rng.uniform(8, 40, 2)
    cover(
        scene,
        mask(size, lambda sheet: sheet.rectangle((left, top, right, size), fill=255)),
        texture(rng, size),
    )

    def windows(sheet: ImageDraw.ImageDraw) -> None:
        for y in np.arange(top + down / 2, size, down):
            for x in np.arange(left + across / 3, right - across * 0.6, across):
                light = int(rng.integers(60, 256))
                sheet.rectangle((x, y, x + across * 0.5, y + down * 0.5), fill=light)

    cover(scene, mask(size, windows), colour(rng))


def _wires(rng: np.random.Generator, scene: Image) -> None:
    size = scene.shape[0]

    def draw(sheet: ImageDraw.ImageDraw) -> None:
        for _ in range(rng.integers(3, 30)):
            x = np.linspace(-10, size + 10, 12)
            sag = rng.uniform(-0.2, 0.2) * size * (1 - (2 * x / size - 1) ** 2)
            y = rng.uniform(0, size) + rng.normal(0, 0.4) * x + sag
            points = np.stack([x, y] if rng.random() < 0.7 else [y, x], axis=1)
            sheet.line([*points.ravel()], fill=255, width=int(rng.integers(1, 5)))

    cover(scene, mask(size, draw), colour(rng, (0.0, 1.0)))


def _lights(rng: np.random.Generator, scene: Image) -> None:
    size = scene.shape[0]
    glow = colour(rng, (0.6, 1.0))
    radius = rng.uniform(2, 20)

    def draw(sheet: ImageDraw.ImageDraw) -> None:
        for _ in range(rng.integers(5, 40)):
            x, y = rng.uniform(0, size, 2)
            sheet.ellipse(
                (x - radius, y - radius, x + radius, y + radius), fill=int(rng.integers(40, 256))
            )

    scene += mask(size, draw)[..., None] * glow


def _relief(rng: np.random.Generator, scene: Image) -> None:
    """Roughen a region: bark, stone, sand."""
    size = scene.shape[0]
    where = np.clip(4 * fractal(rng, size, 2.2) - rng.uniform(0.5, 3), 0, 1)
    rough = fractal(rng, size, rng.uniform(0.4, 1.2)) - 0.5
    scene *= 1 + rng.uniform(0.3, 1.4) * (where * rough)[..., None]


BACKGROUNDS: tuple[Background, ...] = (_sky, _wall, _surface, _backdrop)
PAINTERS: tuple[Painter, ...] = (
    _shape,
    _shape,
    _leaves,
    _grass,
    _writing,
    _building,
    _wires,
    _lights,
    _relief,
)
