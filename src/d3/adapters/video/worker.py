"""The child of :class:`d3.adapters.video.reader.IsolatedClips`: one clip, from its standard input.

Run as ``python -P -m d3.adapters.video.worker QUESTION``, with a :class:`Question` as JSON. It
answers on stdout and ends. Once it is ready it can open no file and no connection.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from d3.adapters.confinement import forbid_opening, limit_memory, limit_seconds

if TYPE_CHECKING:
    from d3.domain.clips import ClipEnd, ClipNote, Frame

HEAD = struct.Struct("<BQ")
"""What kind of message, and its length."""

OPENED, FRAME, ENDED, REFUSED = range(4)
"""The kinds: facts (JSON), a frame (:data:`SHAPE` and its pixels), how it ended, what
was unusual and how long it is (JSON), or in place of all that an error: its name, the problem and
the remedy (JSON)."""

SHAPE = struct.Struct("<d?II")
"""A frame's seconds, whether it is the first after a cut, its height and its width."""

_SPARE_BYTES = 1024 * 2**20
_BYTES_A_PIXEL = 16
"""What a decoder keeps to predict from, its conversion, and the copy that is sent."""

_WORST_PIXELS = 8 * 2**20
"""Of a frame that has all that decoders may keep; larger frames have to keep less."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a child is asked.

    Attributes:
        kind: of the file, by its first bytes; an image's is an animation.
        pixels: width times height at most.
        side: the longer one at most.
        seconds: of the clip that are looked at.
        cpu_seconds: that the child may take.
        threads: that decode.
        every: see :class:`d3.domain.clips.FrameSampling`.
        most: likewise.
        cuts: likewise.
        closer: likewise.
        times: of the pictures for people that are wanted instead; None for frames to judge.
        picture: the longer side of those.
    """

    kind: str
    pixels: int
    side: int
    seconds: float
    cpu_seconds: int
    threads: int
    every: float
    most: int
    cuts: bool
    closer: bool = False
    times: list[float] | None = None
    picture: int = 0

    def to_json(self) -> str:
        """As it is passed on."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of :meth:`to_json`."""
        return cls(**json.loads(text))


class Decoding(Protocol):
    """A clip that is being decoded.

    Attributes:
        end: why there are no more frames; known after the last one.
        notes: what is unusual; likewise.
        duration: seconds; of animations as far as their frames were looked at.
    """

    end: ClipEnd
    duration: float
    notes: set[ClipNote]

    def facts(self) -> dict[str, Any]:
        """The format, width, height, frames, duration, and how many frames are planned."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Those that are wanted, in order."""
        ...


def main(question: Question) -> None:
    """Answer one question."""
    from d3.domain.errors import ImageError
    from d3.domain.formats import ANIMATED

    target = sys.stdout.buffer
    descriptor = sys.stdin.fileno()

    def say(kind: int, told: object) -> None:
        text = json.dumps(told).encode()
        target.write(HEAD.pack(kind, len(text)) + text)
        target.flush()

    try:
        open_clip: Any
        if question.kind in ANIMATED:
            from d3.adapters.video.animations import open_animation as open_clip
        else:
            from d3.adapters.video.movies import open_movie as open_clip
        spare = _SPARE_BYTES + _BYTES_A_PIXEL * max(question.pixels, _WORST_PIXELS)
        limit_memory(spare)
        forbid_opening()
        limit_seconds(question.cpu_seconds)
        clip: Decoding = open_clip(descriptor, question)
        say(OPENED, clip.facts())
        for frame in clip.frames():
            height, width, _ = frame.pixels.shape
            shape = SHAPE.pack(frame.time, frame.is_cut, height, width)
            target.write(HEAD.pack(FRAME, len(shape) + frame.pixels.nbytes) + shape)
            target.write(frame.pixels.data)
            target.flush()
        ended = {"end": clip.end, "notes": sorted(clip.notes), "duration": clip.duration}
        say(ENDED, ended)
    except ImageError as error:
        say(REFUSED, [type(error).__name__, error.problem, error.remedy])


if __name__ == "__main__":
    main(Question.from_json(sys.argv[1]))
