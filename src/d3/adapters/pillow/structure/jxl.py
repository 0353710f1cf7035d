"""JPEG XL: size and turning stand in the first bits of the code stream, which alone goes on."""

from __future__ import annotations

from itertools import islice

from d3.adapters.pillow.structure.boxes import boxes
from d3.adapters.pillow.structure.common import Skeleton, damaged, number, unsupported
from d3.adapters.provenance import Metadata

_SIGNATURE = b"\xff\x0a"
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SIZE_BITS = ((0, 9), (0, 13), (0, 18), (0, 30))
_PREVIEW_BITS = ((0, 6), (64, 8), (320, 10), (1344, 12))
_MOST_PARTS = 10_000


def walk_jxl(data: bytes) -> Skeleton:
    """Take the code stream out of its container, read its header, and undo its turning."""
    stream = data if data.startswith(_SIGNATURE) else _stream(data)
    if not stream.startswith(_SIGNATURE):
        raise damaged("JXL")
    bits = _Bits(stream[:64])
    size = _size(bits)
    orientation = 1
    if not bits.take(1) and bits.take(1):
        at = bits.at
        orientation = 1 + bits.take(3)
        if bits.take(1):
            _size(bits)
        if bits.take(1):
            _preview(bits)
        if bits.take(1):
            raise unsupported("This is an animated JPEG XL. D3 reads only still ones.")
        if orientation != 1:
            stream = _cleared(stream, at, 3)
    return Skeleton(stream, size=size, orientation=orientation, metadata=_metadata(data))


def _metadata(data: bytes) -> Metadata:
    """What the boxes beside the code stream say; those that are compressed are not read."""
    found = Metadata()
    if data.startswith(_SIGNATURE):
        return found
    for kind, start, end in islice(boxes(data, 0, len(data)), _MOST_PARTS):
        if kind == b"Exif":  # the first four bytes say how far the structure is
            found.add_exif(data[start + 4 + number(data, start, 4) : end])
        elif kind == b"xml ":
            found.add_xmp(data[start:end])
        elif kind == b"jumb":
            found.c2pa = True
    return found


class _Bits:
    """The code stream's header, read from each byte's lowest bit."""

    def __init__(self, data: bytes) -> None:
        self.at = 8 * len(_SIGNATURE)
        self._value, self._length = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        """The next bits as a number."""
        if self.at + count > self._length:
            raise damaged("JXL")
        found = self._value >> self.at & (1 << count) - 1
        self.at += count
        return found

    def chosen(self, choices: tuple[tuple[int, int], ...]) -> int:
        """A number whose first two bits choose its least value and its length."""
        least, count = choices[self.take(2)]
        return least + self.take(count)


def _size(bits: _Bits) -> tuple[int, int]:
    """Width and height."""
    small = bits.take(1)

    def side() -> int:
        return 8 * (bits.take(5) + 1) if small else 1 + bits.chosen(_SIZE_BITS)

    height = side()
    return _width(bits.take(3), height) or side(), height


def _preview(bits: _Bits) -> None:
    """Pass over a preview's size."""
    if bits.take(1):
        choices: tuple[tuple[int, int], ...] = ((16, 0), (32, 0), (1, 5), (33, 9))
    else:
        choices = tuple((least + 1, count) for least, count in _PREVIEW_BITS)
    bits.chosen(choices)
    if not bits.take(3):
        bits.chosen(choices)


def _width(ratio: int, height: int) -> int:
    """The width that a ratio's number stands for; 0 where it stands for none."""
    if not ratio:
        return 0
    across, down = _RATIOS[ratio - 1]
    return height * across // down


def _stream(data: bytes) -> bytes:
    """The code stream of a container; metadata and a JPEG's leftovers stay behind."""
    parts = []
    for kind, start, end in islice(boxes(data, 0, len(data)), _MOST_PARTS):
        if kind == b"jxlc":
            return data[start:end]
        if kind == b"jxlp":
            parts.append(data[start + 4 : end])
    return b"".join(parts)


def _cleared(data: bytes, at: int, count: int) -> bytes:
    """The bytes with some of their first bits as zeros."""
    head = int.from_bytes(data[:64], "little") & ~((1 << count) - 1 << at)
    return head.to_bytes(len(data[:64]), "little") + data[64:]
