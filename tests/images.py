"""Images made for the tests: every mode and format that Pillow writes, and files meant to harm."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from d3.testing.images import noise, png_chunk, png_header


def picture(width: int = 61, height: int = 47, seed: int = 0) -> Image.Image:
    """A smooth RGB picture with some noise, so that lossy formats keep it about as it is."""
    rows, columns = np.mgrid[0:height, 0:width]
    smooth = np.stack([columns * 255 // width, rows * 255 // height, (rows + columns) % 256], -1)
    return Image.fromarray((smooth // 2 + noise(height, width, seed) // 8).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The image as a file of this format."""
    if kind == "HEIF":
        import pillow_heif

        stream = io.BytesIO()
        pillow_heif.from_pillow(image).save(stream, **options)
        return stream.getvalue()
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def animation(kind: str, frames: int = 3) -> bytes:
    """An animated file; its first frame is ``picture(seed=0)``."""
    first, *others = [picture(seed=seed) for seed in range(frames)]
    return encoded(first, kind, save_all=True, append_images=others, lossless=True)


def png_16_bit(samples: np.ndarray) -> bytes:
    """A 16-bit PNG of uint16 (height, width) or (height, width, 3)."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = png_header(width, height, depth=16, colour_type=0 if samples.ndim == 2 else 2)
    return header + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND")


def black_png(width: int, height: int) -> bytes:
    """A whole one-bit grey PNG of any size, small as a file."""
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + (width + 7) // 8)
    data = b"".join([packer.compress(row * 100) for _ in range(height // 100)])
    data += packer.compress(row * (height % 100)) + packer.flush()
    header = png_header(width, height, depth=1, colour_type=0)
    return header + png_chunk(b"IDAT", data) + png_chunk(b"IEND")


def jpeg_with_size(width: int, height: int) -> bytes:
    """A small JPEG whose header claims another size."""
    data = bytearray(encoded(picture(16, 16), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def jpeg_with_scans(scans: int, width: int = 2000, height: int = 2000) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are this many."""
    data = encoded(Image.new("L", (width, height)), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    last = data[start:-2]
    have = data.count(b"\xff\xda")
    return data[:-2] + last * (scans - have) + data[-2:]


def jpeg_segment(marker: int, payload: bytes) -> bytes:
    """One JPEG segment with its length."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def with_jpeg_segments(data: bytes, *segments: bytes) -> bytes:
    """The JPEG with segments put in right behind its start."""
    return data[:2] + b"".join(segments) + data[2:]


GIF_HEAD = b"GIF89a" + struct.pack("<HH", 10, 10) + b"\0\0\0"


def gif_with_comment(blocks: int, length: int) -> bytes:
    """A GIF whose comment has this many blocks before the image begins."""
    comment = b"!\xfe" + (bytes([length]) + b"c" * length) * blocks + b"\0"
    image = encoded(picture(10, 10), "GIF")
    flags = image[10]
    head = 13 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
    return image[:head] + comment + image[head:]
