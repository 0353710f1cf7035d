"""From a whole image to the pixels that a model takes: changed first, then fitted to a square.

Fitting is exactly what torchvision does to a PIL image: ``Resize`` and ``CenterCrop``.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from d3.domain.errors import ImageTooLarge
from d3.domain.images import Pixels
from d3.domain.inputs import Change, Fit, PixelsWanted

Picture = Image.Image

_BILINEAR = Image.Resampling.BILINEAR
_MOST_RESIZED = 2**24
"""Pixels; of a strip that would be larger once its shorter side is resized, the ends are cut off
first."""

_JPEG_SIDE = 65_500
"""Pixels; the longest that a JPEG can have."""


def cut(rgb: Picture, wanted: Sequence[int | PixelsWanted | None]) -> list[Pixels]:
    """All the pixels that are wanted of an image, with one changed copy of it at a time.

    Args:
        rgb: the whole image.
        wanted: see :meth:`d3.domain.ports.images.ImageDecoder.decode`.
    """
    found: dict[int, Pixels] = {}
    for change in Change:
        asked = {at: one for at, one in enumerate(wanted) if _change_of(one) is change}
        if asked:
            found |= _changed_and_fitted(rgb, change, asked)
    return [found[at] for at in range(len(wanted))]


def recompressed(rgb: Picture, quality: int) -> Picture:
    """The image as a JPEG of that quality (4:2:0) shows it.

    Raises:
        ImageTooLarge: a JPEG cannot be so long.
    """
    if max(rgb.size) > _JPEG_SIDE:
        raise ImageTooLarge(
            f"An image with a side of more than {_JPEG_SIDE:,} pixels cannot be saved as a JPEG.",
            "Crop it or scale it down, or ask for no stability.",
        )
    file = io.BytesIO()
    rgb.save(file, "JPEG", quality=quality, comment=b"")  # a GIF's may be too long for a JPEG
    file.seek(0)
    image = JpegImageFile(file)
    image.load()
    return image


def scaled(rgb: Picture, factor: float) -> Picture:
    """The image scaled by the factor, bilinear and antialiased."""
    width, height = (max(1, round(side * factor)) for side in rgb.size)
    return rgb.resize((width, height), _BILINEAR)


def _without_edges(rgb: Picture) -> Picture:
    across, down = (round(side * 0.025) for side in rgb.size)
    return rgb.crop((across, down, rgb.width - across, rgb.height - down))


_CHANGES: Mapping[Change, Callable[[Picture], Picture]] = {
    Change.NONE: lambda rgb: rgb,
    Change.JPEG: lambda rgb: recompressed(rgb, 75),
    Change.SCALED: lambda rgb: scaled(rgb, 0.75),
    Change.CROPPED: _without_edges,
    Change.MIRRORED: lambda rgb: rgb.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def _changed_and_fitted(
    rgb: Picture, change: Change, asked: Mapping[int, int | PixelsWanted | None]
) -> dict[int, Pixels]:
    changed = _CHANGES[change](rgb)
    return {at: _fitted(changed, one) for at, one in asked.items()}


def _change_of(wanted: int | PixelsWanted | None) -> Change:
    return wanted.change if isinstance(wanted, PixelsWanted) else Change.NONE


def _fitted(rgb: Picture, wanted: int | PixelsWanted | None) -> Pixels:
    """uint8 RGB (size, size, 3), or as it is where no size is wanted."""
    if wanted is None:
        return np.array(rgb)
    if isinstance(wanted, int):
        wanted = PixelsWanted(wanted)
    size = wanted.size
    if wanted.fit is Fit.SQUASH:
        return np.array(rgb.resize((size, size), _BILINEAR))
    if wanted.fit is Fit.RESIZE_CROP:
        rgb = _resized(rgb, wanted.resize, size)
    left, top = (_start(side, size) for side in rgb.size)
    return np.array(rgb.crop((left, top, left + size, top + size)))  # zeros where nothing is


def _resized(rgb: Picture, shorter: int, size: int) -> Picture:
    """The image with its shorter side resized, whole or at least its middle ``size`` pixels."""
    longer = int(shorter * max(rgb.size) / min(rgb.size))
    upright = rgb.height > rgb.width
    if shorter * longer <= _MOST_RESIZED or longer <= size:
        return rgb.resize((shorter, longer) if upright else (longer, shorter), _BILINEAR)
    start, scale = _start(longer, size), max(rgb.size) / longer
    ends = start * scale, (start + size) * scale
    if upright:
        return rgb.resize((shorter, size), _BILINEAR, (0, ends[0], rgb.width, ends[1]))
    return rgb.resize((size, shorter), _BILINEAR, (ends[0], 0, ends[1], rgb.height))


def _start(side: int, size: int) -> int:
    """Where torchvision's ``CenterCrop`` begins; below 0 where the side is shorter."""
    return round((side - size) / 2) if side >= size else -((size - side) // 2)
