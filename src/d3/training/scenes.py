"""Procedural scenes: what stands in front of the rendered camera, in linear light.

A scene is a background (sky and ground, wall, gradient, fractal surface) under a few layers
(solid and textured shapes, leaves, grass, writing, buildings, wires, points of light). Every choice
comes from one generator, so a seed and an index name a scene for good.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from d3.training.filters import Image, gaussian_blur

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
        scene *= 0.5 + _ramp(rng, size)[..., None]  # light falls from one side
    return np.clip(scene, 0.0, 1.0)


# Ingredients: colour, ramps, fractal surfaces, masks.


def _colour(rng: np.random.Generator, value: tuple[float, float] = (0.08, 0.95)) -> Image:
    """Draw a linear RGB colour, seldom saturated, with the given range of brightness."""
    hue, saturation = rng.random(), rng.beta(1.6, 2.6)
    return np.array(
        colorsys.hsv_to_rgb(hue, saturation, rng.uniform(*value) ** 1.6), dtype=np.float32
    )


def _ramp(rng: np.random.Generator, size: int) -> Image:
    """Return a linear or radial ramp [size, size] in [0, 1]."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    if rng.random() < 0.3:
        centre = rng.uniform(0.1, 0.9, 2)
        ramp = 1.2 * np.hypot(rows - centre[0], columns - centre[1])
    else:
        angle = rng.uniform(0, 2 * np.pi)
        ramp = math.cos(angle) * (rows - 0.5) + math.sin(angle) * (columns - 0.5) + 0.5
    return np.asarray(np.clip(ramp, 0, 1), dtype=np.float32)


def _fractal(rng: np.random.Generator, size: int, roughness: float) -> Image:
    """Return a fractal surface in [0, 1]: power falls as frequency to the `-2 * roughness`."""
    vertical = np.fft.fftfreq(size).astype(np.float32)[:, None] * rng.uniform(0.5, 2.0)
    horizontal = np.fft.rfftfreq(size).astype(np.float32)[None, :]
    radius = np.sqrt(vertical**2 + horizontal**2)
    radius[0, 0] = 1.0
    phase = rng.random(radius.shape, dtype=np.float32) * np.float32(2 * np.pi)
    spectrum = np.exp(1j * phase) / radius**roughness
    spectrum[0, 0] = 0.0
    surface = np.fft.irfft2(spectrum, s=(size, size)).astype(np.float32)
    low, high = np.quantile(surface[::4, ::4], [0.01, 0.99])
    return np.asarray(np.clip((surface - low) / (high - low + 1e-9), 0, 1), dtype=np.float32)


def _texture(rng: np.random.Generator, size: int) -> Image:
    """Return a two-colour surface [size, size, 3]: fractal, stripes, checks, dots or plain."""
    kind = rng.integers(6)
    first, second = _colour(rng), _colour(rng)
    if kind >= 4:
        second = np.clip(first * rng.uniform(0.5, 1.6), 0, 1).astype(np.float32)
    if kind in (0, 4):
        weight = _fractal(rng, size, rng.uniform(0.9, 2.2))
    elif kind == 5:
        weight = _ramp(rng, size)
    else:
        rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
        angle, period = rng.uniform(0, np.pi), rng.uniform(6, 60)
        along = (math.cos(angle) * rows + math.sin(angle) * columns) * (2 * np.pi / period)
        across = (math.cos(angle) * columns - math.sin(angle) * rows) * (2 * np.pi / period)
        wave = np.sin(along)
        if kind == 2:
            wave = wave * np.sin(across)
        elif kind == 3:
            wave = wave + np.sin(across) - 1
        weight = np.clip(0.5 + rng.uniform(0.6, 6) * wave, 0, 1)
    return first + weight[..., None] * (second - first)


def _mask(size: int, draw: Callable[[ImageDraw.ImageDraw], None]) -> Image:
    """Return what `draw` paints on an empty sheet as coverage [size, size] in [0, 1]."""
    sheet = PillowImage.new("L", (size, size))
    draw(ImageDraw.Draw(sheet))
    return np.asarray(sheet, dtype=np.float32) * np.float32(1 / 255)


def _cover(scene: Image, mask: Image, paint: Image) -> None:
    """Lay `paint` over the scene where the mask covers it, in place."""
    scene += mask[..., None] * (paint - scene)


def _outline(rng: np.random.Generator, size: int) -> list[tuple[float, float]]:
    """Return a random closed shape: a box, an ellipse-like or a ragged polygon."""
    centre = rng.uniform(0, size, 2)
    radius = size * rng.uniform(0.05, 0.35)
    corners = int(rng.choice([3, 4, 5, 7, 40]))
    turns = np.linspace(0, 2 * np.pi, corners, endpoint=False) + rng.uniform(0, np.pi)
    ragged = 0.0 if corners == 40 else 0.5
    radii = radius * (1 - ragged * rng.random(corners))
    aspect = rng.uniform(0.5, 1.5)
    return [
        (float(centre[0] + r * np.cos(t)), float(centre[1] + aspect * r * np.sin(t)))
        for r, t in zip(radii, turns, strict=True)
    ]


# Backgrounds.


def _sky(rng: np.random.Generator, size: int) -> Image:
    top = np.array([0.12, 0.3, 0.7], np.float32) * np.float32(rng.uniform(0.3, 1.2))
    haze = np.clip(_colour(rng, (0.6, 1.0)), 0.3, 1)
    height = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    scene = np.broadcast_to(top + height * (haze - top), (size, size, 3)).copy()
    clouds = np.clip(_fractal(rng, size, 1.8) * 2 - rng.uniform(0.6, 1.4), 0, 1)
    _cover(scene, clouds, np.full(3, rng.uniform(0.6, 1.0), np.float32))
    for _ in range(rng.integers(1, 4)):
        level = size * rng.uniform(0.4, 0.9)
        steps = np.cumsum(rng.normal(0, rng.uniform(0.3, 3.0), size))
        ridge = level + steps - np.linspace(0, steps[-1], size)
        mask = (np.arange(size)[:, None] > ridge[None, :]).astype(np.float32)
        _cover(scene, mask, _texture(rng, size) * np.float32(rng.uniform(0.3, 1.0)))
    return scene


def _wall(rng: np.random.Generator, size: int) -> Image:
    scene = _texture(rng, size)
    joint = _colour(rng)
    tall = int(rng.integers(16, 80))
    wide = int(tall * rng.uniform(1, 3))
    gap = int(rng.integers(1, 5))

    def draw(sheet: ImageDraw.ImageDraw) -> None:
        for row, top in enumerate(range(0, size, tall)):
            sheet.rectangle((0, top, size, top + gap - 1), fill=255)
            for left in range(-(row % 2) * wide // 2, size, wide):
                sheet.rectangle((left, top, left + gap - 1, top + tall), fill=255)

    _cover(scene, _mask(size, draw), joint)
    return np.asarray(scene * (0.8 + 0.4 * _fractal(rng, size, 1.0)[..., None]), dtype=np.float32)


def _surface(rng: np.random.Generator, size: int) -> Image:
    return _texture(rng, size)


def _backdrop(rng: np.random.Generator, size: int) -> Image:
    first, second = _colour(rng), _colour(rng)
    return first + _ramp(rng, size)[..., None] * (second - first)


# Layers.


def _shape(rng: np.random.Generator, scene: Image) -> None:
    size = scene.shape[0]
    outline = _outline(rng, size)
    mask = _mask(size, lambda sheet: sheet.polygon(outline, fill=255))
    if rng.random() < 0.5:
        shift = tuple(int(s) for s in rng.integers(2, 20, 2))
        shadow = gaussian_blur(np.roll(mask, shift, (0, 1))[::2, ::2], rng.uniform(1, 5))
        scene *= 1 - 0.6 * shadow.repeat(2, 0).repeat(2, 1)[..., None]
    paint = _texture(rng, size) * (0.4 + 0.8 * _ramp(rng, size)[..., None])
    if rng.random() < 0.3:
        mask = gaussian_blur(mask, rng.uniform(1, 3))  # out of focus
    _cover(scene, mask, paint)


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

    _cover(scene, _mask(size, draw), _colour(rng, (0.0, 1.0)))


def _building(rng: np.random.Generator, scene: Image) -> None:
    size = scene.shape[0]
    left, right = np.sort(rng.uniform(-0.1, 1.1, 2)) * size
    top = rng.uniform(0, 0.6) * size
    across, down = rng.uniform(8, 40, 2)
    _cover(
        scene,
        _mask(size, lambda sheet: sheet.rectangle((left, top, right, size), fill=255)),
        _texture(rng, size),
    )

    def windows(sheet: ImageDraw.ImageDraw) -> None:
        for y in np.arange(top + down / 2, size, down):
            for x in np.arange(left + across / 3, right - across * 0.6, across):
                light = int(rng.integers(60, 256))
                sheet.rectangle((x, y, x + across * 0.5, y + down * 0.5), fill=light)

    _cover(scene, _mask(size, windows), _colour(rng))


def _wires(rng: np.random.Generator, scene: Image) -> None:
    size = scene.shape[0]

    def draw(sheet: ImageDraw.ImageDraw) -> None:
        for _ in range(rng.integers(3, 30)):
            x = np.linspace(-10, size + 10, 12)
            sag = rng.uniform(-0.2, 0.2) * size * (1 - (2 * x / size - 1) ** 2)
            y = rng.uniform(0, size) + rng.normal(0, 0.4) * x + sag
            points = np.stack([x, y] if rng.random() < 0.7 else [y, x], axis=1)
            sheet.line([*points.ravel()], fill=255, width=int(rng.integers(1, 5)))

    _cover(scene, _mask(size, draw), _colour(rng, (0.0, 1.0)))


def _lights(rng: np.random.Generator, scene: Image) -> None:
    size = scene.shape[0]
    colour = _colour(rng, (0.6, 1.0))
    radius = rng.uniform(2, 20)

    def draw(sheet: ImageDraw.ImageDraw) -> None:
        for _ in range(rng.integers(5, 40)):
            x, y = rng.uniform(0, size, 2)
            sheet.ellipse(
                (x - radius, y - radius, x + radius, y + radius), fill=int(rng.integers(40, 256))
            )

    scene += _mask(size, draw)[..., None] * colour


def _relief(rng: np.random.Generator, scene: Image) -> None:
    """Roughen a region: bark, stone, sand."""
    size = scene.shape[0]
    where = np.clip(4 * _fractal(rng, size, 2.2) - rng.uniform(0.5, 3), 0, 1)
    rough = _fractal(rng, size, rng.uniform(0.4, 1.2)) - 0.5
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
