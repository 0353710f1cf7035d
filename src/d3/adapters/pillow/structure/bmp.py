"""BMP: how its pixels are stored, and whether they are there."""

from __future__ import annotations

from d3.adapters.pillow.structure.common import Skeleton, damaged, number, too_many, unsupported
from d3.domain.images import Note

MAX_RUN_LENGTH_BYTES = 2**20
_PLAIN, _RUN_LENGTHS, _BIT_FIELDS = 0, (1, 2), (3, 6)
_OLD_HEADER = 12


def walk_bmp(data: bytes) -> Skeleton:
    """Refuse what Pillow reads slowly or not at all; complete a last row."""
    if number(data, 14, 4, little=True) == _OLD_HEADER:
        width, height = (number(data, at, 2, little=True) for at in (18, 20))
        bits, compression = number(data, 24, 2, little=True), _PLAIN
    else:
        width = number(data, 18, 4, little=True)
        height = abs(int.from_bytes(data[22:26], "little", signed=True))
        bits, compression = (number(data, at, size, little=True) for at, size in ((28, 2), (30, 4)))
    # Pillow decodes run lengths in Python: minutes for what other formats do in milliseconds.
    if compression in _RUN_LENGTHS:
        if len(data) > MAX_RUN_LENGTH_BYTES:
            raise too_many("A run-length encoded BMP may have 1 MB at most.")
        return Skeleton(data)
    if compression not in {_PLAIN, *_BIT_FIELDS}:
        raise unsupported("This BMP holds its pixels in another format.")
    row = (width * bits + 31) // 32 * 4
    missing = number(data, 10, 4, little=True) + row * height - len(data)
    if missing > max(row, 3):
        raise damaged("BMP")
    strange = f"This BMP has {bits} bits a pixel in an unusual order."
    if missing > 0:
        return Skeleton(data + bytes(missing), note=Note.CUT_SHORT, strange=strange)
    return Skeleton(data, strange=strange)
