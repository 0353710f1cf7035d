"""What walking a file's skeleton finds, and the words that refuse one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from d3.domain.errors import ImageDamaged, ImageFormatUnsupported, ImageTooLarge
from d3.domain.images import Note

MAX_SEGMENTS = 10_000
"""JPEG segments, PNG chunks beside the pixel data, boxes: a photograph has some dozen."""


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
        data: what the decoder gets: the file, less what nobody looks at and what would turn it.
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


def too_many(problem: str) -> ImageTooLarge:
    """A skeleton that alone would cost too much."""
    return ImageTooLarge(problem, "Open the image in any program and save it again.")


def damaged(kind: str) -> ImageDamaged:
    """A picture that is not there whole."""
    return ImageDamaged(f"The {kind} image is damaged or cut short.", "Fetch or export it again.")


def unsupported(problem: str) -> ImageFormatUnsupported:
    """A sound image of a kind that D3 does not read."""
    return ImageFormatUnsupported(problem, "Export it as an ordinary JPEG or PNG file.")


def number(data: bytes, at: int, size: int, *, little: bool = False) -> int:
    """The unsigned whole number of so many bytes at this offset, or of those that are there."""
    return int.from_bytes(data[at : at + size], "little" if little else "big")
