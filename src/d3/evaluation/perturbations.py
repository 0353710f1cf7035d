"""What happens to images on their way: JPEG, blur, scaling, JPEG twice; applied while decoding.

Each changes the image at its own size, before the network's resize, as the paper's robustness test
does.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np
from PIL import Image

from d3.domain.images import DecodedImage, ImageSource, Pixels, turned
from d3.domain.inputs import PixelsWanted
from d3.domain.ports.images import ImageDecoder

Change: TypeAlias = Callable[[Pixels], Pixels]

ORIGINAL = "original"
FIRST_QUALITY = 75
"""Of the first of two JPEGs: what a messenger or a social network leaves."""


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One change with one strength.

    Attributes:
        kind: which curve it belongs to.
        level: where on the curve.
        change: what it does to uint8 RGB pixels (height, width, 3); None for nothing.
    """

    kind: str
    level: float
    change: Change | None

    @property
    def name(self) -> str:
        """Such as ``jpeg-90``; the images as they are are :data:`ORIGINAL`."""
        return ORIGINAL if self.kind == ORIGINAL else f"{self.kind}-{self.level:g}"


UNCHANGED = Perturbation(ORIGINAL, 0, None)


def recompressed(pixels: Pixels, quality: int) -> Pixels:
    """The pixels as a JPEG of that quality (4:2:0) shows them."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image)


def blurred(pixels: Pixels, sigma: float) -> Pixels:
    """The pixels under a Gaussian of that deviation, in pixels, cut off at four of them."""
    reach = int(4 * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).astype(np.float32)
    taps /= taps.sum()
    values = pixels.astype(np.float32)
    for axis in (0, 1):
        padding = [(0, 0)] * 3
        padding[axis] = (reach, reach)
        padded = np.pad(values, padding, mode="symmetric")
        length = values.shape[axis]
        values = np.zeros_like(values)
        for offset, weight in enumerate(taps):
            window = [slice(None)] * 3
            window[axis] = slice(offset, offset + length)
            values += weight * padded[tuple(window)]
    rounded: Pixels = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    return rounded


def scaled(pixels: Pixels, factor: float) -> Pixels:
    """The pixels scaled by the factor, bilinear and antialiased."""
    image = Image.fromarray(pixels)
    size = [max(1, round(side * factor)) for side in image.size]
    return np.asarray(image.resize((size[0], size[1]), Image.Resampling.BILINEAR))


def recompressed_twice(pixels: Pixels, quality: int) -> Pixels:
    """The pixels stored as a JPEG of quality 75, then as one of that quality."""
    return recompressed(recompressed(pixels, FIRST_QUALITY), quality)


SWEEPS: Mapping[str, tuple[Perturbation, ...]] = {
    "jpeg": tuple(
        Perturbation("jpeg", quality, partial(recompressed, quality=quality))
        for quality in (100, 90, 80, 70, 60, 50, 40, 30)
    ),
    "blur": tuple(
        Perturbation("blur", sigma, partial(blurred, sigma=sigma)) for sigma in (0.5, 1, 1.5, 2)
    ),
    "resize": tuple(
        Perturbation("resize", factor, partial(scaled, factor=factor))
        for factor in (2, 0.75, 0.5, 0.25)
    ),
    "double-jpeg": tuple(
        Perturbation("double-jpeg", quality, partial(recompressed_twice, quality=quality))
        for quality in (90, 70, 50, 30)
    ),
}
"""The robustness sweeps, each from mild to strong; JPEG 100-30 and blur 0-2 are the paper's."""


class PerturbingDecoder:
    """Implements ``ImageDecoder``; what it decodes has been through a change.

    Args:
        decoder: of the original.
        perturbation: applied at the image's own size; the facts stay the original's.
    """

    def __init__(self, decoder: ImageDecoder, perturbation: Perturbation) -> None:
        self._decoder = decoder
        self._change = perturbation.change
        self.recognises = decoder.recognises
        self.close = decoder.close

    def decode(
        self,
        source: ImageSource,
        wanted: int | PixelsWanted | None,
        also: Sequence[PixelsWanted] = (),
    ) -> DecodedImage:
        if self._change is None:
            return self._decoder.decode(source, wanted, also)
        original = self._decoder.decode(source, None)
        changed = self._decoder.decode(self._change(original.pixels), wanted, also)
        return replace(original, pixels=changed.pixels, also=changed.also)

    def picture(self, source: ImageSource, side: int) -> Pixels:
        if self._change is None:
            return self._decoder.picture(source, side)
        original = self._decoder.decode(source, None)
        changed = turned(self._change(original.pixels), original.orientation)
        return self._decoder.picture(changed, side)
