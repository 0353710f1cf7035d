"""Images before they are judged: their sources, facts and pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from d3.domain.provenance import Provenance
from d3.domain.scoring import Reason

if TYPE_CHECKING:  # the rest of the domain, and with it `d3 keys list`, needs no arrays
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T", bound="np.generic")

Pixels: TypeAlias = "NDArray[np.uint8]"
"""uint8 RGB: one image (height, width, 3) or a stack of them (n, height, width, 3)."""

ImageSource: TypeAlias = "str | Path | bytes | Pixels | object"
"""A path, an encoded file's bytes, uint8 pixels (height, width, 3 or 4 or none), or a PIL image."""


SMALLEST_SIDE = 32
"""Pixels; an image with a shorter side is not judged: most of what the network would see is made
by enlarging it."""


class Content(StrEnum):
    """What is left of an image once it is decoded to RGB."""

    PICTURE = "picture"
    ONE_COLOUR = "one_colour"
    ALPHA_ONLY = "alpha_only"


class Note(StrEnum):
    """What is unusual about a file that was judged all the same; :attr:`sentence` explains it."""

    CUT_SHORT = "cut_short"
    TWO_PICTURES = "two_pictures"

    @property
    def sentence(self) -> str:
        """One sentence for people."""
        return _NOTES[self]


_NOTES = {
    Note.CUT_SHORT: ("The file is cut short. At most the last rows of the image are missing."),
    Note.TWO_PICTURES: (
        "The file holds two different images. D3 judged the first frame of the animation, which "
        "browsers show. Programs without animation support show the other image."
    ),
}


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of the original image.

    Attributes:
        format: the format found in the content, in the field's usual capitals (``"JPEG"``), or
            ``"pixels"`` for an array or an image that never was a file.
        width: pixels.
        height: pixels.
        frames: 1, or how many frames of an animation, pages or pictures the file holds; the first
            is the one judged.
        size_bytes: the encoded file's length.
        sha256: hexadecimal, of the encoded file; for ``"pixels"`` of mode, shape and samples.
        content: a picture, or one colour throughout; ``alpha_only`` where that is so because all
            there was to see lay in the alpha channel, which is dropped.
        note: what is unusual about the file; None where nothing is.
        provenance: what the file says about itself; None where nobody looked.
    """

    format: str
    width: int
    height: int
    frames: int
    size_bytes: int
    sha256: str
    content: Content = Content.PICTURE
    note: Note | None = None
    provenance: Provenance | None = None

    @property
    def note_text(self) -> str | None:
        """The note as a sentence."""
        return None if self.note is None else self.note.sentence

    @property
    def lack(self) -> Reason | None:
        """Why the image carries nothing to judge; None where it does."""
        if min(self.width, self.height) < SMALLEST_SIDE:
            return Reason.TOO_SMALL
        return None if self.content is Content.PICTURE else Reason(self.content.value)


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """Pixels ready for the network and the facts of the image they came from.

    Attributes:
        pixels: uint8 RGB (size, size, 3), or (height, width, 3) where no size was asked for.
        facts: of the original.
        orientation: 1 to 8 as in EXIF: how the pixels are turned for people, see :func:`turned`.
        also: further pixels that were asked for, in that order.
    """

    pixels: Pixels
    facts: ImageFacts
    orientation: int = 1
    also: tuple[Pixels, ...] = ()


ORIENTATIONS = range(1, 9)
_MIRRORED = frozenset({2, 4, 5, 7})
_QUARTER_TURNS = {1: 0, 2: 0, 3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}


def turned(array: NDArray[T], orientation: int) -> NDArray[T]:
    """An array (height, width, ...) as people see it.

    D3 judges pixels as they are stored, as the published procedure does. Shown to people they are
    turned.

    Args:
        array: rows from the top, as they are stored.
        orientation: 1 to 8 as in EXIF.
    """
    from numpy import rot90

    around = rot90(array, _QUARTER_TURNS[orientation])
    return around[:, ::-1] if orientation in _MIRRORED else around


def pixels_sha256(mode: str, shape: tuple[int, ...], samples: bytes) -> str:
    """The SHA-256 that stands for an image which never was a file."""
    digest = hashlib.sha256(f"{mode}:{shape}:".encode())
    digest.update(samples)
    return digest.hexdigest()
