"""TIFF: the first page's directory is read, and every strip or tile must lie within the file."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from d3.adapters.pillow.structure.common import (
    ORIENTATION,
    Skeleton,
    damaged,
    number,
    too_many,
    unsupported,
)
from d3.adapters.pillow.structure.jpeg import walk_jpeg
from d3.adapters.provenance import Metadata

_BIG = 43
MAX_PAGES = 10_000
MAX_ENTRIES = 4_096
MAX_SEGMENTS = 2**20
MAX_TILE_PIXELS = 2**24
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}
_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
_KIND, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_OFFSETS, _SAMPLES, _ROWS, _COUNTS, _PLANES = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
_CAMERA_PATTERN, _CAMERA_VERSION = 32_803, 50_706
_XMP, _IPTC, _C2PA = 700, 33_723, 52_545
_JPEG, _WHITE_IS_ZERO, _SEPARATE = 7, 0, 2


class _Layout(NamedTuple):
    """How a file writes its directories.

    Attributes:
        data: the file.
        little: whether a number's smallest byte comes first.
        wide: bytes of the number of entries.
        entry: bytes of an entry.
        inline: bytes of a value within an entry, of a count and of an offset.
    """

    data: bytes
    little: bool
    wide: int
    entry: int
    inline: int

    def number(self, at: int, size: int) -> int:
        """The number of so many bytes at this offset."""
        return number(self.data, at, size, little=self.little)

    def following(self, at: int) -> int:
        """The offset of the directory after the one at this offset; 0 where there is none."""
        end = at + self.wide + self.number(at, self.wide) * self.entry
        return self.number(end, self.inline)


@dataclass(slots=True)
class _Directory:
    """One page's directory: (type, count, offset of the value) of each tag."""

    data: bytes
    little: bool
    entries: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    def values(self, tag: int, most: int = MAX_SEGMENTS) -> tuple[int, ...]:
        """The numbers of a tag; none where it is not there or no whole number."""
        kind, count, at = self.entries.get(tag, (0, 0, 0))
        if kind not in _NUMBERS or count == 0:
            return ()
        if count > most:
            raise too_many("The TIFF has too many strips or tiles to be valid.")
        form = f"{'<' if self.little else '>'}{count}{_NUMBERS[kind]}"
        try:
            return struct.unpack_from(form, self.data, at)
        except struct.error:
            raise damaged("TIFF") from None

    def value(self, tag: int, default: int) -> int:
        """The first number of a tag."""
        found = self.values(tag)
        return found[0] if found else default


def walk_tiff(data: bytes, max_jpeg_scans: int) -> Skeleton:
    """Check the first page and count the others."""
    little = data[:2] == b"II"
    big = number(data, 2, 2, little=little) == _BIG
    layout = _Layout(data, little, *((8, 20, 8) if big else (2, 12, 4)))
    at = layout.number(layout.inline, layout.inline)
    page, frames, seen = _directory(layout, at), 1, {0, at}
    while (at := layout.following(at)) not in seen and at < len(data) and frames < MAX_PAGES:
        seen.add(at)
        frames += 1
    size = page.value(_WIDTH, 0), page.value(_HEIGHT, 0)
    if (
        page.value(_KIND, 0) & 1
        or page.value(_PHOTOMETRIC, 0) == _CAMERA_PATTERN
        or _CAMERA_VERSION in page.entries
        or data[8:10] == b"CR"
    ):
        raise unsupported("This is a camera's raw file, whose first page is a small preview.")
    bits = max(page.values(_BITS) or (1,))
    if page.value(_PHOTOMETRIC, 1) == _WHITE_IS_ZERO and bits > 8:  # noqa: PLR2004
        raise unsupported(f"This TIFF has {bits} bits per sample, and zero means white.")
    _check_segments(page, size, max_jpeg_scans)
    patched, orientation = data, page.value(ORIENTATION, 1)
    if orientation != 1:
        at = page.entries[ORIENTATION][2]
        one = (1).to_bytes(2, "little" if little else "big")
        patched = data[:at] + one + data[at + 2 :]
    compression = page.value(_COMPRESSION, 1)
    return Skeleton(
        patched,
        size=size,
        frames=frames,
        orientation=orientation if 1 <= orientation <= 8 else 1,  # noqa: PLR2004
        metadata=_metadata(page),
        strange=f"This TIFF stores its pixels in an unusual way (compression {compression}, "
        f"{bits} bits a sample).",
    )


def _metadata(page: _Directory) -> Metadata:
    """A TIFF is itself what Exif is in other files; beside it lie XMP, IPTC and C2PA."""
    found = Metadata(exif=page.data, c2pa=_C2PA in page.entries)
    for tag, add in ((_XMP, found.add_xmp), (_IPTC, found.add_iptc)):
        kind, count, at = page.entries.get(tag, (0, 0, 0))
        if count:
            add(page.data[at : at + count * _SIZES.get(kind, 0)])
    return found


def _directory(layout: _Layout, at: int) -> _Directory:
    """The directory at this offset."""
    data, count, first = layout.data, layout.number(at, layout.wide), at + layout.wide
    if count == 0 or first + count * layout.entry > len(data):
        raise damaged("TIFF")
    if count > MAX_ENTRIES:
        raise too_many("The TIFF has too many tags to be valid.")
    found, total = _Directory(data, layout.little), 0
    for place in range(first, first + count * layout.entry, layout.entry):
        tag, kind = layout.number(place, 2), layout.number(place + 2, 2)
        values = layout.number(place + 4, layout.inline)
        size, value = values * _SIZES.get(kind, 0), place + 4 + layout.inline
        if size > layout.inline:
            value = layout.number(value, layout.inline)
            total += size
        # Pillow reads every tag's values: many tags may not all point at the same large ones.
        if total > len(data) or value + size > len(data):
            raise damaged("TIFF")
        found.entries.setdefault(tag, (kind, values, value))
    return found


def _check_segments(page: _Directory, size: tuple[int, int], max_jpeg_scans: int) -> None:
    """Every strip or tile is there, within the file, and of a reasonable size."""
    width, height = size
    planes = page.value(_SAMPLES, 1) if page.value(_PLANES, 1) == _SEPARATE else 1
    if _TILE_OFFSETS in page.entries:
        across, down = page.value(_TILE_WIDTH, 0), page.value(_TILE_HEIGHT, 0)
        offsets, counts = page.values(_TILE_OFFSETS), page.values(_TILE_COUNTS)
    else:
        across, down = width, min(page.value(_ROWS, height), height)
        offsets, counts = page.values(_OFFSETS), page.values(_COUNTS)
    if across < 1 or down < 1:
        raise damaged("TIFF")
    if across * down > max(MAX_TILE_PIXELS, 4 * width * height):
        raise too_many("The tiles of the TIFF are far larger than its image.")
    needed = -(-width // across) * -(-height // down) * planes
    if len(offsets) < needed or any(offset >= len(page.data) for offset in offsets):
        raise damaged("TIFF")
    for offset, count in zip(offsets, counts, strict=False):
        if offset + count > len(page.data):
            raise damaged("TIFF")
    if page.value(_COMPRESSION, 1) == _JPEG:
        # Tables are stored elsewhere, so only the number of scans is known here.
        for offset, count in zip(offsets[:needed], counts, strict=False):
            walk_jpeg(page.data[offset : offset + count], max_jpeg_scans)
