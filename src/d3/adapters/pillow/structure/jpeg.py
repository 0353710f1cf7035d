"""JPEG: segments and scans are counted, and what a file without its last bytes lacks is found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from d3.adapters.pillow.structure.common import (
    MAX_SEGMENTS,
    Skeleton,
    damaged,
    number,
    orientation_of,
    too_many,
    unsupported,
)
from d3.adapters.provenance import Metadata
from d3.domain.images import Note

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_END, _SCAN, _STANDALONE = 0xD9, 0xDA, 0x01
_APP1, _APP11, _APP13 = 0xE1, 0xEB, 0xED
_EXIF, _XMP, _JUMBF = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"JP"
_PHOTOSHOP = b"Photoshop 3.0\0"
_TOLD = frozenset({_APP1, _APP11, _APP13})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_READ = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_BLOCK = 8
_COEFFICIENTS = 64
_CONTEXT_ROWS = 2
"""Colours of a row above what is missing are interpolated with it."""

_FILLER = bytes((n * 97 + 53) % 251 for n in range(96))
"""Bits that mean something, whatever the Huffman table; no byte is 0xFF."""


@dataclass(slots=True)
class _Frame:
    """A start-of-frame segment, and what of its coefficients the scans have brought."""

    process: int
    precision: int
    height: int
    components: dict[int, int]
    bits: dict[int, list[int | None]] = field(default_factory=dict)

    @property
    def block_rows(self) -> int:
        """Rows of pixels in a row of MCUs."""
        return _BLOCK * max(self.components.values(), default=1)

    @property
    def slack(self) -> int:
        """How many rows the last row of MCUs decides."""
        return (self.height - 1) % self.block_rows + 1 + _CONTEXT_ROWS

    def scanned(self, data: bytes, at: int) -> None:
        """Note what the scan whose header begins here brings."""
        count = number(data, at + 2, 1)
        first, last, shifts = data[at + 3 + 2 * count : at + 6 + 2 * count].ljust(3, b"\0")
        if self.process not in _PROGRESSIVE:
            first, last, shifts = 0, _COEFFICIENTS - 1, 0
        for n in range(count):
            component = number(data, at + 3 + 2 * n, 1)
            bits = self.bits.setdefault(component, [None] * _COEFFICIENTS)
            for place in range(first, min(last, _COEFFICIENTS - 1) + 1):
                bits[place] = shifts & 15

    @property
    def begun(self) -> bool:
        """Whether each component was in a scan."""
        return all(self.bits.get(one, [None])[0] is not None for one in self.components)

    @property
    def whole(self) -> bool:
        """Whether the scans have brought every coefficient to its last bit."""
        return all(not any(bit != 0 for bit in self.bits.get(one, [1])) for one in self.components)


def walk_jpeg(data: bytes, max_scans: int) -> Skeleton:
    """Count segments and scans, and look for the end.

    A decoder fills up what is missing with grey and says nothing. So a file without its end is
    decoded twice, completed with nothing and with some bits: rows above what is missing are the
    same both times. A file whose data stop before its end marker is found out in the same
    way, once its last pixel is that grey.
    """
    frame: _Frame | None = None
    metadata, end = Metadata(), None
    for code, start, at in _segments(data, max_scans):
        if code == _END:
            end = start
        elif code == _SCAN and frame is not None:
            frame.scanned(data, at)
        elif code in _FRAMES and frame is None:
            frame = _frame(code, data, at)
        elif code in _TOLD:
            _take(metadata, code, data[at + 2 : at + number(data, at, 2)])
    if frame is None:
        return Skeleton(data, metadata=metadata)
    if frame.precision > _BLOCK:
        raise unsupported(f"This JPEG has {frame.precision} bits per sample. D3 reads 8.")
    if not frame.begun or (end is None and not frame.whole):
        raise damaged("JPEG")
    strange = None if frame.process in _READ else "This is a lossless or hierarchical JPEG."

    def completed(filler: bytes) -> bytes:
        return data[:end].rstrip(b"\xff") + filler + b"\xff\xd9"

    return Skeleton(
        data if end is not None else completed(b""),
        orientation=orientation_of(metadata.exif),
        note=Note.CUT_SHORT if end is None else None,
        other=lambda: completed(_FILLER),
        suspect=end is not None and frame.whole,
        slack=frame.slack,
        strange=strange,
        metadata=metadata,
    )


def _take(metadata: Metadata, code: int, segment: bytes) -> None:
    """A segment that may say something beside the picture."""
    if code == _APP1 and segment.startswith(_EXIF):
        metadata.add_exif(segment)
    elif code == _APP1 and segment.startswith(_XMP):
        metadata.add_xmp(segment.removeprefix(_XMP))
    elif code == _APP11 and segment.startswith(_JUMBF):
        metadata.c2pa = True
    elif code == _APP13 and segment.startswith(_PHOTOSHOP):
        metadata.add_photoshop(segment)


def _segments(data: bytes, max_scans: int) -> Iterator[tuple[int, int, int]]:
    """Code, start and content's offset of each segment, to the first end of an image."""
    at, scans = 2, 0
    for _ in range(MAX_SEGMENTS + 1):
        marker = _MARKER.search(data, at)
        if marker is None:
            return
        code, at = data[marker.end() - 1], marker.end()
        scans += code == _SCAN
        if scans > max_scans:
            raise too_many(f"The JPEG has more than {max_scans} scans.")
        yield code, marker.start(), at
        if code == _END:
            return
        if code != _STANDALONE:
            at += number(data, at, 2)
    raise too_many(f"The JPEG has more than {MAX_SEGMENTS} segments.")


def _frame(code: int, data: bytes, at: int) -> _Frame:
    count = number(data, at + 7, 1)
    entries = [data[at + 8 + 3 * n : at + 11 + 3 * n] for n in range(count)]
    components = {one[0]: one[1] & 15 for one in entries if len(one) > 1}
    return _Frame(code, number(data, at + 2, 1), number(data, at + 3, 2), components)
