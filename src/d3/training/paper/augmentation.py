"""The paper's augmentation: what its authors' code does to a training image, in its order.

The smaller side becomes 256 pixels, then come a blur and JPEG by chance, a random crop and a
mirror. For the same choices the pixels are those of the published code; where two builds of a JPEG
codec differ, within 2 steps of 255.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image

from d3.domain.images import Pixels

Codec: TypeAlias = Literal["cv2", "pil"]
"""Whose JPEG: OpenCV's or Pillow's."""

_LONGEST = 16
"""How many times as long as wide an image may be before it is cut: a strip of a pixel's width would
grow to gigabytes."""
_TRUNCATE = 4.0
"""Standard deviations after which the bell of the blur is cut off."""


def installed_codecs() -> tuple[Codec, ...]:
    """Pillow's codec, and OpenCV's if the extra ``train`` is installed."""
    try:
        import cv2  # noqa: F401
    except ImportError:
        return ("pil",)
    return ("cv2", "pil")


@dataclass(frozen=True, slots=True)
class Changes:
    """How often and how far training images are changed; the defaults are the paper's.

    Attributes:
        side: to which the smaller side is resized, for a network that sees 224 pixels; in
            proportion for others.
        chance: of the blur, and of the compression.
        blur: the largest sigma in pixels, the smallest being 0.
        quality: lowest and highest of the JPEG.
        codecs: of which one is drawn for each compression.
    """

    side: int = 256
    chance: float = 0.5
    blur: float = 3.0
    quality: tuple[int, int] = (30, 100)
    codecs: tuple[Codec, ...] = field(default_factory=installed_codecs)


@dataclass(frozen=True, slots=True)
class Choices:
    """What is done to one image.

    Attributes:
        sigma: of the blur in pixels; None for none.
        quality: of the JPEG, 1 to 100; None for none.
        corner: left and top of the crop.
        mirrored: whether left and right are exchanged at the end.
    """

    sigma: float | None
    quality: int | None
    codec: Codec
    corner: tuple[int, int]
    mirrored: bool


def changed(pixels: Pixels, size: int, changes: Changes, rng: np.random.Generator) -> Pixels:
    """An image [H, W, 3] of any size as training sees it: [size, size, 3]."""
    image = resized(_shortened(pixels, rng), max(size, round(changes.side * size / 224)))
    return applied(image, size, drawn(image.shape[:2], size, changes, rng))


def resized(pixels: Pixels, side: int) -> Pixels:
    """The image with its smaller side `side` pixels long; the larger one is rounded down."""
    height, width = pixels.shape[:2]
    if width <= height:
        shape = side, int(side * height / width)
    else:
        shape = int(side * width / height), side
    return np.asarray(Image.fromarray(pixels).resize(shape, Image.Resampling.BILINEAR))


def drawn(shape: tuple[int, ...], size: int, changes: Changes, rng: np.random.Generator) -> Choices:
    """Choices for a resized image of a shape (height, width)."""
    height, width = shape
    blurred, compressed = rng.random(2) < changes.chance
    return Choices(
        sigma=float(rng.uniform(0, changes.blur)) if blurred else None,
        quality=int(rng.integers(*changes.quality, endpoint=True)) if compressed else None,
        codec=changes.codecs[int(rng.integers(len(changes.codecs)))],
        corner=(int(rng.integers(width - size + 1)), int(rng.integers(height - size + 1))),
        mirrored=bool(rng.random() < 0.5),
    )


def applied(pixels: Pixels, size: int, choices: Choices) -> Pixels:
    """A resized image after its changes: [size, size, 3]."""
    if choices.sigma is not None:
        pixels = blurred(pixels, choices.sigma)
    if choices.quality is not None:
        pixels = compressed(pixels, choices.quality, choices.codec)
    left, top = choices.corner
    cut = pixels[top : top + size, left : left + size]
    return np.ascontiguousarray(cut[:, ::-1] if choices.mirrored else cut)


def blurred(pixels: Pixels, sigma: float) -> Pixels:
    """Gaussian blur of each channel, down and then across; the border is mirrored.

    The sums are added in the order of ``scipy.ndimage.gaussian_filter`` and cut to whole numbers
    after each direction, as there: another order moves single pixels by one.
    """
    radius = int(_TRUNCATE * sigma + 0.5)
    if not radius:
        return pixels
    bell = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
    weights = bell / bell.sum()
    for axis in (0, 1):
        lines = pixels.shape[axis]
        border = [(radius, radius) if one == axis else (0, 0) for one in range(3)]
        wide = np.moveaxis(np.pad(pixels, border, "symmetric").astype(np.float64), axis, 0)
        total = wide[radius : radius + lines] * weights[radius]
        pair = np.empty_like(total)
        for step in range(radius):
            far = 2 * radius - step
            np.add(wide[step : step + lines], wide[far : far + lines], out=pair)
            pair *= weights[step]
            total += pair
        pixels = np.moveaxis(total.astype(np.uint8), 0, axis)
    return pixels


def compressed(pixels: Pixels, quality: int, codec: Codec) -> Pixels:
    """The image as JPEG of a quality shows it, by one of the codecs.

    Raises:
        ModuleNotFoundError: OpenCV's codec is asked for and not installed.
    """
    if codec == "cv2":
        import cv2

        _, coded = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)[:, :, ::-1]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _shortened(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A strip cut at random to at most 16 times as long as wide; others unchanged."""
    most = _LONGEST * min(pixels.shape[:2])
    top, left = (int(rng.integers(max(0, side - most) + 1)) for side in pixels.shape[:2])
    return pixels[top : top + most, left : left + most]
