"""Which formats D3 reads, and words for those it does not; :mod:`d3.domain.formats` finds out."""

from __future__ import annotations

READABLE = "JPEG, PNG, WebP, GIF, AVIF, HEIC, TIFF, BMP, JPEG 2000, ICO and PSD"
"""What every installation reads, for people."""

FORMATS = frozenset(
    {
        *("AVIF", "BMP", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000"),
        *("JXL", "PNG", "PSD", "TIFF", "WEBP"),
    }
)
"""Pillow's names of what D3 reads."""

_RAW, _VIDEO = "a camera's raw file", "a video"
_UNREAD = {
    "CR3": _RAW,
    "ORF": _RAW,
    "RAF": _RAW,
    "RW2": _RAW,
    "PSB": "a PSB, Photoshop's format for large images",
}
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "a PDF document"),
    (b"%!PS", "a PostScript file"),
    (b"PK\x03\x04", "a zip archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x1aE\xdf\xa3", _VIDEO),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)
_MARKUP = ((b"<svg", "an SVG drawing"), (b"<!doctype html", "a web page"), (b"<html", "a web page"))


def described(kind: str | None, start: bytes) -> str:
    """A sentence on a file that D3 does not read.

    Args:
        kind: the format of images that it is in, by :func:`d3.domain.formats.sniff`; None if none.
        start: of the file.
    """
    if kind is not None:
        return f"This is {_UNREAD.get(kind, f'an image of the format {kind}')}."
    found = _named(start)
    return "The file is not an image that D3 can read." if found is None else f"This is {found}."


def _named(start: bytes) -> str | None:
    """What a file that is no image is; None if unclear."""
    for signature, name in _OTHERS:
        if start.startswith(signature):
            return name
    if start[4:8] == b"ftyp":
        return _VIDEO
    if start[:4] == b"RIFF":
        return _VIDEO if start[8:12] == b"AVI " else "an audio file"
    words = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if words.startswith(b"<?xml"):
        return "an SVG drawing" if b"<svg" in words else "an XML document"
    return next((name for tag, name in _MARKUP if words.startswith(tag)), None)
