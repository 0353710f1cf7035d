"""Frames of animated images, decoded with Pillow in the child."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from d3.adapters.pillow.decoder import as_rgb, opener
from d3.adapters.video.source import Shared
from d3.adapters.video.worker import Question
from d3.domain.clips import ClipEnd, ClipNote, Frame
from d3.domain.errors import ImageDamaged, ImageTooLarge

if TYPE_CHECKING:
    from d3.domain.images import Pixels

_DEFAULT_SECONDS = 0.1
"""What players show a frame for where the file does not say it."""

_SHORTEST_SECONDS = 0.011
"""Below it players take the default."""


class _Animation:
    """Implements ``Decoding``."""

    def __init__(self, descriptor: int, question: Question) -> None:
        self._question = question
        self.end = ClipEnd.WHOLE
        self.duration = 0.0
        self.notes: set[ClipNote] = set()
        try:
            self._image = opener(question.kind)(io.BufferedReader(Shared(descriptor)))
            self._count = int(getattr(self._image, "n_frames", 1))
        except Exception as error:  # Pillow's plugins raise nearly anything at a malformed file
            raise _damaged(question.kind) from error
        width, height = self._image.size
        if width * height > question.pixels or max(width, height) > question.side:
            raise ImageTooLarge(
                f"The animation has {width:,} x {height:,} pixels, which is more than is allowed.",
                "Scale it down, or raise D3_MAX_IMAGE_PIXELS and D3_MAX_IMAGE_SIDE.",
            )
        wanted = min(self._count, question.most)
        self._places = {number * self._count // wanted for number in range(wanted)}
        if wanted < self._count:
            self.notes.add(ClipNote.SPARSE)

    def facts(self) -> dict[str, Any]:
        width, height = self._image.size
        return {
            "format": self._question.kind,
            "width": width,
            "height": height,
            "frames": self._count,
            "duration": self.duration,
            "planned": len(self._places),
        }

    def frames(self) -> Iterator[Frame]:
        given, time, times = 0, 0.0, self._question.times
        for place in range(self._count):
            try:
                self._image.seek(place)
                self._image.load()
                rgb = as_rgb(self._image)
            except MemoryError as error:
                raise ImageTooLarge(
                    "There is not enough memory to decode the animation.", "Scale it down."
                ) from error
            except Exception as error:  # as above
                self.end = ClipEnd.DAMAGED if given else self.end
                if not given:
                    raise _damaged(self._question.kind) from error
                return
            seconds = _shown(self._image)
            wanted = (
                place in self._places
                if times is None
                else any(time <= one < time + seconds for one in times)
            )
            if wanted:
                yield Frame(time, self._pixels(rgb))
                given += 1
            time += seconds
            self.duration = time

    def _pixels(self, rgb: Image.Image) -> Pixels:
        if self._question.times is not None:
            side = self._question.picture
            rgb.thumbnail((side, side), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(rgb))


def open_animation(descriptor: int, question: Question) -> _Animation:
    """Open an animated image.

    Raises:
        ImageDamaged, ImageTooLarge: it cannot be decoded.
    """
    return _Animation(descriptor, question)


def _shown(image: Image.Image) -> float:
    """For how many seconds a frame is shown."""
    said = image.info.get("duration") or 0
    seconds = float(said) / 1000
    return seconds if seconds >= _SHORTEST_SECONDS else _DEFAULT_SECONDS


def _damaged(kind: str) -> ImageDamaged:
    return ImageDamaged(f"The {kind} animation is damaged or cut short.", "Export it again.")
