"""Which files are images: every common picture format, by first bytes and by name.

The table says what *is* an image, whether or not D3 reads it. One rule follows wherever D3
searches a folder, a pattern or a bucket: **what is an image by its content or by its name has a
row, a verdict or an error; everything else is skipped and counted.** Drawings and documents
(SVG, PDF) are no images here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath

from d3.domain.errors import D3Error, ImageFormatUnsupported, ImageUnsupported

SNIFFED_BYTES = 256
"""Of a file's beginning: as many tell its format."""

_BMP_HEADER_SIZES = {12, 40, 52, 56, 64, 108, 124}
_PNM = re.compile(rb"P[1-7]\s+(?:#|WIDTH\b|\d+\s)")


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """A format of images.

    Attributes:
        name: as Pillow calls it, where it does.
        suffixes: that names of such files end in, small letters.
        begins: whether a file that begins with these bytes is one; None where nothing tells.
    """

    name: str
    suffixes: frozenset[str]
    begins: Callable[[bytes], bool] | None


def _format(name: str, suffixes: str, *starts: bytes) -> ImageFormat:
    begins = (lambda start: start.startswith(starts)) if starts else None
    return ImageFormat(name, frozenset(suffixes.split()), begins)


def _brands(start: bytes) -> set[bytes]:
    """The brands of an ISO base media file (HEIF, AVIF, but also MP4)."""
    if start[4:8] != b"ftyp":
        return set()
    box = start[: min(int.from_bytes(start[:4], "big"), SNIFFED_BYTES)]
    return {box[8:12], *(box[at : at + 4] for at in range(16, len(box), 4))}


def _of_brands(*known: bytes) -> Callable[[bytes], bool]:
    return lambda start: not _brands(start).isdisjoint(known)


def _is_bmp(start: bytes) -> bool:
    return start[:2] == b"BM" and int.from_bytes(start[14:18], "little") in _BMP_HEADER_SIZES


def _is_icon(start: bytes) -> bool:
    """Four bytes that other files begin with as well, and a plausible entry."""
    count, reserved = int.from_bytes(start[4:6], "little"), start[9:10]
    offset = int.from_bytes(start[18:22], "little")
    return (
        start[:4] == b"\0\0\1\0"
        and count > 0
        and reserved in (b"\0", b"\xff")
        and offset >= 6 + 16 * count
    )


FORMATS = (
    _format("JPEG", ".jpg .jpeg .jpe .jfif .jif .jps .mpo", b"\xff\xd8\xff"),
    _format("PNG", ".png .apng", b"\x89PNG\r\n\x1a\n"),
    _format("GIF", ".gif", b"GIF87a", b"GIF89a"),
    ImageFormat("WEBP", frozenset({".webp"}), lambda at: at[:4] == b"RIFF" and at[8:12] == b"WEBP"),
    ImageFormat("BMP", frozenset({".bmp", ".dib"}), _is_bmp),
    ImageFormat("AVIF", frozenset({".avif", ".avifs"}), _of_brands(b"avif", b"avis")),
    ImageFormat(
        "HEIF",
        frozenset({".heic", ".heif", ".hif", ".heics", ".heifs"}),
        _of_brands(
            *(b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"),
            *(b"mif1", b"msf1", b"j2ki", b"jpeg", b"vvic"),
        ),
    ),
    _format("TIFF", ".tif .tiff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    _format("JXL", ".jxl", b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
    _format(
        "JPEG2000",
        ".jp2 .j2k .jpf .jpx .j2c .jpc .jpm",
        *(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    ),
    ImageFormat("ICO", frozenset({".ico"}), _is_icon),
    _format("CUR", ".cur"),
    _format("PSD", ".psd", b"8BPS\0\1"),
    _format("PSB", ".psb", b"8BPS\0\2"),
    _format("JPEG XR", ".jxr .hdp .wdp", b"II\xbc\1"),
    # Of cameras: what is no TIFF by its first bytes.
    ImageFormat("CR3", frozenset({".cr3"}), _of_brands(b"crx ")),
    _format("RAF", ".raf", b"FUJIFILMCCD-RAW"),
    _format("ORF", ".orf", b"IIRO", b"IIRS", b"MMOR"),
    _format("RW2", ".rw2", b"IIU\0"),
    _format("RAW", ".dng .cr2 .nef .arw .pef .srw"),
    _format("OpenEXR", ".exr", b"v/1\1"),
    _format("Radiance HDR", ".hdr", b"#?RADIANCE", b"#?RGBE"),
    _format("QOI", ".qoi", b"qoif"),
    _format("DDS", ".dds", b"DDS |"),
    _format("SGI", ".sgi", b"\1\xda\0\1", b"\1\xda\0\2", b"\1\xda\1\1", b"\1\xda\1\2"),
    _format("XCF", ".xcf", b"gimp xcf"),
    _format("ICNS", ".icns", b"icns"),
    ImageFormat(
        "PNM", frozenset({".pnm", ".pbm", ".pgm", ".ppm", ".pam"}), lambda at: bool(_PNM.match(at))
    ),
    _format("TGA", ".tga"),
)
"""Formats of images, the first one that fits is a file's; a name may be shown to people."""

IMAGE_SUFFIXES = frozenset().union(*(one.suffixes for one in FORMATS))
"""Of names that say a file is an image; what it is, its content says."""


def sniff(start: bytes) -> str | None:
    """The name of the format of a file that begins with these bytes; None if it is no image.

    Args:
        start: the first :data:`SNIFFED_BYTES` of the file, or all of it.
    """
    return next((one.name for one in FORMATS if one.begins is not None and one.begins(start)), None)


def sniff_clip(start: bytes) -> str | None:
    """The name of the format of a video that begins with these bytes; None if it is none.

    Args:
        start: the first :data:`SNIFFED_BYTES` of the file, or all of it.
    """
    if sniff(start) is not None:
        return None
    return next((name for name, begins in _CLIPS.items() if begins(start)), None)


def _is_transport_stream(start: bytes) -> bool:
    return any(start[at : at + 1] == start[at + step : at + step + 1] == b"G" for at, step in _SYNC)


_SYNC = ((0, 188), (4, 192))
"""Where packets of a transport stream begin, and how far apart: as broadcast, and of cameras."""

_CLIPS: dict[str, Callable[[bytes], bool]] = {
    "MOV": lambda at: (
        at[4:12] == b"ftypqt  " or at[4:8] in {b"moov", b"mdat", b"wide", b"free", b"skip"}
    ),
    "MP4": lambda at: at[4:8] in {b"ftyp", b"styp", b"moof"},
    "WEBM": lambda at: at[:4] == b"\x1aE\xdf\xa3" and b"webm" in at[:64],
    "MKV": lambda at: at[:4] == b"\x1aE\xdf\xa3",
    "AVI": lambda at: at[:4] == b"RIFF" and at[8:12] == b"AVI ",
    "MPEG": lambda at: at[:4] in {b"\0\0\1\xba", b"\0\0\1\xb3"},
    "MPEG-TS": _is_transport_stream,
    "FLV": lambda at: at[:4] == b"FLV\1",
    "OGG": lambda at: at[:4] == b"OggS",
    "WMV": lambda at: at[:8] == b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
}
"""How videos begin; what is inside, such as sound alone, is found out by decoding."""

CLIP_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".qt", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".m2v", ".ts"),
        *(".mts", ".m2ts", ".flv", ".ogv", ".wmv", ".asf", ".3gp", ".3g2"),
    }
)
"""Of names that say a file is a video."""

ANIMATED = frozenset({"GIF", "WEBP", "PNG", "AVIF"})
"""Formats of images that may move."""


def named_as_clip(name: str) -> bool:
    """Whether a path, key or URI has the suffix of a video."""
    return PurePath(name).suffix.lower() in CLIP_SUFFIXES


def named_as_image(name: str) -> bool:
    """Whether a path, key or URI has the suffix of an image."""
    return PurePath(name).suffix.lower() in IMAGE_SUFFIXES


def is_no_image(name: str, error: D3Error) -> bool:
    """Whether what failed is an image neither by its content nor by its name.

    Args:
        name: its path, key or URI.
        error: its failure.
    """
    says_so = isinstance(error, ImageUnsupported) and not isinstance(error, ImageFormatUnsupported)
    return says_so and not named_as_image(name)
