"""What walking a file's skeleton finds, and the words that refuse one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from d3.adapters.provenance import Metadata
from d3.domain.errors import ImageDamaged, ImageFormatUnsupported, ImageTooLarge
from d3.domain.images import Note

MAX_SEGMENTS = 10_000
"""JPEG segments, PNG chunks beside the pixel data, boxes: a photograph has some dozen."""


ORIENTATION = 0x0112
"""Exif's number for how the picture is turned for people."""
_SHORT = 3
_ENTRY = 12


@dataclass(frozen=True, slots=True)
class Region:
    """Where on a larger canvas, transparent black before, a first frame is drawn."""

    canvas: tuple[int, int]
    left: int
    top: int


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of the picture that is decoded by itself.

    Attributes:
        box: left, top, right and bottom, in pixels; may reach beyond the picture.
        alone: the file with this tile as its picture.
    """

    box: tuple[int, int, int, int]
    alone: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A sound skeleton, and how its file is to be opened.

    Attributes:
        data: what the decoder gets: the file, without what is not used and what would rotate it.
        kind: the format of ``data`` where it is not the file's own.
        size: width and height that the file claims, where the decoder would not say in time.
        frames: animation frames, pages or pictures; 0 where the decoder counts them.
        orientation: 1 to 8 as in EXIF: how the picture is turned for people.
        note: to travel with the image.
        other: the same file, completed in another way. Rows that come out different are not there.
        suspect: ``other`` is only needed where the last pixel is the grey of what is not there.
        slack: how many of the last rows may be missing.
        region: of the first frame, where it is not all of the canvas.
        strange: what is unusual about the file, should the decoder fail.
        tiles: of which the picture is put together, where a decoder may leave one out.
        metadata: what the file says beside its picture.
    """

    data: bytes
    kind: str | None = None
    size: tuple[int, int] | None = None
    frames: int = 1
    orientation: int = 1
    note: Note | None = None
    other: Callable[[], bytes] | None = None
    suspect: bool = False
    slack: int = 0
    region: Region | None = None
    strange: str | None = None
    tiles: Callable[[], Iterator[Tile]] | None = None
    metadata: Metadata = field(default_factory=Metadata)


def too_many(problem: str) -> ImageTooLarge:
    """A skeleton that alone would cost too much."""
    return ImageTooLarge(problem, "Open the image in any program and save it again.")


def damaged(kind: str) -> ImageDamaged:
    """A picture that is not there whole."""
    return ImageDamaged(
        f"The {kind} image is damaged or cut short.", "Download or export it again."
    )


def unsupported(problem: str) -> ImageFormatUnsupported:
    """A sound image of a kind that D3 does not read."""
    return ImageFormatUnsupported(problem, "Export it as a normal JPEG or PNG file.")


def number(data: bytes, at: int, size: int, *, little: bool = False) -> int:
    """The unsigned whole number of so many bytes at this offset, or of those that are there."""
    return int.from_bytes(data[at : at + size], "little" if little else "big")


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
