"""A decoder with a bug, in every Python that has this folder on its PYTHONPATH.

It loads a PNG with the text ``D3: crash`` by reading where nothing is, and dies of it.
"""

from __future__ import annotations

import ctypes
from typing import Any

from PIL.PngImagePlugin import PngImageFile

_load = PngImageFile.load


def load(image: PngImageFile) -> Any:
    """As Pillow does, but for the bug."""
    if image.info.get("D3") == "crash":
        ctypes.string_at(0)
    return _load(image)


PngImageFile.load = load  # type: ignore[method-assign]
