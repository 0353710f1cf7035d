"""The skeleton of a file, walked before Pillow sees it.

Some files are cheap to send and dear to open: a progressive JPEG of thousands of scans, a GIF whose
comment never ends, a PNG of a million empty chunks. Each walk below is linear, stops at its limit,
and decodes nothing.
"""

from __future__ import annotations

import re

from d3.domain.errors import ImageDamaged, ImageTooLarge

MAX_SEGMENTS = 10_000
"""JPEG segments, or PNG chunks beside the pixel data: a photograph has some dozen."""

MAX_PIXEL_CHUNKS = 100_000
MAX_GIF_BLOCKS = 400_000
MAX_GIF_FRAMES = 10_000
MAX_GIF_EXTENSION_BYTES = 2**20
MAX_RUN_LENGTH_BMP_BYTES = 2**20

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_END_OF_IMAGE, _START_OF_SCAN, _STANDALONE = 0xD9, 0xDA, 0x01
_RUN_LENGTH = (1, 2)
_GIF_IMAGE, _GIF_EXTENSION = 0x2C, 0x21


def check_structure(kind: str, data: bytes, max_jpeg_scans: int) -> None:
    """Refuse a file whose skeleton alone would cost too much.

    Raises:
        ImageTooLarge: it goes beyond a limit of this module or has too many JPEG scans.
    """
    if kind == "JPEG":
        _check_jpeg(data, max_jpeg_scans)
    elif kind == "PNG":
        _check_png(data)
    elif kind == "BMP":
        _check_bmp(data)


def gif_frames(data: bytes) -> int:
    """The number of frames of a GIF, at least 1, counted up to :data:`MAX_GIF_FRAMES`.

    Raises:
        ImageTooLarge: the data before the first frame, or the number of blocks, is unreasonable.
        ImageDamaged: something else stands where the first frame should.
    """
    at = 13 + _colour_table(data, 10)
    frames = blocks = extension_bytes = 0
    while at < len(data) and frames < MAX_GIF_FRAMES:
        introducer = data[at]
        if introducer == _GIF_IMAGE:
            frames += 1
            at += 11 + _colour_table(data, at + 9)
        elif introducer == _GIF_EXTENSION:
            at += 2
        elif frames:
            break
        else:
            # Pillow would search on, byte by byte, and past what was checked here.
            raise ImageDamaged("The GIF has no image.", "Fetch or export it again.")
        length = 1
        while length and at < len(data):
            length = data[at]
            at += 1 + length
            blocks += 1
            extension_bytes += 0 if frames else length
            if blocks > MAX_GIF_BLOCKS or extension_bytes > MAX_GIF_EXTENSION_BYTES:
                raise _too_many("The GIF has more data blocks than any sound one.")
    return max(frames, 1)


def _colour_table(data: bytes, at: int) -> int:
    """Bytes of the colour table that the flags at this offset announce."""
    flags = data[at] if at < len(data) else 0
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _check_jpeg(data: bytes, max_scans: int) -> None:
    scans = segments = 0
    at = 2
    while marker := _JPEG_MARKER.search(data, at):
        code, at = data[marker.end() - 1], marker.end()
        if code == _END_OF_IMAGE:
            return
        segments += 1
        scans += code == _START_OF_SCAN
        if scans > max_scans:
            raise _too_many(f"The JPEG has more than {max_scans} scans.")
        if segments > MAX_SEGMENTS:
            raise _too_many(f"The JPEG has more than {MAX_SEGMENTS} segments.")
        if code != _STANDALONE:
            at += int.from_bytes(data[at : at + 2], "big")


def _check_png(data: bytes) -> None:
    pixel_chunks = others = 0
    at = 8
    while at + 8 <= len(data):
        kind = data[at + 4 : at + 8]
        if kind == b"IEND":
            return
        if kind in (b"IDAT", b"fdAT"):
            pixel_chunks += 1
        else:
            others += 1
        if others > MAX_SEGMENTS or pixel_chunks > MAX_PIXEL_CHUNKS:
            raise _too_many("The PNG has more chunks than any sound one.")
        at += 12 + int.from_bytes(data[at : at + 4], "big")


def _check_bmp(data: bytes) -> None:
    # Pillow decodes run lengths in Python: minutes for what other formats do in milliseconds.
    compression = int.from_bytes(data[30:34], "little")
    if compression in _RUN_LENGTH and len(data) > MAX_RUN_LENGTH_BMP_BYTES:
        raise _too_many("A run-length encoded BMP may have 1 MB at most.")


def _too_many(problem: str) -> ImageTooLarge:
    return ImageTooLarge(problem, "Open the image in any program and save it again.")
