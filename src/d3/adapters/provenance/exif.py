"""Exif: the few tags that speak of a camera, an editor or a generator, and no other.

Each directory is read once and no value beyond its limit, so neither pointers that go round nor
thousands of tags that hold the same megabyte cost anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from d3.adapters.provenance.words import MAX_TEXT_BYTES, line

_SUB_DIRECTORY, _GPS_DIRECTORY = 0x8769, 0x8825
_NAMES = {
    0x010E: "description",
    0x010F: "make",
    0x0110: "model",
    0x0131: "software",
    0x0132: "modified_at",
    0x013B: "artist",
    0x9003: "created_at",
    0x9286: "comment",
    0x010D: "document",
}
_BYTE, _ASCII, _SIGNED_BYTE, _UNDEFINED, _UTF8 = 1, 2, 6, 7, 129
_TEXTS = {_BYTE, _ASCII, _SIGNED_BYTE, _UNDEFINED, _UTF8}
_RATIONAL, _LONG = 5, 4
_ENTRY = 12
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE = _POSITION = 1, 2, 3, 4
_WANTED = {*_NAMES, *_POSITION, _SUB_DIRECTORY, _GPS_DIRECTORY}
_WIDE = "utf-16"
_CODES = {
    b"ASCII\0\0\0": "utf-8",
    b"JIS\0\0\0\0\0": "iso2022_jp",
    b"UNICODE\0": _WIDE,
    b"\0\0\0\0\0\0\0\0": "utf-8",
}
_MARKS = {b"\xff\xfe": "little", b"\xfe\xff": "big"}
_DATE = re.compile(r"(\d{4}):(\d\d):(\d\d)(.*)", re.DOTALL)


@dataclass(slots=True)
class Exif:
    """What was found.

    Attributes:
        texts: by the names above; as long as :data:`MAX_TEXT_BYTES`.
        position: latitude and longitude in degrees, such as ``"48.85837, 2.29448"``.
    """

    texts: dict[str, str] = field(default_factory=dict)
    position: str | None = None

    def said(self, name: str) -> str | None:
        """A text as one short line; None where there is none."""
        return line(self.texts.get(name, ""))

    def date(self, name: str) -> str | None:
        """A date as ISO 8601 writes it, or as it stands."""
        said = self.said(name)
        found = _DATE.fullmatch(said or "")
        return said if found is None else "-".join(found.groups()[:3]) + found[4]


def read_exif(data: bytes, *, position: bool) -> Exif:
    """Read a TIFF structure.

    Args:
        data: from its byte order on; of anything else nothing comes.
        position: whether to read where the photograph was taken.
    """
    found = Exif()
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(data[:4])
    if order is None:
        return found
    tiff = _Tiff(data, little=order == "little")
    first = tiff.directory(tiff.number(4, 4))
    inner = tiff.pointed(first, _SUB_DIRECTORY)
    for directory in (first, inner):
        for tag, place in directory.items():
            name = _NAMES.get(tag)
            text = "" if name is None else tiff.text(place)
            if name is not None and text and name not in found.texts:
                found.texts[name] = text
    if position:
        found.position = tiff.position(tiff.pointed(first, _GPS_DIRECTORY))
    return found


class _Tiff:
    """A TIFF structure in memory."""

    def __init__(self, data: bytes, *, little: bool) -> None:
        self._data = data
        self._order = "little" if little else "big"

    def number(self, at: int, size: int) -> int:
        """The unsigned number here; of what lies beyond the end, 0."""
        found = self._data[at : at + size]
        return int.from_bytes(found, "little" if self._order == "little" else "big")

    def directory(self, at: int) -> dict[int, tuple[int, int, int]]:
        """By tag: type, count, and where the value lies. The first of each tag counts."""
        found: dict[int, tuple[int, int, int]] = {}
        count = self.number(at, 2) if at else 0
        for entry in range(at + 2, at + 2 + count * _ENTRY, _ENTRY):
            if entry + _ENTRY > len(self._data):
                break
            tag = self.number(entry, 2)
            if tag not in _WANTED:
                continue
            kind, values = self.number(entry + 2, 2), self.number(entry + 4, 4)
            size = values * {_RATIONAL: 8, _LONG: 4}.get(kind, 1)
            place = entry + 8 if size <= 4 else self.number(entry + 8, 4)  # noqa: PLR2004
            found.setdefault(tag, (kind, values, place))
        return found

    def pointed(
        self, directory: dict[int, tuple[int, int, int]], tag: int
    ) -> dict[int, tuple[int, int, int]]:
        """The directory that a tag points at."""
        return self.directory(self.number(directory[tag][2], 4)) if tag in directory else {}

    def text(self, value: tuple[int, int, int]) -> str:
        """A value as text, whatever it is encoded in."""
        kind, count, at = value
        if kind not in _TEXTS:
            return ""
        raw = self._data[at : at + min(count, MAX_TEXT_BYTES)]
        coding = _CODES.get(raw[:8].upper())
        if coding is not None:
            raw = raw[8:]
        if coding == _WIDE or (coding is None and _is_wide(raw)):
            return self._wide(raw)
        if coding is None:
            raw = raw.partition(b"\0")[0]
        try:
            return raw.decode(coding or "utf-8").strip("\0 \r\n\t")
        except UnicodeDecodeError:
            return raw.decode("latin-1").strip("\0 \r\n\t")

    def _wide(self, raw: bytes) -> str:
        """Text of two bytes a character, in this order or, from some programs, the other."""
        if not raw.count(0) and raw.isascii():
            return raw.decode()  # some write one byte all the same
        zeros = raw[:64:2].count(0), raw[1:64:2].count(0)
        order = self._order if zeros[0] == zeros[1] else ("little", "big")[zeros[0] > zeros[1]]
        order = _MARKS.get(raw[:2], order)
        text = raw.decode(f"utf-16-{'le' if order == 'little' else 'be'}", "replace")
        return text.lstrip("\ufeff").rstrip("\0 ")

    def position(self, gps: dict[int, tuple[int, int, int]]) -> str | None:
        """Latitude and longitude in degrees."""
        numbers = [
            self._degrees(gps.get(degrees), gps.get(side))
            for degrees, side in ((_LATITUDE, _LATITUDE_REF), (_LONGITUDE, _LONGITUDE_REF))
        ]
        said = [f"{one:.5f}" for one in numbers if one is not None]
        return ", ".join(said) if len(said) == len(numbers) else None

    def _degrees(
        self, value: tuple[int, int, int] | None, side: tuple[int, int, int] | None
    ) -> float | None:
        if value is None or side is None or value[:2] != (_RATIONAL, 3):
            return None
        total = 0.0
        for place in range(3):
            above, below = (self.number(value[2] + 8 * place + 4 * n, 4) for n in (0, 1))
            if not below:
                return None
            total += above / below / 60**place
        if total > 180:  # noqa: PLR2004
            return None
        return -total if self._data[side[2] : side[2] + 1] in (b"S", b"W") else total


def _is_wide(raw: bytes) -> bool:
    """Whether text without a word about its encoding takes two bytes a character."""
    if raw[:2] in _MARKS:
        return True
    even, odd = raw[:64:2], raw[1:64:2]
    few, many = sorted((even.count(0), odd.count(0)))
    return len(odd) > 1 and few == 0 and 2 * many > len(odd)
