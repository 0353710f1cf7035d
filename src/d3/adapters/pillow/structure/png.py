"""PNG: chunks are counted, and only those that make the picture go on to the decoder.

Texts, profiles and other ancillary chunks are skipped, not unpacked: a large or broken one harms
no pixel. Of an animation the first frame goes on, as a still picture. Where the picture in ``IDAT``
is not part of the animation, viewers that show animations never show it; then it is dropped.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace

from d3.adapters.pillow.structure.common import (
    MAX_SEGMENTS,
    Region,
    Skeleton,
    damaged,
    number,
    too_many,
)
from d3.adapters.pillow.structure.exif import orientation_of
from d3.domain.images import Note

MAX_PIXEL_CHUNKS = 100_000
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = slice(16, 29)
_FRAME_CONTROL = struct.Struct(">IIII")
_TAIL = 12


def walk_png(data: bytes) -> Skeleton:
    """Count the chunks and keep those of the first picture that viewers show."""
    view = memoryview(data)
    kept: list[memoryview] = []
    animated = still = ended = False
    first: tuple[int, int, int, int] | None = None
    pixels: list[memoryview] = []
    frames, orientation, length = 0, 1, len(_SIGNATURE)
    for kind, start, end in _chunks(data):
        length = end
        if kind == b"IEND":
            ended = True
            break
        if kind == b"IDAT":
            still = True
        if not kind[:1].islower() or (kind == b"tRNS" and _sound(view, start, end)):
            kept.append(view[start:end])
        elif kind == b"eXIf":
            orientation = orientation_of(data[start + 8 : end - 4])
        elif kind == b"acTL" and not still:
            animated = True
        elif kind == b"fcTL" and animated and end - start == _FRAME_CONTROL.size + 22:
            frames += 1
            if not still and frames == 1:
                first = (0, 0, 0, 0)
            elif first is None:
                first = _FRAME_CONTROL.unpack(data[start + 12 : start + 28])
        elif kind == b"fdAT" and frames == 1 and first and any(first):
            if not _sound(view, start, end):
                raise damaged("PNG")
            pixels.append(view[start + 12 : end - 4])
    if len(_SIGNATURE) + sum(map(len, kept)) + _TAIL * ended < length:
        data_kept = b"".join([_SIGNATURE, *kept, _chunk(b"IEND") if ended else b""])
    else:
        data_kept = data
    found = Skeleton(
        data_kept,
        frames=max(frames, 1),
        orientation=orientation,
        note=None if ended else Note.CUT_SHORT,
    )
    if first is None or not any(first):
        return found
    return _animation_alone(data, found, kept, first, pixels)


def _animation_alone(
    data: bytes,
    found: Skeleton,
    kept: list[memoryview],
    first: tuple[int, int, int, int],
    pixels: list[memoryview],
) -> Skeleton:
    """The animation's first frame in place of a picture that is not part of it."""
    width, height, left, top = first
    header = struct.pack(">II", width, height) + data[_HEADER][8:]
    canvas = (number(data, 16, 4), number(data, 20, 4))
    if not pixels or left + width > canvas[0] or top + height > canvas[1]:
        raise damaged("PNG")
    others = [one for one in kept if one[4:8] not in (b"IHDR", b"IDAT")]
    parts = [_chunk(b"IHDR", header), *others, _chunk(b"IDAT", b"".join(pixels)), _chunk(b"IEND")]
    return replace(
        found,
        data=_SIGNATURE + b"".join(parts),
        size=canvas,
        note=Note.TWO_PICTURES,
        region=Region(canvas, left, top) if (width, height) != canvas else None,
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk; a last one that is cut short ends where the file does."""
    pixel_chunks = others = 0
    at = 8
    while at + 8 <= len(data):
        kind = data[at + 4 : at + 8]
        if kind in (b"IDAT", b"fdAT"):
            pixel_chunks += 1
        else:
            others += 1
        if others > MAX_SEGMENTS or pixel_chunks > MAX_PIXEL_CHUNKS:
            raise too_many("The PNG has more chunks than any sound one.")
        end = at + 12 + number(data, at, 4)
        yield kind, at, min(end, len(data))
        at = end


def _sound(data: memoryview, start: int, end: int) -> bool:
    """Whether a chunk's checksum is right."""
    return zlib.crc32(data[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end])


def _chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
