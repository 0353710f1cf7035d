"""The last stretch both pictures of a pair share: one file format, one quality, one size."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from d3.training.starter.filters import Image


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a pair is stored; `quality` 0 stands for a lossless file."""

    quality: int
    subsampling: int  # Pillow's: 0 is 4:4:4, 2 is 4:2:0


def draw_delivery(rng: np.random.Generator) -> Delivery:
    """Draw a delivery: mostly JPEG of quality 80 to 98, sometimes lossless."""
    lossless = rng.random() < 0.2
    return Delivery(
        quality=0 if lossless else int(rng.integers(80, 99)), subsampling=int(rng.choice([0, 2]))
    )


def to_pixels(picture: Image) -> NDArray[np.uint8]:
    """Round a picture in [0, 1] to 8 bits."""
    return np.asarray(np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def encode(picture: Image, delivery: Delivery) -> tuple[bytes, str]:
    """Return the file of a picture in [0, 1], and its suffix; its pixels are :func:`deliver`'s."""
    pixels = to_pixels(picture)
    if delivery.quality:
        return jpeg(pixels, delivery.quality, delivery.subsampling), "jpg"
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "PNG")
    return file.getvalue(), "png"


def deliver(picture: Image, delivery: Delivery) -> NDArray[np.uint8]:
    """Return the 8-bit pixels [S, S, 3] that arrive at the other end."""
    pixels = to_pixels(picture)
    if delivery.quality == 0:
        return pixels
    return recompress(pixels, delivery.quality, delivery.subsampling)


def recompress(pixels: NDArray[np.uint8], quality: int, subsampling: int = 2) -> NDArray[np.uint8]:
    """Store pixels [S, S, 3] as JPEG and read them back."""
    return np.asarray(PillowImage.open(io.BytesIO(jpeg(pixels, quality, subsampling))))


def jpeg(pixels: NDArray[np.uint8], quality: int, subsampling: int = 2) -> bytes:
    """Return pixels [S, S, 3] as a JPEG file."""
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return file.getvalue()
