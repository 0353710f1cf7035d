"""The one line of Exif that D3 reads: how the picture is turned for people."""

from __future__ import annotations

ORIENTATION = 0x0112
_SHORT = 3
_ENTRY = 12


def orientation_of(exif: bytes) -> int:
    """The orientation (1 to 8) in a TIFF structure, without following a pointer; 1 if unclear."""
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(exif[:4])
    if order is None:
        return 1

    def number(at: int, size: int) -> int:
        return int.from_bytes(exif[at : at + size], "little" if order == "little" else "big")

    start = number(4, 4)
    for entry in range(start + 2, start + 2 + _ENTRY * number(start, 2), _ENTRY):
        if entry + _ENTRY > len(exif):
            break
        if number(entry, 2) == ORIENTATION and number(entry + 2, 2) == _SHORT:
            found = number(entry + 8, 2)
            return found if 1 <= found <= 8 else 1  # noqa: PLR2004
    return 1
