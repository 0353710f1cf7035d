"""What pixels a model takes: how an image is cut to a square, and how its values are scaled."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)

_LARGEST = 4096


class Fit(StrEnum):
    """How an image becomes a square."""

    SQUASH = "squash"
    CROP = "crop"
    RESIZE_CROP = "resize_crop"


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The input of a model: uint8 RGB pixels (size, size, 3), scaled to [0, 1], then normalised.

    Attributes:
        size: side of the square, in pixels.
        fit: ``squash`` resizes to the square whatever the shape; ``crop`` cuts the square out of
            the middle, with zeros around an image that is smaller; ``resize_crop`` first resizes
            the shorter side to ``resize`` and then crops. Resizing is Pillow's antialiased
            bilinear filter; cropping is torchvision's ``CenterCrop``.
        resize: pixels of the shorter side; only with ``resize_crop``, elsewhere 0.
        mean: of red, green and blue in [0, 1]; subtracted.
        deviation: divided by.
    """

    size: int
    fit: Fit = Fit.SQUASH
    resize: int = 0
    mean: tuple[float, float, float] = CLIP_MEAN
    deviation: tuple[float, float, float] = CLIP_DEVIATION

    def __post_init__(self) -> None:
        if not 1 <= self.size <= _LARGEST:
            raise ValueError(f"an input has 1 to {_LARGEST} pixels a side")
        if (self.fit is Fit.RESIZE_CROP) != (self.resize > 0) or self.resize > _LARGEST:
            raise ValueError("resize is for resize_crop, which needs it")
        if not all(0 < one < float("inf") for one in self.deviation):
            raise ValueError("a deviation is positive")

    @property
    def clip_normalised(self) -> bool:
        """Whether the values are scaled as CLIP wants them."""
        return (self.mean, self.deviation) == (CLIP_MEAN, CLIP_DEVIATION)

    @property
    def pixels(self) -> PixelsWanted:
        """The pixels of it, which another scale of their values does not change."""
        return PixelsWanted(self.size, self.fit, self.resize)


class Change(StrEnum):
    """What is done to an image to see whether its verdict stands; see docs/detectors.md."""

    NONE = "none"
    JPEG = "jpeg"
    SCALED = "scaled"
    CROPPED = "cropped"
    MIRRORED = "mirrored"

    @property
    def words(self) -> str:
        """The same for people, such as "cropped by 5 %"."""
        return _WORDS[self]


_WORDS = {
    Change.NONE: "unchanged",
    Change.JPEG: "saved as a JPEG again",
    Change.SCALED: "at three quarters of its size",
    Change.CROPPED: "cropped by 5\u00a0%",
    Change.MIRRORED: "mirrored",
}
CHANGES = (Change.JPEG, Change.SCALED, Change.CROPPED, Change.MIRRORED)
"""Those of a test of stability, in its order."""


@dataclass(frozen=True, slots=True)
class PixelsWanted:
    """Which pixels of an image a decoder gives.

    Attributes:
        size: side of the square.
        fit: see :class:`InputSpec`.
        resize: likewise.
        change: done to the whole image first: saved as JPEG of quality 75, scaled to 0.75 of its
            size, cropped by 5 % (2.5 % on each side), or mirrored.
    """

    size: int
    fit: Fit = Fit.SQUASH
    resize: int = 0
    change: Change = Change.NONE
