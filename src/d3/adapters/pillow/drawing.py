"""Pictures made for people: scaled down, and written as PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from d3.domain.images import Pixels


class PillowDrawing:
    """Implements ``Drawing``."""

    def png(self, pixels: Pixels, text: Mapping[str, str] | None = None) -> bytes:
        """The picture as a PNG file, with texts in it by their keyword."""
        file, info = io.BytesIO(), PngInfo()
        for keyword, words in (text or {}).items():
            info.add_text(keyword, words)
        Image.fromarray(pixels).save(file, "PNG", pnginfo=info)
        return file.getvalue()
