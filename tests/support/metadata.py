"""Metadata made for tests: as cameras and generators write it, and as attackers do."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from d3.adapters.provenance import Metadata, ProvenanceReader
from d3.domain.provenance import Provenance

_TAGS = {
    "description": 0x010E,
    "make": 0x010F,
    "model": 0x0110,
    "software": 0x0131,
    "modified_at": 0x0132,
}
_INNER = {"created_at": 0x9003, "comment": 0x9286}
_NAMESPACES = (
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
    'xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmlns:dcterms="http://purl.org/dc/terms/" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/"'
)
IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def reading(**parts: object) -> Provenance:
    """What a file with this metadata says."""
    return ProvenanceReader().read("JPEG", b"", Metadata(**parts))  # type: ignore[arg-type]


def exif(position: Sequence[tuple[int, str]] | None = None, **values: str | bytes) -> bytes:
    """A TIFF structure with these values; texts by name, bytes as they are."""
    tail, at = b"", 8 + 2 + 12 * 9 + 4

    def entry(tag: int, kind: int, count: int, data: bytes) -> bytes:
        nonlocal tail
        if len(data) <= 4:
            return struct.pack("<HHI", tag, kind, count) + data.ljust(4, b"\0")
        place = at + len(tail)
        tail += data
        return struct.pack("<HHII", tag, kind, count, place)

    def text(tag: int, value: str | bytes) -> bytes:
        data = value if isinstance(value, bytes) else value.encode() + b"\0"
        return entry(tag, 7 if isinstance(value, bytes) else 2, len(data), data)

    def directory(entries: list[bytes]) -> bytes:
        return struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)

    first = [text(_TAGS[name], value) for name, value in values.items() if name in _TAGS]
    inner = [text(_INNER[name], value) for name, value in values.items() if name in _INNER]
    for tag, entries in ((0x8769, inner), (0x8825, _gps(position, entry))):
        if entries:
            listed = directory(entries)
            first.append(struct.pack("<HHII", tag, 4, 1, at + len(tail)))
            tail += listed
    return (b"II*\0\x08\0\0\0" + directory(first)).ljust(at, b"\0") + tail


def _gps(
    position: Sequence[tuple[int, str]] | None, entry: Callable[[int, int, int, bytes], bytes]
) -> list[bytes]:
    found = []
    for number, (degrees, side) in enumerate(position or ()):
        found.append(entry(1 + 2 * number, 2, 2, side.encode()))
        found.append(entry(2 + 2 * number, 5, 3, struct.pack("<6I", degrees, 1, 0, 1, 0, 1)))
    return found


def xmp_packet(inside: str = "", attributes: str = "") -> bytes:
    """A packet with these properties."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta '
        f'xmlns:x="adobe:ns:meta/"><rdf:RDF {_NAMESPACES}><rdf:Description rdf:about="" '
        f"{attributes}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
    ).encode()


def generated_xmp(word: str = "trainedAlgorithmicMedia", form: str = "attribute") -> bytes:
    """A packet with the IPTC's source type."""
    name = "Iptc4xmpExt:DigitalSourceType"
    if form == "attribute":
        return xmp_packet(attributes=f'{name}="{IPTC}{word}"')
    if form == "resource":
        return xmp_packet(f'<{name} rdf:resource="{IPTC}{word}"/>')
    return xmp_packet(f"<{name}>{IPTC}{word}</{name}>")


def _laughs(count: int = 10, depth: int = 9) -> bytes:
    entities = '<!ENTITY l0 "lol">' + "".join(
        f'<!ENTITY l{n} "{f"&l{n - 1};" * count}">' for n in range(1, depth)
    )
    return f"<!DOCTYPE x [{entities}]>".encode() + xmp_packet(f"<dc:x>&l{depth - 1};</dc:x>")


XMP_BOMBS: dict[str, Callable[[], bytes]] = {
    "a billion laughs": _laughs,
    "entities in a circle": lambda: (
        b'<!DOCTYPE x [<!ENTITY a "&b;"><!ENTITY b "&a;">]>' + xmp_packet("<dc:x>&a;</dc:x>")
    ),
    "an entity that is a file": lambda: (
        b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + xmp_packet("<dc:x>&a;</dc:x>")
    ),
    "a document type elsewhere": lambda: (
        b'<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">' + xmp_packet()
    ),
    "a packet of 50 MB": lambda: xmp_packet("<dc:x>" + " " * 50 * 2**20 + "</dc:x>"),
    "a million elements": lambda: xmp_packet("<dc:x/>" * 100_000),
    "elements without end": lambda: xmp_packet("<dc:x>" * 50_000),
    "no XML": lambda: b"<<<" * 1000,
}
"""A name, and what makes the packet."""

_POINTER = struct.Struct("<HHII")


def _many_tags_of_one_value() -> bytes:
    entries = b"".join(_POINTER.pack(0x010F + n % 4, 2, 2**31, 8) for n in range(60_000))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 60_000) + entries + bytes(2**20)


EXIF_LOOPS: dict[str, Callable[[], bytes]] = {
    "a directory that is its own": lambda: (
        b"II*\0\x08\0\0\0\2\0"
        + _POINTER.pack(0x8769, 4, 1, 8)
        + _POINTER.pack(0x8825, 4, 1, 8)
        + b"\x08\0\0\0"
    ),
    "tags without end that hold the same megabytes": _many_tags_of_one_value,
    "pointers beyond the end": lambda: b"MM\0*\xff\xff\xff\xff" + b"\xff" * 40,
    "a position of zeros": lambda: (
        b"II*\0\x08\0\0\0\1\0"
        + _POINTER.pack(0x8825, 4, 1, 26)
        + bytes(4)
        + b"\2\0"
        + _POINTER.pack(1, 2, 2, 0)
        + _POINTER.pack(2, 5, 3, 60)
        + bytes(60)
    ),
}
"""A name, and what makes the structure."""
