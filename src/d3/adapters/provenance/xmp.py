"""XMP and the old IPTC record: the properties that speak of a picture's origin, and no other.

A packet is XML from strangers. One with a document type, which alone can define entities, is not
read, nor one that is too large, too deep or has too many elements.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers import expat

from d3.adapters.provenance.words import line

MAX_PACKET_BYTES = 2**20
"""What Adobe's own programs write is mostly under 100,000."""

_MAX_ELEMENTS, _MAX_DEPTH, _MAX_VALUE, _MAX_TEXTS = 20_000, 64, 20_000, 200
_IPTC = ("http://iptc.org/std/Iptc4xmpExt/2008-02-29/", "http://iptc.org/std/Iptc4xmpExt/")
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns# "
_RESOURCE = f"{_RDF}resource"
_WANTED = {
    **{f"{space} DigitalSourceType": "source_type" for space in _IPTC},
    **{f"{space} digitalSourceType": "source_type" for space in _IPTC},
    **{f"{space} AISystemUsed": "generator" for space in _IPTC},
    **{f"{space} AISystemVersionUsed": "version" for space in _IPTC},
    **{f"{space} AIPromptInformation": "prompt" for space in _IPTC},
    "http://ns.adobe.com/photoshop/1.0/ Credit": "credit",
    "http://ns.adobe.com/xap/1.0/ CreatorTool": "software",
    "http://ns.adobe.com/tiff/1.0/ Software": "software",
    "http://ns.adobe.com/tiff/1.0/ Make": "make",
    "http://ns.adobe.com/tiff/1.0/ Model": "model",
    "http://purl.org/dc/elements/1.1/ description": "description",
    "http://purl.org/dc/terms/ provenance": "remote",
}
_CREDIT_DATASET = b"\x1c\x02\x6e"
_LONG_FORM = 0x8000


class XmpRefused(Exception):
    """A packet that is not read; the message says why."""


@dataclass(slots=True)
class Xmp:
    """What was found in all packets.

    Attributes:
        texts: by the names above, each text once.
        refused: why a packet was not read.
    """

    texts: dict[str, dict[str, None]] = field(default_factory=dict)
    refused: str | None = None

    def said(self, name: str) -> str | None:
        """A property as one short line, as it was said first; None where there is none."""
        return line(next(iter(self.texts.get(name, ())), ""))


def read_xmp(packets: list[bytes]) -> Xmp:
    """Read the packets of a file. None hides another."""
    found = Xmp()
    for packet in packets:
        try:
            _read_packet(packet, found.texts)
        except XmpRefused as refused:
            found.refused = found.refused or str(refused)
    return found


def read_credit(iptc: bytes) -> str | None:
    """The credit line of an old IPTC record."""
    at = iptc.find(_CREDIT_DATASET)
    if at < 0:
        return None
    size = int.from_bytes(iptc[at + 3 : at + 5])
    if size >= _LONG_FORM:
        return None
    return line(iptc[at + 5 : at + 5 + size].decode("utf-8", "replace"))


def _read_packet(packet: bytes, texts: dict[str, dict[str, None]]) -> None:
    if len(packet) > MAX_PACKET_BYTES:
        raise XmpRefused("The XMP is larger than 1 MB and was not read.")
    parser, walk = expat.ParserCreate(namespace_separator=" "), _Walk(texts)
    parser.buffer_text = True
    parser.StartElementHandler = walk.start
    parser.EndElementHandler = walk.end
    parser.CharacterDataHandler = walk.text
    parser.StartDoctypeDeclHandler = _refuse_document_type
    try:
        parser.Parse(packet.rstrip(b"\0"), True)
    except expat.ExpatError:
        # Cut short or crooked: what was read until there stands.
        if not walk.elements:
            raise XmpRefused("The XMP is no XML and was not read.") from None


def _refuse_document_type(*_: object) -> None:
    raise XmpRefused("The XMP defines entities and was not read.")


class _Walk:
    """Listens to a parser and keeps what is wanted."""

    def __init__(self, texts: dict[str, dict[str, None]]) -> None:
        self._texts = texts
        self._depth = 0
        self._name: str | None = None
        self._inside = 0
        self._value: list[str] = []
        self._size = 0
        self.elements = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.elements += 1
        self._depth += 1
        if self.elements > _MAX_ELEMENTS or self._depth > _MAX_DEPTH:
            raise XmpRefused("The XMP has too many elements and was not read to its end.")
        for key, value in attributes.items():
            if key in _WANTED:
                self._keep(_WANTED[key], value)
        if self._name is None and name in _WANTED:
            self._name, self._inside = _WANTED[name], self._depth
            self._value, self._size = [], 0
            self._keep(self._name, attributes.get(_RESOURCE, ""))
        elif self._name is not None:  # an entry of a list
            self.text(f" {attributes.get(_RESOURCE, '')} ")

    def end(self, _: str) -> None:
        if self._name is not None and self._depth == self._inside:
            self._keep(self._name, "".join(self._value))
            self._name = None
        self._depth -= 1

    def text(self, text: str) -> None:
        if self._name is not None and self._size < _MAX_VALUE:
            self._value.append(text[: _MAX_VALUE - self._size])
            self._size += len(text)

    def _keep(self, name: str, value: str) -> None:
        said = self._texts.setdefault(name, {})
        if len(said) > _MAX_TEXTS:
            raise XmpRefused("The XMP repeats itself too often and was not read to its end.")
        if value.strip():
            said[value.strip()[:_MAX_VALUE]] = None
