"""The metadata of a file as its bytes, collected while its skeleton is walked; nothing is read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from d3.adapters.provenance.texts import WANTED, keyword_of
from d3.adapters.provenance.words import MAX_TEXT_BYTES

MAX_PARTS = 64
"""XMP packets of one file that are looked at; a photograph has one."""

MAX_REPEATS = 8
"""Texts of one keyword that are looked at; a generator writes one."""

_HEAD = 80
_MAX_CHUNK = MAX_TEXT_BYTES + 2 * _HEAD

_PHOTOSHOP, _RESOURCE = b"Photoshop 3.0\0", b"8BIM"
_IPTC_RESOURCE, _EXIF_RESOURCE, _XMP_RESOURCE = 0x0404, 0x0422, 0x0424
_MAX_RESOURCES = 1_000


@dataclass(slots=True)
class Metadata:
    """What a file says beside its picture.

    Attributes:
        exif: a TIFF structure; empty where there is none.
        xmp: packets, each XML.
        texts: PNG's text chunks: kind and content, perhaps compressed.
        iptc: a record of the old IPTC kind (IIM).
        c2pa: whether the file holds Content Credentials.
        cut: whether there was more than is kept.
    """

    exif: bytes = b""
    xmp: list[bytes] = field(default_factory=list)
    texts: list[tuple[bytes, bytes]] = field(default_factory=list)
    iptc: bytes = b""
    c2pa: bool = False
    cut: bool = False
    _times: Counter[str] = field(default_factory=Counter, init=False, repr=False, compare=False)

    def __bool__(self) -> bool:
        return bool(self.exif or self.xmp or self.texts or self.iptc or self.c2pa or self.cut)

    def add_exif(self, data: bytes) -> None:
        """The first one counts, as in every other program."""
        self.exif = self.exif or data.removeprefix(b"Exif\0\0")

    def add_xmp(self, data: bytes) -> None:
        """One more packet."""
        if len(self.xmp) < MAX_PARTS:
            self.xmp.append(data)
        else:
            self.cut = True

    def add_iptc(self, data: bytes) -> None:
        """The first record counts."""
        self.iptc = self.iptc or data

    def add_text(self, kind: bytes, data: memoryview) -> None:
        """One more text chunk of a PNG; one that nobody reads is not kept."""
        keyword = keyword_of(bytes(data[:_HEAD]))
        if keyword not in WANTED:
            return
        self._times[keyword] += 1
        if self._times[keyword] <= MAX_REPEATS:
            self.texts.append((kind, bytes(data[:_MAX_CHUNK])))
        if self._times[keyword] > MAX_REPEATS or len(data) > _MAX_CHUNK:
            self.cut = True

    def add_photoshop(self, data: bytes) -> None:
        """Photoshop's resources: some are IPTC, Exif or XMP."""
        at = len(_PHOTOSHOP) if data.startswith(_PHOTOSHOP) else 0
        for _ in range(_MAX_RESOURCES):
            if data[at : at + 4] != _RESOURCE:
                return
            kind, name = int.from_bytes(data[at + 4 : at + 6]), (data[at + 6 : at + 7] or b"\0")[0]
            start = at + 11 + name + (name + 1) % 2
            size = int.from_bytes(data[start - 4 : start])
            content = data[start : start + size]
            if kind == _IPTC_RESOURCE:
                self.add_iptc(content)
            elif kind == _EXIF_RESOURCE:
                self.add_exif(content)
            elif kind == _XMP_RESOURCE:
                self.add_xmp(content)
            at = start + size + size % 2
