"""Reading clips: the frames of videos and of animated images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from d3.domain.clips import ClipEnd, ClipNote, ClipSource, Frame, FrameSampling
from d3.domain.images import ImageFacts, Pixels


@runtime_checkable
class OpenedClip(Protocol):
    """A clip whose frames can be read once, in order. Close it, whatever happens.

    Attributes:
        facts: of the file; ``frames`` are all that it holds, as far as they were counted.
        duration: seconds, as far as they are known; of animations after the last frame.
        planned: how many frames will be given at most.
        notes: what is unusual about the clip.
        end: why there are no more frames; final after the last one.
    """

    facts: ImageFacts
    duration: float
    planned: int
    notes: tuple[ClipNote, ...]
    end: ClipEnd

    def __iter__(self) -> Iterator[Frame]:
        """The frames that were asked for, in order of time.

        A clip that breaks off gives what there is, and ``end`` says it.

        Raises:
            ImageError: not one frame can be decoded.
        """
        ...

    def close(self) -> None:
        """End what decodes. Any thread may call it, also while another one reads."""
        ...


class ClipReader(Protocol):
    """Opens clips within limits, in a process of their own. Safe to call from many threads."""

    def kind(self, source: ClipSource) -> str | None:
        """The format of a video, or of an image that may move; None of anything else.

        Raises:
            ImageNotFound: the source cannot be read.
        """
        ...

    def open(self, source: ClipSource, sampling: FrameSampling) -> OpenedClip:
        """Open a clip; of its data alone: what a file names elsewhere is never opened.

        Raises:
            VideoUnavailable: the package that decodes videos is not installed.
            ImageError: the source is missing, no clip, damaged, or beyond a limit.
        """
        ...

    def pictures(self, source: ClipSource, times: Sequence[float], side: int) -> list[Pixels]:
        """The frames at these times as people see them: upright, and scaled down.

        Raises:
            VideoUnavailable, ImageError: as for :meth:`open`.
        """
        ...

    def close(self) -> None:
        """Free what is held."""
        ...
