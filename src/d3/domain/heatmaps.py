"""Heat maps: which patches of an image a score comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from d3.domain.images import ImageFacts, Pixels
from d3.domain.models import ModelReference

Map: TypeAlias = NDArray[np.float64]
Encode: TypeAlias = Callable[[Pixels, Mapping[str, str]], bytes]
"""Turns uint8 RGB pixels (height, width, 3) and texts, by keyword, into a file such as a PNG."""

MEANING = (
    "Red marks the parts of this image that look most generated to the model when it sees them "
    "alone. Blue marks the parts that look least generated. The scale fits each image, so a real "
    "photograph has red parts too. The map shows where the score comes from. It is not proof."
)
"""What must be said beside every heat map."""

_RED = np.array([215, 38, 30], np.float32)
_BLUE = np.array([33, 90, 190], np.float32)
_STRENGTH = 0.6


@dataclass(frozen=True, slots=True, eq=False)
class Heatmap:
    """A heat map over an image.

    Attributes:
        logits: float64 (grid, grid), one per patch, rows from the top of the upright image: the
            mean raw logit of the windows that hold the patch, each scored alone.
        pixels: uint8 RGB (height, width, 3): the upright image, scaled down if a side is longer
            than 1024 pixels.
        notice: what must be said beside the map, from the model's manifest; may be empty.
    """

    logits: Map
    pixels: Pixels = field(repr=False)
    image: ImageFacts
    model: ModelReference
    encode: Encode = field(repr=False)
    notice: str = ""

    @property
    def values(self) -> Map:
        """Distances of the logits from their mean, (grid, grid) in [-1, 1]; the largest is 1.

        Zero everywhere if all parts look alike. Comparable within the image only.
        """
        apart: Map = self.logits - self.logits.mean()
        largest = float(np.abs(apart).max())
        return apart / largest if largest > 0 else apart

    @property
    def meaning(self) -> str:
        """What the colours mean, and what they do not."""
        return MEANING

    def overlay(self) -> Pixels:
        """The image with the map laid over it: uint8 RGB (height, width, 3)."""
        height, width = self.pixels.shape[:2]
        heat = _enlarged(self.values, height, width)[..., None]
        colour = np.where(heat > 0, _RED, _BLUE)
        share = np.abs(heat) * np.float32(_STRENGTH)
        mixed = self.pixels * (1 - share) + colour * share
        painted: Pixels = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
        return painted

    def _repr_png_(self) -> bytes:
        """What a notebook shows of it."""
        return self.png()

    def png(self) -> bytes:
        """The overlay as a PNG file; its text chunks say what it is."""
        return self.encoded(self.encode)

    def encoded(self, encode: Encode) -> bytes:
        """The overlay as a file of another format, which says what it is too."""
        model = self.model
        text = {
            "Software": "D3",
            "Description": self.meaning,
            "Model": f"{model.name} version {model.version}, SHA-256 {model.sha256}",
            "Source SHA-256": self.image.sha256,
        }
        if self.notice:
            text["Notice"] = self.notice
        return encode(self.overlay(), text)


def _enlarged(values: Map, height: int, width: int) -> NDArray[np.float32]:
    """The map (height, width), interpolated linearly between the centres of patches."""
    rows, columns = _weights(len(values), height), _weights(values.shape[1], width)
    enlarged: NDArray[np.float32] = rows @ values.astype(np.float32) @ columns.T
    return enlarged


def _weights(places: int, length: int) -> NDArray[np.float32]:
    """The weight of each place at each pixel: (length, places)."""
    spots = np.clip((np.arange(length) + 0.5) * places / length - 0.5, 0, places - 1)
    distances = np.abs(spots[:, None] - np.arange(places))
    return np.asarray(np.clip(1 - distances, 0, 1), dtype=np.float32)
