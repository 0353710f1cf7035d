"""Which format a file is in, told by its first bytes and never by its name."""

from __future__ import annotations

SNIFFED_BYTES = 256
READABLE = "JPEG, PNG, WebP, AVIF, GIF, BMP or HEIC"

_BMP_HEADER_SIZES = {12, 40, 52, 56, 64, 108, 124}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}


def sniff(start: bytes) -> str | None:  # noqa: PLR0911  a table read from top to bottom
    """Pillow's name for the format of a file that begins with these bytes; None if not an image.

    Args:
        start: the first :data:`SNIFFED_BYTES` of the file, or all of it.
    """
    if start.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if start[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    if start[:2] == b"BM" and int.from_bytes(start[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    if start[4:8] == b"ftyp":
        box = start[: min(int.from_bytes(start[:4], "big"), SNIFFED_BYTES)]
        brands = {box[8:12], *(box[at : at + 4] for at in range(16, len(box), 4))}
        if brands & _AVIF_BRANDS:
            return "AVIF"
        if brands & _HEIF_BRANDS:
            return "HEIF"
    return None
