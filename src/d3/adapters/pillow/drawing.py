"""Pictures made for people, written as PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from d3.domain.images import Pixels


def png(pixels: Pixels, text: Mapping[str, str]) -> bytes:
    """Uint8 RGB pixels (height, width, 3) as a PNG file that holds these texts by their keyword."""
    file, info = io.BytesIO(), PngInfo()
    for keyword, words in text.items():
        info.add_text(keyword, words)
    Image.fromarray(pixels).save(file, "PNG", pnginfo=info)
    return file.getvalue()
