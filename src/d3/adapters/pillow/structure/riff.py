"""WebP: chunks are counted, and a file without its last bytes is completed."""

from __future__ import annotations

import struct
from dataclasses import replace

from d3.adapters.pillow.structure.common import (
    MAX_SEGMENTS,
    Skeleton,
    damaged,
    number,
    orientation_of,
    too_many,
)
from d3.adapters.provenance import Metadata
from d3.domain.images import Note

MAX_MISSING_BYTES = 2**16
"""More than these are never the last rows of a picture alone."""

_SPARE_BYTES = 512
"""What is decoded in place of the missing bytes may take more of them."""

_PIXELS = {b"VP8 ": 24, b"VP8L": 1}
"""Rows that the end of the data decides: a row of macroblocks and the filter's reach, or one."""


def walk_webp(data: bytes) -> Skeleton:
    """Find Exif's orientation, and complete a file that is cut short in its last chunk."""
    metadata, chunks, at = Metadata(), 0, 12
    whole = min(8 + number(data, 4, 4, little=True), len(data))
    while at + 8 <= whole:
        kind, size = data[at : at + 4], number(data, at + 4, 4, little=True)
        end = at + 8 + size
        chunks += 1
        if chunks > MAX_SEGMENTS:
            raise too_many("The WebP has too many chunks to be valid.")
        if end > len(data):
            return _completed(data, at, kind, end, metadata)
        if kind == b"EXIF":
            metadata.add_exif(data[at + 8 : end])
        elif kind == b"XMP ":
            metadata.add_xmp(data[at + 8 : end])
        elif kind == b"C2PA":
            metadata.c2pa = True
        at = end + size % 2
    found = Skeleton(data, frames=0, orientation=orientation_of(metadata.exif), metadata=metadata)
    if 8 + number(data, 4, 4, little=True) <= len(data):
        return found
    # What is missing is a byte that rounds the length, or chunks behind the picture.
    return replace(found, data=_with_length(data[:at].ljust(at, b"\0")), note=Note.CUT_SHORT)


def _completed(data: bytes, at: int, kind: bytes, end: int, metadata: Metadata) -> Skeleton:
    missing, orientation = end - len(data), orientation_of(metadata.exif)
    if kind in _PIXELS:
        if missing > MAX_MISSING_BYTES:
            raise damaged("WEBP")
        spare = missing + _SPARE_BYTES + end % 2
        head = data[: at + 4] + struct.pack("<I", len(data) + spare - at - 8) + data[at + 8 :]
        plain, other = (_with_length(head + one * spare) for one in (b"\0", b"\x5a"))
        return Skeleton(
            plain,
            orientation=orientation,
            note=Note.CUT_SHORT,
            other=lambda: other,
            slack=_PIXELS[kind],
            metadata=metadata,
        )
    # A later frame, or what is no picture.
    return Skeleton(
        _with_length(data[:at]),
        frames=0,
        orientation=orientation,
        note=Note.CUT_SHORT,
        metadata=metadata,
    )


def _with_length(data: bytes) -> bytes:
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
