"""Pictures made for people: scaled down, and written as PNG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from d3.domain.images import Pixels


class PillowDrawing:
    """Fills :class:`d3.domain.ports.Drawing`."""

    def shrunk(self, pixels: Pixels, side: int) -> Pixels:
        """The picture with no side longer than so many pixels; its proportions stay."""
        image = Image.fromarray(pixels)
        image.thumbnail((side, side), Image.Resampling.BILINEAR)
        return np.asarray(image)

    def png(self, pixels: Pixels) -> bytes:
        """The picture as a PNG file."""
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()
