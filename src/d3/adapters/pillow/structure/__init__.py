"""The skeleton of a file, walked before a decoder sees it.

Some files are cheap to send and dear to open: a progressive JPEG of thousands of scans, a GIF whose
comment never ends, a PNG of a million empty chunks. Some say nothing of what they lack. Each walk
is linear, stops at its limits, and decodes nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from d3.adapters.pillow.structure.boxes import walk_avif, walk_heif
from d3.adapters.pillow.structure.common import Region, Skeleton, damaged
from d3.adapters.pillow.structure.gif import walk_gif
from d3.adapters.pillow.structure.jpeg import walk_jpeg
from d3.adapters.pillow.structure.jxl import walk_jxl
from d3.adapters.pillow.structure.others import walk_bmp, walk_icon, walk_jpeg2000, walk_photoshop
from d3.adapters.pillow.structure.png import walk_png
from d3.adapters.pillow.structure.riff import walk_webp
from d3.adapters.pillow.structure.tiff import walk_tiff

__all__ = ["Region", "Skeleton", "walk"]

_WALKS: dict[str, Callable[[bytes], Skeleton]] = {
    "AVIF": walk_avif,
    "BMP": walk_bmp,
    "GIF": walk_gif,
    "HEIF": walk_heif,
    "ICO": walk_icon,
    "JPEG2000": walk_jpeg2000,
    "JXL": walk_jxl,
    "PNG": walk_png,
    "PSD": walk_photoshop,
    "WEBP": walk_webp,
}


def walk(kind: str, data: bytes, max_jpeg_scans: int) -> Skeleton:
    """Walk a file of this format.

    Raises:
        ImageTooLarge: its skeleton goes beyond a limit.
        ImageDamaged: a part of its picture is not there.
        ImageFormatUnsupported: it is of a kind that D3 does not read.
    """
    try:
        if kind == "JPEG":
            return walk_jpeg(data, max_jpeg_scans)
        if kind == "TIFF":
            return walk_tiff(data, max_jpeg_scans)
        return _WALKS[kind](data)
    except (IndexError, ValueError, OverflowError, struct.error) as error:
        raise damaged(kind) from error
