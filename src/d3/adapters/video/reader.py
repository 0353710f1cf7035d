"""Clips decoded in child processes, one for each: within limits, and from the given bytes alone."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from d3.adapters.children import START_SECONDS, WALL_FACTOR, Child, Deadline, Lost
from d3.adapters.pillow.decoder import Limits
from d3.adapters.video import worker
from d3.adapters.video.source import descriptor_of, sha256_of, start_of
from d3.domain.clips import ClipEnd, ClipNote, ClipSource, Frame, FrameSampling
from d3.domain.errors import (
    DecoderUnavailable,
    DecodingInterrupted,
    ImageDamaged,
    ImageEmpty,
    ImageError,
    ImageFormatUnsupported,
    ImageTooLarge,
    VideoInvalid,
    VideoTooLarge,
    VideoUnavailable,
)
from d3.domain.formats import ANIMATED, SNIFFED_BYTES, sniff, sniff_clip
from d3.domain.images import ImageFacts, Pixels
from d3.domain.installation import extra_missing
from d3.domain.machine import available_cores

_ERRORS: dict[str, type[ImageError]] = {
    kind.__name__: kind
    for kind in (ImageDamaged, ImageFormatUnsupported, ImageTooLarge, VideoInvalid, VideoTooLarge)
}
_LOG = logging.getLogger("d3.decoding")
_MOST_WORDS = 64 * 1024
_MOST_THREADS = 4


@dataclass(frozen=True, slots=True)
class ClipLimits:
    """What one clip may cost, beside the limits of its frames.

    Attributes:
        bytes: of the file.
        seconds: of the clip that are looked at.
        cpu_seconds: that decoding may take.
    """

    bytes: int = 200 * 2**20
    seconds: int = 3600
    cpu_seconds: int = 300


class IsolatedClips:
    """Implements ``ClipReader``; keeps no state and is thread-safe.

    Args:
        limits: of clips.
        frames: of their frames, and of an animated image's bytes.
    """

    def __init__(self, limits: ClipLimits = ClipLimits(), frames: Limits = Limits()) -> None:
        self._limits = limits
        self._frames = frames

    def kind(self, source: ClipSource) -> str | None:
        with descriptor_of(source) as descriptor:
            start = start_of(descriptor, SNIFFED_BYTES)
        image = sniff(start)
        return sniff_clip(start) if image is None else image if image in ANIMATED else None

    def open(self, source: ClipSource, sampling: FrameSampling) -> ClipOfChild:
        with descriptor_of(source) as descriptor:
            kind = self._kind_of(descriptor)
            clip = ClipOfChild(descriptor, self._question(kind, sampling))
            try:
                clip.read_facts(sha256_of(descriptor))
                clip.check_moves()
            except BaseException:
                clip.close()
                raise
            return clip

    def pictures(self, source: ClipSource, times: Sequence[float], side: int) -> list[Pixels]:
        with descriptor_of(source) as descriptor:
            asked = FrameSampling(every=0, most=max(1, len(times)), cuts=False)
            kind = self._kind_of(descriptor)
            clip = ClipOfChild(descriptor, self._question(kind, asked, times, side))
            try:
                clip.read_facts("")
                return [one.pixels for one in clip]
            finally:
                clip.close()

    def close(self) -> None:
        """Nothing is held."""

    def _kind_of(self, descriptor: int) -> str:
        """The format of a file, which is within the limits.

        Raises:
            ImageError: it is not.
        """
        size, start = os.fstat(descriptor).st_size, start_of(descriptor, SNIFFED_BYTES)
        if not size:
            raise ImageEmpty("The file is empty.", "Send the bytes of a video.")
        image = sniff(start)
        if image in ANIMATED:
            if size > self._frames.bytes:
                raise ImageTooLarge(
                    f"The file is larger than {self._frames.bytes:,} bytes.",
                    "Send a smaller one, or raise D3_MAX_IMAGE_BYTES.",
                )
            return image
        if image is not None:
            raise _still(image)
        kind = sniff_clip(start)
        if kind is None:
            raise VideoInvalid(
                "This is not a video in a format that D3 reads.",
                "D3 reads MP4, MOV, WebM, MKV, AVI, MPEG, FLV, Ogg and WMV, and animated GIF, "
                "WebP, PNG and AVIF.",
            )
        if size > self._limits.bytes:
            raise VideoTooLarge(
                f"The video is larger than {self._limits.bytes:,} bytes.",
                "Send a smaller one, or raise D3_MAX_VIDEO_BYTES.",
            )
        if find_spec("av") is None:
            raise extra_missing(VideoUnavailable, "Judging videos", "video", public=True)
        return kind

    def _question(
        self,
        kind: str,
        sampling: FrameSampling,
        times: Sequence[float] | None = None,
        side: int = 0,
    ) -> worker.Question:
        return worker.Question(
            kind=kind,
            pixels=self._frames.pixels,
            side=self._frames.side,
            seconds=self._limits.seconds,
            cpu_seconds=self._limits.cpu_seconds,
            threads=min(available_cores(), _MOST_THREADS),
            every=sampling.every,
            most=sampling.most,
            cuts=sampling.cuts,
            closer=sampling.closer,
            times=None if times is None else list(times),
            picture=side,
        )


class ClipOfChild(Child):
    """Implements ``OpenedClip``; whatever the child answers is checked.

    Raises:
        DecoderUnavailable: the child cannot be started.
    """

    facts: ImageFacts
    duration: float
    planned: int
    notes: tuple[ClipNote, ...] = ()
    end = ClipEnd.WHOLE

    def __init__(self, descriptor: int, question: worker.Question) -> None:
        self._question = question
        self._size = os.fstat(descriptor).st_size
        # What passes while nobody waits is not the child's fault: frames are judged meanwhile.
        self._until = Deadline(START_SECONDS + WALL_FACTOR * question.cpu_seconds, ticks=False)
        self._closed = self._reading = False
        self._lock = threading.Lock()
        try:
            super().__init__(worker.__name__, [question.to_json()], stdin=descriptor)
        except OSError as error:
            _LOG.exception("no decoding process can be started")
            raise DecoderUnavailable(
                "Clips cannot be decoded right now.", "Try again in a moment."
            ) from error

    def read_facts(self, sha256: str) -> None:
        """Wait until the clip is open.

        Raises:
            ImageError: it cannot be.
        """
        try:
            told = self._told(worker.OPENED)
            width, height, frames = (_whole(told[one]) for one in ("width", "height", "frames"))
            self.duration = _seconds(told["duration"])
            self.planned = min(_whole(told["planned"]), self._question.most)
            kind = str(told["format"])[:32]
        except (KeyError, TypeError, ValueError, Lost) as error:
            raise self._lost() from error
        self.facts = ImageFacts(kind, width, height, frames, self._size, sha256)

    def check_moves(self) -> None:
        """See whether it is more than an image.

        Raises:
            VideoInvalid: it is an image of a single frame.
        """
        if self.facts.format in ANIMATED and self.facts.frames == 1:
            raise _still(self.facts.format)

    def __iter__(self) -> Iterator[Frame]:
        given, latest = 0, -math.inf
        with self._lock:
            if self._closed:
                return
            self._reading = True
        try:
            while (frame := self._next()) is not None:
                given += 1
                _check(frame.time > latest and given <= self._question.most)
                latest = frame.time
                yield frame
        except (KeyError, TypeError, ValueError, Lost) as error:
            lost = self._lost()
            if not given or isinstance(lost, DecodingInterrupted):
                raise lost from error
        except ImageError:
            if not given:
                raise
            self.end = ClipEnd.DAMAGED
        finally:
            with self._lock:
                self._closed, self._reading = True, False
                self.kill()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._reading:
                self.stop()  # and its reader closes it
            else:
                self.kill()

    def _next(self) -> Frame | None:
        """The next frame; None after the last one."""
        kind, length = worker.HEAD.unpack(self.read(worker.HEAD.size, self._until))
        if kind != worker.FRAME:
            told = self._words(kind, length, worker.ENDED)
            self.end = ClipEnd(told["end"])
            self.notes = tuple(map(ClipNote, told["notes"]))
            self.duration = _seconds(told["duration"])
            return None
        time, is_cut, height, width = worker.SHAPE.unpack(self.read(worker.SHAPE.size, self._until))
        size = height * width * 3
        _check(length == worker.SHAPE.size + size and height * width <= self._question.pixels)
        pixels = np.frombuffer(self.read(size, self._until), np.uint8)
        return Frame(_seconds(time), pixels.reshape(height, width, 3), bool(is_cut))

    def _told(self, expected: int) -> Any:
        kind, length = worker.HEAD.unpack(self.read(worker.HEAD.size, self._until))
        return self._words(kind, length, expected)

    def _words(self, kind: int, length: int, expected: int) -> Any:
        _check(length <= _MOST_WORDS)
        told = json.loads(bytes(self.read(length, self._until)))
        if kind == expected:
            return told
        _check(kind == worker.REFUSED)
        name, problem, remedy = told
        raise _ERRORS[name](str(problem), str(remedy))

    def _lost(self) -> ImageError:
        """Why the child gives no more; :attr:`end` says the same."""
        code = self.ended()
        if code == -signal.SIGKILL and not self._closed:
            return DecodingInterrupted(
                "The process that decodes the clip was killed from outside.",
                "Try again in a moment.",
            )
        if code is None or code == -getattr(signal, "SIGXCPU", 0):
            self.end = ClipEnd.TOO_SLOW
            return VideoInvalid(
                "Decoding the clip exceeded the time limit.",
                "Send a smaller or shorter one, or raise D3_VIDEO_CPU_SECONDS.",
            )
        self.end = ClipEnd.DAMAGED
        return VideoInvalid(
            "The clip cannot be decoded, or decoding it needs too much memory.",
            "Convert it with another program, or scale it down.",
        )


def _still(kind: str) -> VideoInvalid:
    return VideoInvalid(
        f"This is one still image ({kind}), not a clip.",
        "Judge it as an image: `d3 detect`, detect or POST /api/inference/predict.",
    )


def _check(sound: bool) -> None:  # noqa: FBT001
    """Lose a child that answers nonsense."""
    if not sound:
        raise Lost


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError(value)
    return value


def _seconds(value: object) -> float:
    if type(value) not in {int, float} or not 0 <= value < math.inf:  # type: ignore[operator]
        raise ValueError(value)
    assert isinstance(value, int | float)
    return float(value)
