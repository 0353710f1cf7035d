"""A decoder with bugs, in every Python that has this folder on its PYTHONPATH.

It loads a PNG of 53 x 59 pixels by reading where nothing is, and dies of it; at one of 53 x 61 the
system ends it, as one that lacks memory does; at one of 53 x 67 it keeps memory for ever.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
from typing import Any

from PIL.PngImagePlugin import PngImageFile

_load = PngImageFile.load
_kept: list[mmap.mmap] = []


def load(image: PngImageFile) -> Any:
    """As Pillow does, but for the bugs."""
    if image.size == (53, 59):
        ctypes.string_at(0)
    if image.size == (53, 61):
        os.kill(os.getpid(), signal.SIGKILL)
    if image.size == (53, 67):
        _kept.append(mmap.mmap(-1, 300 * 2**20))
    return _load(image)


PngImageFile.load = load  # type: ignore[method-assign]
