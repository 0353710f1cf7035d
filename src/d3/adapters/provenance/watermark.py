"""The invisible watermark of Stable Diffusion's reference pipelines, read from pixels.

They mark with the method ``dwtDct`` of the library ``invisible-watermark``: the picture's U channel
is halved by a Haar transform and cut into blocks of 4 x 4; each block in turn carries one bit of a
known message, in how far its largest value lies between two multiples of 36. Every bit so stands
in the picture many times. Cropping or scaling the picture destroys the mark, and compression
often does: what is left is found by its correlation with the message.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from d3.domain.provenance import Says, Source, SourceKind

MIN_PIXELS, MAX_PIXELS = 256 * 256, 2**22
"""The library marks none that is smaller; the pipelines make none that is larger."""

_BLOCK, _SCALE = 4, 36
_TO_U = (-0.14713, -0.28886, 0.436, 128.0)
_NOTHING = 1e-6
_PHASE_OF = np.exp(2j * np.pi * (2 * np.arange(256)) / _SCALE).astype(np.complex64)
"""Of a value of the halved channel; the transform doubles it."""


class Mark(NamedTuple):
    """A message that a pipeline writes.

    Attributes:
        generator: whose pipeline.
        bits: the message.
        needed: the correlation with it, in [0, 1], at which a picture is said to be marked.
    """

    generator: str
    bits: tuple[bool, ...]
    needed: float


def _mark(generator: str, bits: str, needed: float) -> Mark:
    return Mark(generator, tuple(bit == "1" for bit in bits), needed)


def _letters(text: bytes) -> str:
    return f"{int.from_bytes(text):0{8 * len(text)}b}"


MARKS = (
    _mark("Stable Diffusion XL", f"{0xB3EC907BB19E:b}", 0.62),
    _mark("FLUX", f"{0x2AFE879CF52E:b}", 0.62),
    _mark("Stable Diffusion 1", _letters(b"StableDiffusionV1"), 0.45),
    _mark("Stable Diffusion 2", _letters(b"SDV2"), 0.75),
)
"""What unmarked photographs come to at most is measured in ``benchmarks/RESULTS.md``."""


def read_watermark(rgb: Image.Image) -> Source | None:
    """The mark in a picture of its original size; None where there is none."""
    if min(rgb.size) < 2 * _BLOCK or not MIN_PIXELS <= rgb.width * rgb.height <= MAX_PIXELS:
        return None
    phases = _phases(rgb)
    for mark in MARKS:
        if correlation(phases, mark) >= mark.needed:
            return Source(kind=SourceKind.WATERMARK, says=Says.GENERATED, generator=mark.generator)
    return None


def correlation(phases: np.ndarray, mark: Mark) -> float:
    """How well the blocks agree with a message, in [0, 1].

    Blocks are averaged by the bit that they would carry. Noise from compression turns all phases
    alike, so only the size of the complex correlation counts, not its direction.
    """
    length = len(mark.bits)
    whole = phases[: len(phases) // length * length].reshape(-1, length)
    if not len(whole):
        return 0.0
    said = whole.mean(axis=0)
    said -= said.mean()
    message = np.asarray(mark.bits, np.float32)
    message -= message.mean()
    size = np.linalg.norm(said) * np.linalg.norm(message)
    return float(abs(said @ message) / size) if size > _NOTHING else 0.0


def _phases(rgb: Image.Image) -> np.ndarray:
    """Where each block's value lies between two multiples, as a complex number, row after row."""
    size = rgb.width // 4 * 4, rgb.height // 4 * 4
    halved = np.asarray(rgb.reduce(2, box=(0, 0, *size)).convert("L", _TO_U))
    down, across = (side // _BLOCK for side in halved.shape)
    values = halved[: down * _BLOCK, : across * _BLOCK].copy()
    values[::_BLOCK, ::_BLOCK] = 0  # a block's first value carries nothing
    largest = values.reshape(down, _BLOCK, across, _BLOCK).max(axis=(1, 3))
    phases: np.ndarray = _PHASE_OF[largest.ravel()]
    return phases
