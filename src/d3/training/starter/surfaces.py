"""What scenes are made of: colours, ramps, fractal surfaces, textures, masks and outlines.

Surfaces are float32 [size, size] or [size, size, 3] in linear light, values in [0, 1].
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from d3.training.starter.filters import Image


def colour(rng: np.random.Generator, value: tuple[float, float] = (0.08, 0.95)) -> Image:
    """Draw a linear RGB colour, seldom saturated, with the given range of brightness."""
    hue, saturation = rng.random(), rng.beta(1.6, 2.6)
    return np.array(
        colorsys.hsv_to_rgb(hue, saturation, rng.uniform(*value) ** 1.6), dtype=np.float32
    )


def ramp(rng: np.random.Generator, size: int) -> Image:
    """Return a linear or radial ramp [size, size] in [0, 1]."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    if rng.random() < 0.3:
        centre = rng.uniform(0.1, 0.9, 2)
        light = 1.2 * np.hypot(rows - centre[0], columns - centre[1])
    else:
        angle = rng.uniform(0, 2 * np.pi)
        light = math.cos(angle) * (rows - 0.5) + math.sin(angle) * (columns - 0.5) + 0.5
    return np.asarray(np.clip(light, 0, 1), dtype=np.float32)


def fractal(rng: np.random.Generator, size: int, roughness: float) -> Image:
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


def texture(rng: np.random.Generator, size: int) -> Image:
    """Return a two-colour surface [size, size, 3]: fractal, stripes, checks, dots or plain."""
    kind = rng.integers(6)
    first, second = colour(rng), colour(rng)
    if kind >= 4:
        second = np.clip(first * rng.uniform(0.5, 1.6), 0, 1).astype(np.float32)
    if kind in (0, 4):
        weight = fractal(rng, size, rng.uniform(0.9, 2.2))
    elif kind == 5:
        weight = ramp(rng, size)
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


def mask(size: int, draw: Callable[[ImageDraw.ImageDraw], None]) -> Image:
    """Return what `draw` paints on an empty sheet as coverage [size, size] in [0, 1]."""
    sheet = PillowImage.new("L", (size, size))
    draw(ImageDraw.Draw(sheet))
    return np.asarray(sheet, dtype=np.float32) * np.float32(1 / 255)


def cover(scene: Image, mask: Image, paint: Image) -> None:
    """Lay `paint` over the scene where the mask covers it, in place."""
    scene += mask[..., None] * (paint - scene)


def outline(rng: np.random.Generator, size: int) -> list[tuple[float, float]]:
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
