"""BMP, JPEG 2000, icons, Photoshop's files: sizes, numbers of parts, whether they are there."""

from __future__ import annotations

import struct
from dataclasses import replace

from d3.adapters.pillow.structure.boxes import boxes
from d3.adapters.pillow.structure.common import (
    MAX_SEGMENTS,
    Skeleton,
    damaged,
    number,
    too_many,
    unsupported,
)
from d3.adapters.pillow.structure.png import walk_png
from d3.adapters.provenance import Metadata
from d3.domain.images import Note

MAX_TILES = 20_000
_CODE_STREAM = b"\xff\x4f\xff\x51"
_SIZ = struct.Struct(">IIIIIIIIH")
_MOST_COMPONENTS = 4
_TILE_PART, _END = b"\xff\x90", b"\xff\xd9"
_ICON = struct.Struct("<BBBBHHII")
_PNG = b"\x89PNG\r\n\x1a\n"
_BITMAP_HEADER = 40
_PSD_HEADER = struct.Struct(">HIIHH")
MAX_RUN_LENGTH_BYTES = 2**20
_PLAIN, _RUN_LENGTHS, _BIT_FIELDS = 0, (1, 2), (3, 6)
_OLD_HEADER = 12


def walk_bmp(data: bytes) -> Skeleton:
    """Refuse what Pillow reads slowly or not at all; complete a last row."""
    if number(data, 14, 4, little=True) == _OLD_HEADER:
        width, height = (number(data, at, 2, little=True) for at in (18, 20))
        bits, compression = number(data, 24, 2, little=True), _PLAIN
    else:
        width = number(data, 18, 4, little=True)
        height = abs(int.from_bytes(data[22:26], "little", signed=True))
        bits, compression = (number(data, at, size, little=True) for at, size in ((28, 2), (30, 4)))
    # Pillow decodes run lengths in Python: minutes for what other formats do in milliseconds.
    if compression in _RUN_LENGTHS:
        if len(data) > MAX_RUN_LENGTH_BYTES:
            raise too_many("A run-length encoded BMP can have at most 1 MB.")
        return Skeleton(data)
    if compression not in {_PLAIN, *_BIT_FIELDS}:
        raise unsupported("This BMP stores its pixels in another format.")
    row = (width * bits + 31) // 32 * 4
    missing = number(data, 10, 4, little=True) + row * height - len(data)
    if missing > max(row, 3):
        raise damaged("BMP")
    strange = f"This BMP has {bits} bits per pixel in an unusual order."
    if missing > 0:
        return Skeleton(data + bytes(missing), note=Note.CUT_SHORT, strange=strange)
    return Skeleton(data, strange=strange)


def walk_jpeg2000(data: bytes) -> Skeleton:
    """Size and tiles of the code stream, whose tile parts must all be there."""
    start, end = 0, len(data)
    if not data.startswith(_CODE_STREAM):
        start, end = next(
            ((at, stop) for kind, at, stop in boxes(data, 0, end) if kind == b"jp2c"), (end, end)
        )
    if data[start : start + 4] != _CODE_STREAM or start + 8 + _SIZ.size > end:
        raise damaged("JPEG2000")
    right, bottom, left, top, across, down, _, _, components = _SIZ.unpack_from(data, start + 8)
    size = right - left, bottom - top
    if not (across and down) or min(size) < 1:
        raise damaged("JPEG2000")
    if -(-right // across) * -(-bottom // down) > MAX_TILES:
        raise too_many("The JPEG 2000 has too many tiles to be valid.")
    if components > _MOST_COMPONENTS:
        raise unsupported(f"This JPEG 2000 has {components} components.")
    if not _has_all_parts(data, start + 2, end):
        raise damaged("JPEG2000")
    return Skeleton(data, size=size, strange="This JPEG 2000 has unusual components.")


def _has_all_parts(data: bytes, at: int, end: int) -> bool:
    """Whether a code stream has its tile parts, whose lengths stand in them, and its end."""
    while data[at : at + 2] not in (_TILE_PART, _END, b""):
        at += 2 + max(number(data, at + 2, 2), 2)
    parts = 0
    while data[at : at + 2] == _TILE_PART:
        parts += 1
        if parts > 255 * MAX_TILES:
            raise too_many("The JPEG 2000 has too many parts to be valid.")
        length = number(data, at + 6, 4)
        if length == 0:  # to the end
            at = end - 2
            break
        at += max(length, 12)
    return parts > 0 and data[at : at + 2] == _END and at + 2 <= end


def walk_icon(data: bytes) -> Skeleton:
    """Of an icon's pictures the largest, with most bits; it alone goes on."""
    count = number(data, 4, 2, little=True)
    if count > MAX_SEGMENTS:
        raise too_many("The icon has too many images to be valid.")
    if 6 + count * _ICON.size > len(data) or not count:
        raise damaged("ICO")
    entries = [_ICON.unpack_from(data, 6 + n * _ICON.size) for n in range(count)]
    best = max(entries, key=lambda one: ((one[0] or 256) * (one[1] or 256), one[5]))
    length, offset = best[6:]
    picture = data[offset : offset + length]
    if len(picture) < length or length < _BITMAP_HEADER:
        raise damaged("ICO")
    if picture.startswith(_PNG):
        return replace(walk_png(picture), kind="PNG", frames=count)
    if number(picture, 0, 4, little=True) != _BITMAP_HEADER:
        raise damaged("ICO")
    if number(picture, 16, 4, little=True):
        raise unsupported("The image in this icon is compressed in an unusual way.")
    size = tuple(int.from_bytes(picture[at : at + 4], "little", signed=True) for at in (4, 8))
    alone = data[:4] + b"\1\0" + _ICON.pack(*best[:7], 6 + _ICON.size) + picture
    return Skeleton(alone, size=(size[0], size[1] // 2), frames=count)


def walk_photoshop(data: bytes) -> Skeleton:
    """The flattened picture, which stands behind the layers, must be there."""
    if len(data) < 12 + _PSD_HEADER.size:
        raise damaged("PSD")
    channels, height, width, depth, _ = _PSD_HEADER.unpack_from(data, 12)
    if depth not in {1, 8}:
        raise unsupported(f"This Photoshop file has {depth} bits per sample. D3 reads 8.")
    at, metadata = 26, Metadata()
    at += 4 + number(data, at, 4)
    resources, end = at + 4, at + 4 + number(data, at, 4)
    metadata.add_photoshop(data[resources:end])
    for _ in range(MAX_SEGMENTS + 1):
        if resources >= end:
            break
        name = number(data, resources + 6, 1)
        resources += 7 + name + (name + 1) % 2
        length = number(data, resources, 4)
        resources += 4 + length + length % 2
    else:
        raise too_many("The Photoshop file has too many resources to be valid.")
    at = end + 4 + number(data, end, 4)
    compression, at = number(data, at, 2), at + 2
    rows = height * channels
    if compression == 0:
        needed = rows * ((width * depth + 7) // 8)
    elif compression == 1:
        if len(data) < at + 2 * rows:
            raise damaged("PSD")
        needed = 2 * rows + sum(struct.unpack_from(f">{rows}H", data, at))
    else:
        raise unsupported(
            "The flattened image in this Photoshop file is compressed in an unusual way."
        )
    if at + needed > len(data):
        raise damaged("PSD")
    return Skeleton(
        data,
        size=(width, height),
        metadata=metadata,
        strange="The flattened image in this Photoshop file has an unusual type.",
    )
