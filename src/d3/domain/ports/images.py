"""Reading images, from files and links."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from d3.domain.images import DecodedImage, ImageSource, Pixels
from d3.domain.inputs import PixelsWanted


@runtime_checkable
class ImageDecoder(Protocol):
    """Decodes images under limits. Safe to call from many threads."""

    def decode(
        self,
        source: ImageSource,
        wanted: int | PixelsWanted | None,
        also: Sequence[PixelsWanted] = (),
    ) -> DecodedImage:
        """Decode the first frame to RGB, once for all the pixels that are wanted of it.

        Args:
            source: a path, the bytes of a file, pixels, or a PIL image.
            wanted: the pixels; a number is the side of a square to which the image is squashed,
                and None keeps the image's own size.
            also: further pixels, in :attr:`DecodedImage.also`.

        Raises:
            ImageError: the source is missing, no image, damaged, or beyond a limit.
        """
        ...

    def picture(self, source: ImageSource, side: int) -> Pixels:
        """The first frame as people see it: upright, and scaled down if a side is longer.

        Raises:
            ImageError: as for :meth:`decode`.
        """
        ...

    def recognises(self, path: Path) -> bool:
        """Whether the file's first bytes are those of an image, whatever its name.

        Raises:
            ImageNotFound: the file cannot be read.
        """
        ...

    def close(self) -> None:
        """Free its resources; nothing may be decoding any more."""
        ...


class LinkedImage(NamedTuple):
    """A file behind a link; it need not be an image.

    Attributes:
        name: for display; the last part of the link.
    """

    name: str
    data: bytes
