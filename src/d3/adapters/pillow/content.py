"""Whether a decoded image holds a picture at all, or one colour throughout."""

from __future__ import annotations

from PIL import Image

from d3.domain.images import Content


def content_of(image: Image.Image, rgb: Image.Image) -> Content:
    """What is left of an image.

    Args:
        image: as it was opened, with its alpha channel if it has one.
        rgb: the same without alpha.
    """
    middle = rgb.height // 2
    row = rgb.crop((0, middle, rgb.width, middle + 1))  # decides nearly every image
    if not _is_flat(row) or not _is_flat(rgb):
        return Content.PICTURE
    if image.has_transparency_data and not _is_flat(image.convert("RGBA").getchannel("A")):
        return Content.ALPHA_ONLY
    return Content.ONE_COLOUR


def _is_flat(image: Image.Image) -> bool:
    extrema = image.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(band[0] == band[1] for band in bands)
