"""GIF: blocks and frames are counted, and a first frame without its last bytes is completed."""

from __future__ import annotations

import re

from d3.adapters.pillow.structure.common import Skeleton, damaged, number, too_many
from d3.adapters.provenance import Metadata
from d3.domain.images import Note

MAX_BLOCKS = 400_000
MAX_FRAMES = 10_000
MAX_EXTENSION_BYTES = 2**20
_IMAGE, _EXTENSION, _TRAILER, _APPLICATION = 0x2C, 0x21, 0x3B, 0xFF
_INTRODUCER = re.compile(rb"[\x21\x2c\x3b]")


def walk_gif(data: bytes) -> Skeleton:
    """Count the frames, at least 1 and at most :data:`MAX_FRAMES`.

    Stray bytes between frames are passed over, as everybody does.

    Raises:
        ImageTooLarge: the data before the first frame, or the number of blocks, is unreasonable.
        ImageDamaged: something else stands where the first frame should.
    """
    at = 13 + _colour_table(data, 10)
    frames = blocks = extension_bytes = 0
    ended, metadata = False, Metadata()
    while at < len(data) and frames < MAX_FRAMES:
        introducer = data[at]
        if introducer == _IMAGE:
            frames += 1
            at += 11 + _colour_table(data, at + 9)
        elif introducer == _EXTENSION:
            _take(metadata, data, at)
            at += 2
        elif frames:
            following = _INTRODUCER.search(data, at)
            ended = following is not None and data[following.start()] == _TRAILER
            if following is None or ended:
                break
            at = following.start()
            blocks += 1
            continue
        else:
            # Pillow would search on, byte by byte, and past what was checked here.
            raise damaged("GIF")
        start, length = at, 1
        while length and at < len(data):
            length = data[at]
            at += 1 + length
            blocks += 1
            extension_bytes += 0 if frames else length
            if blocks > MAX_BLOCKS or extension_bytes > MAX_EXTENSION_BYTES:
                raise too_many("The GIF has too many data blocks to be valid.")
        if introducer == _IMAGE and frames == 1 and (length or at > len(data)):
            return Skeleton(_completed(data, start, at), note=Note.CUT_SHORT, metadata=metadata)
    ended = ended or frames == MAX_FRAMES
    note = None if ended else Note.CUT_SHORT
    return Skeleton(data, frames=max(frames, 1), note=note, metadata=metadata)


def _take(metadata: Metadata, data: bytes, at: int) -> None:
    """An extension that may say something beside the picture; XMP lies in none of its blocks."""
    name = data[at + 3 : at + 14] if data[at + 1] == _APPLICATION else b""
    if name.startswith(b"C2PA_GIF"):
        metadata.c2pa = True
    elif name == b"XMP DataXMP":
        end = data.find(b"<?xpacket end", at)
        metadata.add_xmp(data[at + 14 : end] if end > 0 else b"")


def _completed(data: bytes, start: int, end: int) -> bytes:
    """The file with pixels for one row at most, and its end; whatever more is missing, stays so.

    Args:
        data: of the file, that ends within its first frame.
        start: of the frame's data, one byte behind the size of its smallest codes.
        end: of the block that the file's end cuts off.
    """
    width, code_bits = number(data, 6, 2, little=True), number(data, start - 1, 1) + 1
    rest = bytes(max(end - len(data), 0))
    # Zero is the code of a single pixel, whatever its number of bits.
    row = bytes(max(width * code_bits // 8 - len(rest), 0))
    blocks = [row[n : n + 255] for n in range(0, len(row), 255)]
    filled = b"".join(bytes([len(one)]) + one for one in blocks)
    return data + rest + filled + b"\0;"


def _colour_table(data: bytes, at: int) -> int:
    """Bytes of the colour table that the flags at this offset announce."""
    flags = data[at] if at < len(data) else 0
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
