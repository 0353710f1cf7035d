"""What the IPTC's digital source types say: https://cv.iptc.org/newscodes/digitalsourcetype/."""

from __future__ import annotations

from d3.adapters.provenance.words import line
from d3.domain.provenance import Says

_GENERATED = {
    "algorithmicmedia",
    "compositesynthetic",
    "compositewithtrainedalgorithmicmedia",
    "trainedalgorithmicdata",
    "trainedalgorithmicmedia",
}
_EDITED = {
    "algorithmicallyenhanced",
    "composite",
    "compositecapture",
    "humanedits",
    "minorhumanedits",
}
_CAMERA = {
    "computationalcapture",
    "digitalcapture",
    "digitisedfromnegative",
    "digitisedfromnegativefilm",
    "digitisedfrompositive",
    "digitisedfromprint",
    "negativefilm",
    "positivefilm",
    "print",
}


def source_type(said: object) -> str | None:
    """The last part of a source type's address, or the word itself."""
    return line(said.rstrip("/").rpartition("/")[2]) if isinstance(said, str) else None


def says(kind: str | None) -> Says:
    """What a source type says; one that nobody knows says nothing."""
    word = (kind or "").casefold()
    for words, meaning in (
        (_GENERATED, Says.GENERATED),
        (_EDITED, Says.EDITED),
        (_CAMERA, Says.CAMERA),
    ):
        if word in words:
            return meaning
    return Says.NOTHING
