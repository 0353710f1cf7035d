"""Reading images, from files and links."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from d3.domain.images import DecodedImage, ImageSource, Pixels


@runtime_checkable
class ImageDecoder(Protocol):
    """Turns what was handed in into pixels, under limits. Safe to call from many threads."""

    def decode(self, source: ImageSource, size: int | None) -> DecodedImage:
        """Check the limits, decode the first frame to RGB and resize it to ``size`` x ``size``.

        Without a size it stays as large as it is.

        Raises:
            ImageError: the source is not there, no image, damaged, or beyond a limit.
        """
        ...

    def picture(self, source: ImageSource, side: int) -> Pixels:
        """The first frame as people see it, turned, and scaled down where a side is longer.

        Raises:
            ImageError: as for :meth:`decode`.
        """
        ...

    def recognises(self, path: Path) -> bool:
        """Whether the file's first bytes are those of an image; its name is not looked at.

        Raises:
            ImageNotFound: the file cannot be read.
        """
        ...

    def close(self) -> None:
        """Give back what it holds; called when nothing is being decoded any more."""
        ...


class LinkedImage(NamedTuple):
    """What a link leads to, as it came: it need not be an image.

    Attributes:
        name: for people; the last part of the link.
    """

    name: str
    data: bytes
