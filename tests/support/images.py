"""Images made without an imaging library, so that a decoder can be tested against plain numbers."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from d3.domain.images import Pixels

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_chunk(kind: bytes, data: bytes = b"") -> bytes:
    """One PNG chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(
    width: int, height: int, depth: int = 8, colour_type: int = 2, interlace: int = 0
) -> bytes:
    """The signature and the header chunk; colour type 0 is grey, 2 RGB, 3 palette, 4 LA, 6 RGBA."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlace)
    return PNG_SIGNATURE + png_chunk(b"IHDR", header)


def png(pixels: Pixels) -> bytes:
    """A PNG file of uint8 RGB pixels (height, width, 3)."""
    return _png(pixels, 2)


def png_rgba(pixels: Pixels) -> bytes:
    """A PNG file of uint8 RGBA pixels (height, width, 4)."""
    return _png(pixels, 6)


def drawn_in_alpha(height: int, width: int) -> Pixels:
    """Black RGBA pixels (height, width, 4) whose picture is in their alpha alone."""
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[:, :, 3] = noise(height, width)[:, :, 0]
    return pixels


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    """Random uint8 RGB pixels (height, width, 3), the same for the same seed."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _png(pixels: Pixels, colour_type: int) -> bytes:
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(pixels))
    body = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND")
    return png_header(width, height, colour_type=colour_type) + body
