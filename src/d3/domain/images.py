"""Images on their way to a verdict: what was handed in, what is known of it, its pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]
"""uint8 RGB: one image (height, width, 3) or a stack of them (n, height, width, 3)."""

ImageSource: TypeAlias = "str | Path | bytes | Pixels | object"
"""A path, an encoded file's bytes, uint8 pixels (height, width, 3 or 4 or none), or a PIL image."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of the original image.

    Attributes:
        format: the format found in the content, in the field's usual capitals (``"JPEG"``), or
            ``"pixels"`` for an array or an image that never was a file.
        width: pixels.
        height: pixels.
        frames: 1, or the number of frames of an animation; the first is the one judged.
        size_bytes: the encoded file's length.
        sha256: hexadecimal, of the encoded file; for ``"pixels"`` of mode, shape and samples.
    """

    format: str
    width: int
    height: int
    frames: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """Pixels ready for the network and the facts of the image they came from.

    Attributes:
        pixels: uint8 RGB (size, size, 3), or (height, width, 3) where no size was asked for.
        facts: of the original.
    """

    pixels: Pixels
    facts: ImageFacts


def pixels_sha256(mode: str, shape: tuple[int, ...], samples: bytes) -> str:
    """The SHA-256 that stands for an image which never was a file."""
    digest = hashlib.sha256(f"{mode}:{shape}:".encode())
    digest.update(samples)
    return digest.hexdigest()
