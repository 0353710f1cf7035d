"""PNG: chunks are counted, and only those that make the picture go on to the decoder.

Texts, profiles and other ancillary chunks are skipped, not unpacked: a large or broken one harms
no pixel. Of an animation the first frame goes on, as a still picture. Where the picture in ``IDAT``
is not part of the animation, viewers that show animations never show it; then it is dropped.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from d3.adapters.pillow.structure.common import (
    MAX_SEGMENTS,
    Region,
    Skeleton,
    damaged,
    number,
    orientation_of,
    too_many,
)
from d3.adapters.provenance import Metadata
from d3.domain.images import Note

MAX_PIXEL_CHUNKS = 100_000
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = slice(16, 29)
_FRAME_CONTROL_BYTES = 38
_TOLD = frozenset({b"caBX", b"eXIf", b"iTXt", b"tEXt", b"zTXt"})


@dataclass(slots=True)
class _Parts:
    """What of a PNG's chunks makes the picture.

    Attributes:
        kept: chunks of the still picture.
        still: whether its pixels have begun.
        animated: whether an animation was announced before them.
        frames: of the animation.
        hidden: the first frame's place (width, height, left, top) where the still picture is not
            part of the animation.
        pixels: of that first frame.
        metadata: what the file says beside its picture.
    """

    kept: list[memoryview] = field(default_factory=list)
    still: bool = False
    animated: bool = False
    frames: int = 0
    hidden: tuple[int, int, int, int] | None = None
    pixels: list[memoryview] = field(default_factory=list)
    metadata: Metadata = field(default_factory=Metadata)

    def take(self, kind: bytes, chunk: memoryview) -> None:
        """One chunk, with its length and checksum."""
        self.still = self.still or kind == b"IDAT"
        if not kind[:1].islower() or (kind == b"tRNS" and _sound(chunk)):
            self.kept.append(chunk)
        elif kind in _TOLD:
            self._take_of_metadata(kind, chunk)
        elif kind == b"acTL":
            self.animated = self.animated or not self.still
        elif self.animated:
            self._take_of_animation(kind, chunk)

    def _take_of_metadata(self, kind: bytes, chunk: memoryview) -> None:
        if kind == b"eXIf":
            self.metadata.add_exif(bytes(chunk[8:-4]))
        elif kind == b"caBX":
            self.metadata.c2pa = True
        else:
            self.metadata.add_text(kind, chunk[8:-4])

    def _take_of_animation(self, kind: bytes, chunk: memoryview) -> None:
        if kind == b"fcTL" and len(chunk) == _FRAME_CONTROL_BYTES:
            self.frames += 1
            if self.still and self.frames == 1:
                self.hidden = struct.unpack(">IIII", chunk[12:28])
        elif kind == b"fdAT" and self.frames == 1 and self.hidden is not None:
            if not _sound(chunk):
                raise damaged("PNG")
            self.pixels.append(chunk[12:-4])


def walk_png(data: bytes) -> Skeleton:
    """Count the chunks and keep those of the first picture that viewers show."""
    view, parts = memoryview(data), _Parts()
    ended, length = False, len(_SIGNATURE)
    for kind, start, end in _chunks(data):
        length, ended = end, kind == b"IEND"
        if ended:
            break
        parts.take(kind, view[start:end])
    tail = _chunk(b"IEND") if ended else b""
    is_all = len(_SIGNATURE) + sum(map(len, parts.kept)) + len(tail) == length
    found = Skeleton(
        data if is_all else b"".join([_SIGNATURE, *parts.kept, tail]),
        frames=max(parts.frames, 1),
        orientation=orientation_of(parts.metadata.exif),
        metadata=parts.metadata,
        note=None if ended else Note.CUT_SHORT,
    )
    return found if parts.hidden is None else _animation_alone(data, found, parts, parts.hidden)


def _animation_alone(
    data: bytes, found: Skeleton, parts: _Parts, first: tuple[int, int, int, int]
) -> Skeleton:
    """The animation's first frame in place of a picture that is not part of it."""
    width, height, left, top = first
    header = struct.pack(">II", width, height) + data[_HEADER][8:]
    canvas = (number(data, 16, 4), number(data, 20, 4))
    if not parts.pixels or left + width > canvas[0] or top + height > canvas[1]:
        raise damaged("PNG")
    others = [bytes(one) for one in parts.kept if bytes(one[4:8]) not in {b"IHDR", b"IDAT"}]
    pixels = _chunk(b"IDAT", b"".join(parts.pixels))
    return replace(
        found,
        data=b"".join([_SIGNATURE, _chunk(b"IHDR", header), *others, pixels, _chunk(b"IEND")]),
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
            raise too_many("The PNG has too many chunks to be valid.")
        end = at + 12 + number(data, at, 4)
        yield kind, at, min(end, len(data))
        at = end


def _sound(chunk: memoryview) -> bool:
    """Whether a chunk's checksum is right."""
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])


def _chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
