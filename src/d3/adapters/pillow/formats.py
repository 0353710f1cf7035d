"""Which format a file is in, told by its first bytes and never by its name."""

from __future__ import annotations

SNIFFED_BYTES = 256
READABLE = "JPEG, PNG, WebP, GIF, AVIF, HEIC, TIFF, BMP, JPEG 2000, ICO and PSD"
"""What every installation reads, for people."""

FORMATS = frozenset(
    {
        *("AVIF", "BMP", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000"),
        *("JXL", "PNG", "PSD", "TIFF", "WEBP"),
    }
)
"""Pillow's names of what D3 reads."""

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\xff\x0a", "JXL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"8BPS\0\1", "PSD"),
)
_BMP_HEADER_SIZES = {12, 40, 52, 56, 64, 108, 124}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {
    *(b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"),
    *(b"mif1", b"msf1", b"j2ki", b"jpeg", b"vvic"),
}
_RAW_BRAND = b"crx "
_RAW, _VIDEO = "a camera's raw file", "a video"
_OTHER_IMAGES: tuple[tuple[bytes, str], ...] = (
    (b"8BPS", "a PSB, Photoshop's format for large pictures"),
    (b"v/1\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"#?RGBE", "a Radiance HDR image"),
    (b"DDS ", "a DDS texture"),
    (b"qoif", "a QOI image"),
    (b"\0\0\2\0", "a cursor"),
    (b"II\xbc", "a JPEG XR image"),
    (b"gimp xcf", "a GIMP XCF file"),
    (b"FUJIFILMCCD-RAW", _RAW),
    (b"IIRO", _RAW),
    (b"IIU\0", _RAW),
    (b"AT&TFORM", "a DjVu file"),
    (b"\x01\xda", "an SGI image"),
    (b"icns", "an Apple icon"),
    *((f"P{n}{space}".encode(), "a PNM image") for n in range(1, 7) for space in "\n \r\t"),
)
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


def sniff(start: bytes) -> str | None:
    """Pillow's name for the format of a file that begins with these bytes; None if D3 reads none.

    Args:
        start: the first :data:`SNIFFED_BYTES` of the file, or all of it.
    """
    for signature, kind in _STARTS:
        if start.startswith(signature):
            return kind
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    if start[:2] == b"BM" and int.from_bytes(start[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    if start[:4] == b"\0\0\1\0" and _is_icon(start):
        return "ICO"
    brands = _brands(start)
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIF" if brands & _HEIF_BRANDS else None


def is_image(start: bytes) -> bool:
    """Whether the bytes begin an image, of a format that D3 reads or of another."""
    other = _named(start, _OTHER_IMAGES) is not None or _RAW_BRAND in _brands(start)
    return other or sniff(start) is not None


def named(start: bytes) -> str | None:
    """What a file that D3 does not read is, in words that follow "This is"; None if unclear."""
    known = _named(start, _OTHER_IMAGES) or _named(start, _OTHERS)
    if known is not None:
        return known
    brands = _brands(start)
    if brands:
        return _RAW if _RAW_BRAND in brands else _VIDEO
    if start[:4] == b"RIFF":
        return _VIDEO if start[8:12] == b"AVI " else "a sound file"
    words = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if words.startswith(b"<?xml"):
        return "an SVG drawing" if b"<svg" in words else "an XML document"
    return next((name for tag, name in _MARKUP if words.startswith(tag)), None)


def _named(start: bytes, table: tuple[tuple[bytes, str], ...]) -> str | None:
    return next((name for signature, name in table if start.startswith(signature)), None)


def _brands(start: bytes) -> set[bytes]:
    """The brands of an ISO media file; none of any other."""
    if start[4:8] != b"ftyp":
        return set()
    box = start[: min(int.from_bytes(start[:4], "big"), SNIFFED_BYTES)]
    return {box[8:12], *(box[at : at + 4] for at in range(16, len(box), 4))}


def _is_icon(start: bytes) -> bool:
    """Whether an icon's first entry is one: a signature of four small numbers is not enough."""
    count, reserved = int.from_bytes(start[4:6], "little"), start[9:10]
    offset = int.from_bytes(start[18:22], "little")
    return count > 0 and reserved in (b"\0", b"\xff") and offset >= 6 + 16 * count
