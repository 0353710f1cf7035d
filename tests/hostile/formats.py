"""Hostile files of the formats that are less common, each with the code of its answer."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from images import (
    apng_with_a_hidden_picture,
    bmp_with_masks,
    encoded,
    grey_tiff,
    heic_of_tiles,
    picture,
    tiff,
    with_png_chunks,
)
from tests.support.images import noise, png, png_chunk

LARGE, DAMAGED, UNSUPPORTED = "image_too_large", "damaged_image", "unsupported_image"


def patched(data: bytes, at: int, *numbers: int) -> bytes:
    """The file with other 32-bit numbers, the largest byte first, from this offset on."""
    new = struct.pack(f">{len(numbers)}I", *numbers)
    return data[:at] + new + data[at + len(new) :]


def directory(*entries: bytes, tail: bytes = b"") -> bytes:
    """A TIFF whose only directory has these entries."""
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries))
    return head + b"".join(entries) + bytes(4) + tail


def entry(tag: int, kind: int, count: int, value: int) -> bytes:
    """An entry of a directory."""
    return struct.pack("<HHII", tag, kind, count, value)


def strip_bomb() -> bytes:
    """A strip that unpacks to 100 MB where 4 KB are wanted."""
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(100)) + packer.flush()
    tags = {256: [64], 257: [64], 258: [8], 259: [8], 262: [1], 273: [8], 277: [1], 278: [64]}
    tags[279] = [len(bomb)]
    return tiff({tag: (4, numbers) for tag, numbers in tags.items()}, bomb)


def icon(inside: bytes) -> bytes:
    """An icon of one picture."""
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 64, 64, 0, 0, 1, 32, len(inside), 22) + inside


def jpeg2000(*numbers: int) -> bytes:
    """A JPEG 2000 whose size and tiles are said to be these (Xsiz, Ysiz, XOsiz, ...)."""
    data = encoded(picture(), "JPEG2000", no_jp2=True)
    return patched(data, data.index(b"\xff\x51") + 6, *numbers)


def psd_with_resources() -> bytes:
    """A Photoshop file of 20,000 resources."""
    data, resources = encoded(picture(), "PSD"), b"8BIM\0\1\0\0\0\0\0\0" * 20_000
    return data[:30] + struct.pack(">I", len(resources)) + resources + data[34:]


def heic_of_itself() -> bytes:
    """A HEIC picture whose first tile is the picture itself."""
    data = heic_of_tiles(2, 2)
    at = data.index(b"dimg") + 8
    return data[:at] + b"\0\1" + data[at + 2 :]


def heic_of_broken_tiles() -> bytes:
    """A HEIC picture of which a tile cannot be decoded."""
    data = bytearray(heic_of_tiles(3, 2))
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 1_500] = b"\xff" * 1_500
    return bytes(data)


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a TIFF that claims 10^9 pixels": (
        lambda: grey_tiff(9, 9, t256=[40_000], t257=[25_000], t278=[25_000]),
        LARGE,
    ),
    "a TIFF tile of 2^31 pixels": (
        lambda: grey_tiff(9, 9, t273=[], t279=[], t322=[46_336], t323=[46_336], t324=[8], t325=[9]),
        LARGE,
    ),
    "TIFF strips without end": (
        lambda: directory(
            *(entry(256, 4, 1, 9), entry(257, 4, 1, 9), entry(273, 4, 2**20 + 1, 50)),
            tail=bytes(4 * (2**20 + 20)),
        ),
        LARGE,
    ),
    "TIFF tags without end": (lambda: directory(*[entry(1, 4, 1, 9)] * 65_535), LARGE),
    "TIFF tags that all hold the same megabyte": (
        lambda: directory(
            *(entry(40_000 + n, 1, 2**20, 50_000) for n in range(4_000)), tail=bytes(2**21)
        ),
        DAMAGED,
    ),
    "a TIFF strip beyond the end": (lambda: grey_tiff(9, 9, t279=[2**31]), DAMAGED),
    "too few TIFF strips": (lambda: grey_tiff(9, 9, t278=[3]), DAMAGED),
    "a TIFF without a width": (lambda: grey_tiff(9, 9, t256=[]), DAMAGED),
    "a TIFF without a directory": (lambda: b"II*\0\xff\xff\xff\x7f" + bytes(100), DAMAGED),
    "an unknown TIFF predictor": (lambda: grey_tiff(9, 9, t259=[5], t317=[77]), UNSUPPORTED),
    "an unknown TIFF compression": (lambda: grey_tiff(9, 9, t259=[4_242]), UNSUPPORTED),
    "a camera's raw file": (lambda: grey_tiff(9, 9, t254=[1]), UNSUPPORTED),
    "an icon within which chunks have no end": (
        lambda: icon(with_png_chunks(png(noise(64, 64)), png_chunk(b"tEXt", b"a\0b") * 20_000)),
        LARGE,
    ),
    "an icon's bit map of 10^9 pixels": (
        lambda: icon(struct.pack("<IiiHHIIiiII", 40, 40_000, 50_000, 1, 32, *bytes(6))),
        LARGE,
    ),
    "an icon within an icon": (lambda: icon(icon(bytes(100))), DAMAGED),
    "a JPEG 2000 of countless tiles": (lambda: jpeg2000(400, 400, 0, 0, 1, 1), LARGE),
    "a JPEG 2000 that claims 10^9 pixels": (
        lambda: jpeg2000(30_000, 30_000, 0, 0, 30_000, 30_000),
        LARGE,
    ),
    "Photoshop resources without end": (psd_with_resources, LARGE),
    "a Photoshop file of 10^9 pixels": (
        lambda: patched(encoded(picture(), "PSD"), 14, 30_000, 30_000),
        DAMAGED,
    ),
    "a HEIC that is its own tile": (heic_of_itself, DAMAGED),
    "a HEIC tile that is none": (heic_of_broken_tiles, DAMAGED),
    "a HEIC of another coder": (lambda: heic_of_tiles(2, 2, coder=b"j2k1"), UNSUPPORTED),
    "boxes without end": (
        lambda: b"\0\0\0\x10ftypheic\0\0\0\0" + b"\0\0\0\x08free" * 20_000,
        LARGE,
    ),
    "a JPEG XL of 2^30 lines": (
        lambda: b"\xff\x0a" + (((2**30 - 1) << 3 | 3 << 1) | 1 << 33).to_bytes(40, "little"),
        LARGE,
    ),
    "a WebP of countless chunks": (
        lambda: b"RIFF" + struct.pack("<I", 160_004) + b"WEBP" + b"JUNK\0\0\0\0" * 20_000,
        LARGE,
    ),
    "a frame beyond its canvas": (
        lambda: apng_with_a_hidden_picture(picture(20, 20), picture(20, 20), left=1),
        DAMAGED,
    ),
    "a bit map in an order of its own": (
        lambda: bmp_with_masks(picture(), (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        UNSUPPORTED,
    ),
}
"""A name, what makes the file, and the code of its answer."""
