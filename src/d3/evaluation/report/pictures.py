"""Small pictures and short names of images, for reports."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

from PIL import Image

from d3.domain.errors import D3Error
from d3.domain.images import Pixels

SIDE = 144
"""The longer side of a thumbnail, in pixels."""

_NAME = 60


def picture(pixels: Callable[[], Pixels]) -> str:
    """A data URL with a thumbnail of uint8 RGB (height, width, 3); empty if it is not to be had."""
    try:
        image = Image.fromarray(pixels())
    except D3Error:
        return ""
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=70)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def short_name(path: str) -> str:
    """The path, shortened from the front, with escapes for what is no text."""
    name = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return name if len(name) <= _NAME else f"…{name[1 - _NAME :]}"
