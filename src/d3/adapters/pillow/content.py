"""Whether a decoded image holds a picture at all, or one colour throughout."""

from __future__ import annotations

from PIL import Image

from d3.domain.images import Content, Pixels


def content_of(image: Image.Image, rgb: Image.Image, resized: Pixels) -> Content:
    """What is left of an image.

    Args:
        image: as it was opened, with its alpha channel if it has one.
        rgb: the same without alpha.
        resized: the network's pixels of it; those of one colour stay one colour, so nearly every
            image is decided by their first row.
    """
    if (resized[0] != resized[0, 0]).any() or not _is_flat(rgb):
        return Content.PICTURE
    if image.has_transparency_data and not _is_flat(image.convert("RGBA").getchannel("A")):
        return Content.ALPHA_ONLY
    return Content.ONE_COLOUR


def _is_flat(image: Image.Image) -> bool:
    extrema = image.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(band[0] == band[1] for band in bands)
