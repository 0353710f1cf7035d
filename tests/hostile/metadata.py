"""Sound pictures whose metadata is meant to harm: each is judged, whatever it says of itself."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable

from images import encoded, jpeg_segment, picture, with_jpeg_segments, with_png_chunks
from tests.support.images import png_chunk
from tests.support.metadata import EXIF_LOOPS, XMP_BOMBS

_C2PA = bytes.fromhex("63327061001100108000" + "00aa00389b71")
_TEXTS = (b"parameters", b"prompt", b"workflow", b"Comment", b"Description", b"Software")


def box(kind: bytes, body: bytes) -> bytes:
    """A box of JUMBF."""
    return struct.pack(">I", 8 + len(body)) + kind + body


def store(*inside: bytes) -> bytes:
    """What looks like a store of manifests."""
    about = box(b"jumd", _C2PA + b"\3c2pa\0")
    return box(b"jumb", about + b"".join(inside))


def nested(depth: int) -> bytes:
    """Boxes within boxes."""
    about = box(b"jumd", _C2PA + b"\3c2pa\0")
    size = 8 + len(about)
    return b"".join(struct.pack(">I", size * n) + b"jumb" + about for n in range(depth, 0, -1))


def in_png(manifest: bytes) -> bytes:
    """A PNG with this in place of a manifest."""
    return with_png_chunks(encoded(picture(), "PNG"), png_chunk(b"caBX", manifest))


def in_webp(manifest: bytes) -> bytes:
    """A WebP with this in place of a manifest."""
    data = encoded(picture(), "WEBP", xmp=b"<x/>")
    chunk = b"C2PA" + struct.pack("<I", len(manifest)) + manifest + bytes(len(manifest) % 2)
    return data[:4] + struct.pack("<I", len(data) - 8 + len(chunk)) + data[8:] + chunk


def in_jpeg(manifest: bytes) -> bytes:
    """A JPEG with this in place of a manifest, in as many segments as it needs."""
    parts = [manifest[n : n + 60_000] for n in range(0, len(manifest), 60_000)]
    segments = [
        jpeg_segment(0xEB, b"JP" + struct.pack(">HI", 1, n + 1) + manifest[:8] + part)
        for n, part in enumerate(parts)
    ]
    return with_jpeg_segments(encoded(picture(), "JPEG"), b"".join(segments))


def packed(kind: bytes, megabytes: int) -> bytes:
    """A PNG with texts of all the keywords that are read, each unpacking to so many megabytes."""
    bomb = zlib.compress(b"{" * (megabytes * 2**20), 9)
    head = b"\0\1\0\0\0" if kind == b"iTXt" else b"\0\0"
    return with_png_chunks(
        encoded(picture(), "PNG"), *(png_chunk(kind, one + head + bomb) for one in _TEXTS)
    )


def with_text(keyword: bytes, text: bytes) -> bytes:
    """A PNG with a text."""
    return with_png_chunks(encoded(picture(), "PNG"), png_chunk(b"tEXt", keyword + b"\0" + text))


def _packed_packet() -> bytes:
    packet = zlib.compress(b"<x>" + b" " * 50 * 2**20 + b"</x>", 9)
    text = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packet)
    return with_png_chunks(encoded(picture(), "PNG"), text)


def _with_xmp(make: Callable[[], bytes]) -> Callable[[], bytes]:
    def made() -> bytes:
        packet = make()[: 6 * 2**20]
        text = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
        return with_png_chunks(encoded(picture(), "PNG"), text)

    return made


def _with_exif(make: Callable[[], bytes]) -> Callable[[], bytes]:
    return lambda: with_png_chunks(encoded(picture(), "PNG"), png_chunk(b"eXIf", make()))


METADATA: dict[str, Callable[[], bytes]] = {
    "a manifest of zeros": lambda: in_png(bytes(7 * 2**20)),
    "a manifest of 6 MB that says nothing": lambda: in_webp(store(box(b"json", b" " * 6 * 2**20))),
    "manifests 20,000 deep": lambda: in_png(nested(20_000)),
    "manifests 500 deep in a JPEG": lambda: in_jpeg(nested(500)),
    "a manifest of boxes without end": lambda: in_png(store(box(b"free", b"") * 500_000)),
    "a manifest that claims 4 GB": lambda: in_png(b"\xff\xff\xff\xffjumb" + bytes(100)),
    "a manifest of 2^63 bytes": lambda: in_webp(b"\0\0\0\1jumb" + b"\x7f" + b"\xff" * 7),
    "a manifest whose CBOR does not end": lambda: in_png(
        store(box(b"jumb", box(b"jumd", _C2PA + b"\3urn\0") + box(b"cbor", b"\x9f" * 2**20)))
    ),
    "thousands of manifests in a JPEG": lambda: with_jpeg_segments(
        encoded(picture(), "JPEG"),
        jpeg_segment(0xEB, b"JP\0\1\0\0\0\1" + store()) * 5_000,
    ),
    "texts that unpack to 600 MB": lambda: packed(b"zTXt", 100),
    "international texts that unpack to 600 MB": lambda: packed(b"iTXt", 100),
    "a packed XMP of 50 MB": _packed_packet,
    "a workflow 400,000 deep": lambda: with_text(b"workflow", b'{"a":' * 400_000),
    "a workflow of 50,000 nodes": lambda: with_text(
        b"prompt", json.dumps({n: {"class_type": "X"} for n in range(50_000)}).encode()[: 10**6]
    ),
    "a number of a million digits": lambda: with_text(b"parameters", b'{"a":' + b"9" * 10**6),
    "a JPEG of 9,000 Exifs": lambda: with_jpeg_segments(
        encoded(picture(), "JPEG"), jpeg_segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0") * 9_000
    ),
    "Photoshop's resources that lead nowhere": lambda: with_jpeg_segments(
        encoded(picture(), "JPEG"),
        jpeg_segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\xff\xff\xff\xff" * 3_000),
    ),
    **{f"XMP: {name}": _with_xmp(make) for name, make in XMP_BOMBS.items()},
    **{f"Exif: {name}": _with_exif(make) for name, make in EXIF_LOOPS.items()},
}
"""A name, and what makes the file."""
