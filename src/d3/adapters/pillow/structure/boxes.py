"""HEIF and AVIF: the boxes that say where a picture's parts lie and how it is turned.

A decoder may leave black or green what it does not find. So every part of the picture must lie
within the file, and a tile that came out in one colour must decode by itself. The picture's turning
is taken out before the decoder sees it: D3 judges pixels as they are stored.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from d3.adapters.pillow.structure.common import (
    MAX_SEGMENTS,
    Skeleton,
    Tile,
    damaged,
    number,
    too_many,
    unsupported,
)
from d3.adapters.provenance import Metadata
from d3.domain.images import ORIENTATIONS, turned

_MANY_ITEMS = 20_000
_HEVC, _DERIVED = b"hvc1", frozenset({b"grid", b"iden", b"iovl"})
_OTHER_CODERS = {
    b"av01": "AV1",
    b"avc1": "H.264",
    b"j2k1": "JPEG 2000",
    b"jpeg": "JPEG",
    b"lhv1": "layered HEVC",
    b"unci": "uncompressed pixels",
    b"vvc1": "VVC",
}
_TURNING = (b"irot", b"imir")
_IN_FILE, _IN_BOX = 0, 1
_METADATA, _NOTHING = b"cdsc", b"skip"
_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""The kind of a ``uuid`` box that holds Content Credentials."""

_PACKETS = b"<?xpacket", b"<x:xmpmeta", b"<rdf:RDF"


@dataclass(slots=True)
class _Items:
    """What a ``meta`` box says.

    Attributes:
        primary: the picture's item.
        primary_at: offset and length of its number in the file.
        kinds: of items.
        flags_at: of items, the offset of the byte that says whether it is hidden.
        extents: of items, as (offset, length) in the file; None where they lie elsewhere.
        parts: the items that an item is made of, in order.
        metadata_at: offsets of the words that tie Exif and other metadata to a picture.
        properties: kind, start and end of each, counted from 1.
        uses: of an item: number of the property, and the offset and length of where that is said.
    """

    primary: int = 0
    primary_at: tuple[int, int] = (0, 0)
    kinds: dict[int, bytes] = field(default_factory=dict)
    flags_at: dict[int, int] = field(default_factory=dict)
    extents: dict[int, list[tuple[int, int]] | None] = field(default_factory=dict)
    parts: dict[int, list[int]] = field(default_factory=dict)
    metadata_at: list[int] = field(default_factory=list)
    properties: list[tuple[bytes, int, int]] = field(default_factory=list)
    uses: dict[int, list[tuple[int, int, int]]] = field(default_factory=dict)

    def used(self, item: int) -> Iterator[tuple[bytes, int, tuple[int, int]]]:
        """Kind and start of each property of an item, and where it is said."""
        for index, at, length in self.uses.get(item, ()):
            if 0 < index <= len(self.properties):
                kind, start, _ = self.properties[index - 1]
                yield kind, start, (at, length)

    def picture(self) -> list[int]:
        """The primary item and all it is made of."""
        found: dict[int, None] = {}
        waiting = [self.primary]
        while waiting:
            item = waiting.pop()
            if item not in found:
                found[item] = None
                waiting += self.parts.get(item, ())
            if len(found) + len(waiting) > _MANY_ITEMS:
                raise too_many("The image has too many parts to be valid.")
        return list(found)


def walk_heif(data: bytes) -> Skeleton:
    """Check that the picture's parts are there and of a kind that is read; undo its turning."""
    items = _read(data)
    if items is None:
        if any(kind == b"moov" for kind, _, _ in boxes(data, 0, len(data))):
            raise unsupported("This HEIF file holds an image sequence but no still image.")
        raise damaged("HEIF")
    _check_parts(data, items)
    patched, orientation = bytearray(data), _orientation(data, items)
    for kind, _, (at, length) in items.used(items.primary):
        if kind in _TURNING:
            patched[at : at + length] = bytes(length)  # property 0 is none
    for at in items.metadata_at:  # not used, and reading it has crashed libheif's binding
        patched[at : at + 4] = _NOTHING
    return Skeleton(
        bytes(patched),
        size=_size(data, items, items.primary),
        frames=0,
        orientation=orientation,
        tiles=lambda: _tiles(data, items),
        metadata=_metadata(data, items),
    )


def _check_parts(data: bytes, items: _Items) -> None:
    """Everything the picture is made of lies within the file and is coded as HEVC."""
    for item in items.picture():
        kind = items.kinds.get(item, b"")
        if kind != _HEVC and kind not in _DERIVED:
            coder = _OTHER_CODERS.get(kind)
            if coder is None:
                raise damaged("HEIF")
            raise unsupported(f"This HEIF file holds {coder}. D3 reads only HEVC in HEIF files.")
        for offset, length in items.extents.get(item) or ():
            if offset + length > len(data):
                raise damaged("HEIF")


def walk_avif(data: bytes) -> Skeleton:
    """Size and orientation; the rest is libavif's, which is strict and turns nothing."""
    items = _read(data)
    if items is None:
        return Skeleton(data, frames=0)
    orientation = _orientation(data, items)
    return Skeleton(
        data,
        size=_size(data, items, items.primary),
        frames=0,
        orientation=orientation,
        metadata=_metadata(data, items),
    )


def _metadata(data: bytes, items: _Items) -> Metadata:
    """What the items beside the picture say, and whether there are Content Credentials."""
    found = Metadata(
        c2pa=any(
            kind == b"uuid" and data[at : at + 16] == _C2PA
            for kind, at, _ in boxes(data, 0, len(data))
        )
    )
    for item, kind in items.kinds.items():
        if kind not in (b"Exif", b"mime"):
            continue
        content = b"".join(data[at : at + size] for at, size in (items.extents.get(item) or ())[:1])
        if kind == b"Exif":  # the first four bytes say how far the structure is
            found.add_exif(content[4 + number(content, 0, 4) :])
        elif content.lstrip()[:10].startswith(_PACKETS):
            found.add_xmp(content)
    return found


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of each box in this part of the file."""
    for _ in range(MAX_SEGMENTS):
        if start + 8 > end:
            return
        size, head = number(data, start, 4), 8
        if size == 1:
            size, head = number(data, start + 8, 8), 16
        stop = end if size == 0 else start + size
        if stop < start + head:
            return
        yield data[start + 4 : start + 8], start + head, min(stop, end)
        start = stop
    raise too_many("The image has too many boxes to be valid.")


def _read(data: bytes) -> _Items | None:
    """What the file's ``meta`` box says; None where there is none or it makes no sense."""
    meta = next((one for one in boxes(data, 0, len(data)) if one[0] == b"meta"), None)
    if meta is None:
        return None
    inside: dict[bytes, tuple[int, int]] = {}
    for kind, start, end in boxes(data, meta[1] + 4, meta[2]):
        inside.setdefault(kind, (start, end))
    items = _Items()
    try:
        start, _ = inside[b"pitm"]
        items.primary_at = (start + 4, 4 if data[start] else 2)
        items.primary = number(data, *items.primary_at)
        _read_kinds(data, items, *inside[b"iinf"])
        _read_places(data, items, *inside[b"iloc"], inside.get(b"idat", (0, 0)))
        if b"iref" in inside:
            _read_parts(data, items, *inside[b"iref"])
        if b"iprp" in inside:
            _read_properties(data, items, *inside[b"iprp"])
    except (KeyError, IndexError, struct.error):
        return None
    return items


def _read_kinds(data: bytes, items: _Items, start: int, end: int) -> None:
    for kind, at, _ in islice(boxes(data, start + (8 if data[start] else 6), end), _MANY_ITEMS):
        if kind == b"infe" and data[at] >= 2:  # noqa: PLR2004  older versions name no kind
            wide = 4 if data[at] > 2 else 2  # noqa: PLR2004
            item = number(data, at + 4, wide)
            items.kinds[item] = data[at + 6 + wide : at + 10 + wide]
            items.flags_at[item] = at + 3


def _read_places(data: bytes, items: _Items, start: int, end: int, idat: tuple[int, int]) -> None:
    version = data[start]
    offset_size, length_size = data[start + 4] >> 4, data[start + 4] & 15
    base_size, index_size = data[start + 5] >> 4, data[start + 5] & 15 if version else 0
    wide = 4 if version > 1 else 2
    count, at = number(data, start + 6, wide), start + 6 + wide
    extents = 0
    for _ in range(count):
        item, at = number(data, at, wide), at + wide
        method = number(data, at, 2) & 15 if version else _IN_FILE
        at += 4 if version else 2
        base, at = number(data, at, base_size), at + base_size
        parts, at = number(data, at, 2), at + 2
        found: list[tuple[int, int]] = []
        for _ in range(parts):
            at += index_size
            offset, at = base + number(data, at, offset_size), at + offset_size
            length, at = number(data, at, length_size), at + length_size
            found.append((offset + (idat[0] if method == _IN_BOX else 0), length))
            extents += 1
            if at > end or extents > _MANY_ITEMS:
                raise IndexError
        items.extents[item] = found if method in {_IN_FILE, _IN_BOX} else None


def _read_parts(data: bytes, items: _Items, start: int, end: int) -> None:
    wide = 4 if data[start] else 2
    for kind, at, stop in boxes(data, start + 4, end):
        if kind == b"dimg":
            count = min(number(data, at + wide, 2), (stop - at) // wide)
            places = range(at + wide + 2, at + wide + 2 + count * wide, wide)
            items.parts[number(data, at, wide)] = [number(data, one, wide) for one in places]
        elif kind == _METADATA:
            items.metadata_at.append(at - 4)


def _read_properties(data: bytes, items: _Items, start: int, end: int) -> None:
    for kind, at, stop in boxes(data, start, end):
        if kind == b"ipco":
            items.properties = list(boxes(data, at, stop))
        elif kind == b"ipma":
            wide, size = (4 if data[at] else 2), 2 if data[at + 3] & 1 else 1
            count, place = number(data, at + 4, 4), at + 8
            for _ in range(min(count, _MANY_ITEMS)):
                item, place = number(data, place, wide), place + wide
                uses = []
                for _ in range(data[place]):
                    place += size
                    index = number(data, place - size + 1, size) & (0x7FFF if size > 1 else 0x7F)
                    uses.append((index, place - size + 1, size))
                place += 1
                items.uses.setdefault(item, uses)


def _size(data: bytes, items: _Items, item: int) -> tuple[int, int] | None:
    for kind, start, _ in items.used(item):
        if kind == b"ispe":
            return number(data, start + 4, 4), number(data, start + 8, 4)
    return None


def _orientation(data: bytes, items: _Items) -> int:
    """How the picture is turned for people, of its properties in their order."""
    probe = shown = np.arange(6).reshape(2, 3)
    for kind, start, _ in items.used(items.primary):
        if kind == b"irot":
            shown = np.rot90(shown, number(data, start, 1) & 3)
        elif kind == b"imir":
            shown = shown[:, ::-1] if number(data, start, 1) & 1 else shown[::-1]
    return next(one for one in ORIENTATIONS if np.array_equal(turned(probe, one), shown))


def _tiles(data: bytes, items: _Items) -> Iterator[Tile]:
    """The tiles of a picture that is a grid of them; nothing of another."""
    if items.kinds.get(items.primary) != b"grid":
        return
    (grid, _), *_ = items.extents.get(items.primary) or [(0, 0)]
    rows, columns = number(data, grid + 2, 1) + 1, number(data, grid + 3, 1) + 1
    tiles = items.parts.get(items.primary, [])
    size = _size(data, items, tiles[0]) if tiles else None
    if size is None or len(tiles) != rows * columns:
        raise damaged("HEIF")
    for n, tile in enumerate(tiles):
        left, top = n % columns * size[0], n // columns * size[1]
        yield Tile((left, top, left + size[0], top + size[1]), _alone(data, items, tile))


def _alone(data: bytes, items: _Items, tile: int) -> Callable[[], bytes]:
    def make() -> bytes:
        file, (at, length) = bytearray(data), items.primary_at
        file[at : at + length] = tile.to_bytes(length)
        file[items.flags_at[tile]] &= 0xFE  # a hidden item is not shown
        return bytes(file)

    return make
