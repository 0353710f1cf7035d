"""Decoding in child processes, so that limits hold even where a decoder misbehaves.

The decoders are C libraries, and their input is untrusted. One that crashes, never ends or takes
all memory only ends its child process and fails this image; the next image gets a new child. Even a
child under an attacker's control can write no file and answer nothing but pixels and facts.
"""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard, TypeVar

import numpy as np

from d3.adapters.children import START_SECONDS, WALL_FACTOR, Child, Deadline, Lost
from d3.adapters.pillow import worker
from d3.adapters.pillow.decoder import Limits, PillowDecoder, read_file
from d3.adapters.pillow.formats import FORMATS
from d3.adapters.provenance import ProvenanceReader
from d3.domain.errors import (
    DecoderUnavailable,
    DecodingInterrupted,
    ImageDamaged,
    ImageEmpty,
    ImageError,
    ImageFormatUnsupported,
    ImageTooLarge,
    ImageUnsupported,
)
from d3.domain.images import (
    ORIENTATIONS,
    Content,
    DecodedImage,
    ImageFacts,
    ImageSource,
    Note,
    Pixels,
)
from d3.domain.inputs import PixelsWanted
from d3.domain.provenance import MAX_SOURCES, UNREADABLE, Provenance

_LOG = logging.getLogger("d3.decoding")
_ERRORS: dict[str, type[ImageError]] = {
    kind.__name__: kind
    for kind in (ImageDamaged, ImageEmpty, ImageFormatUnsupported, ImageTooLarge, ImageUnsupported)
}
_SECONDS = 10
_MOST_WORDS = 4096
_MOST_SAID = 4 * MAX_SOURCES
"""Bytes of what a file says about itself."""

_TRIES = 2
Answer = TypeVar("Answer")


class IsolatedDecoder:
    """Implements ``ImageDecoder``; as many children as ever decoded at once.

    Encoded bytes and files go to a child; what needs no decoding, or is wanted whole, stays here.

    Args:
        limits: what one image may cost.
        seconds: of a processor that one image may take; three times as long by the clock.
        provenance: how what a file says about itself is read.
    """

    def __init__(
        self,
        limits: Limits = Limits(),
        seconds: int = _SECONDS,
        provenance: ProvenanceReader = ProvenanceReader(),
    ) -> None:
        self._inside = PillowDecoder(limits, provenance)
        self._limits = limits
        self._seconds = seconds
        self._provenance = provenance
        self._idle: list[_Child] = []
        self._lock = threading.Lock()

    def recognises(self, path: Path) -> bool:
        return self._inside.recognises(path)

    def decode(
        self,
        source: ImageSource,
        wanted: int | PixelsWanted | None,
        also: Sequence[PixelsWanted] = (),
    ) -> DecodedImage:
        if wanted is None or not _is_encoded(source):
            return self._inside.decode(source, wanted, also)
        first = PixelsWanted(wanted) if isinstance(wanted, int) else wanted
        return self._ask(
            source, lambda child, data, until: child.decode(data, (first, *also), until)
        )

    def picture(self, source: ImageSource, side: int) -> Pixels:
        if not _is_encoded(source):
            return self._inside.picture(source, side)
        return self._ask(source, lambda child, data, until: child.picture(data, side, until))

    def close(self) -> None:
        """End the children that are idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            child.kill()

    def _ask(
        self,
        source: str | Path | bytes,
        ask: Callable[[_Child, bytes, Deadline], Answer | ImageError],
    ) -> Answer:
        """What a child answers; one that is ended from outside is no fault of the image's."""
        data = source if isinstance(source, bytes) else read_file(Path(source), self._limits.bytes)
        self._inside.format_of(data)  # what is no image, or too large a file, is refused at once
        for number in range(_TRIES):
            child = self._take() if number == 0 else self._start()
            try:
                outcome = ask(child, data, Deadline(WALL_FACTOR * self._seconds))
            except Lost as lost:
                if child.was_killed():
                    continue
                raise ImageDamaged(
                    "Decoding the image exceeded the memory or time limit.",
                    "Export it again with another program.",
                ) from lost
            except BaseException:
                child.kill()  # it would answer the next one with this one's pixels
                raise
            if child.worn:
                child.kill()
            else:
                with self._lock:
                    self._idle.append(child)
            if isinstance(outcome, ImageError):
                raise outcome
            return outcome
        _LOG.error(
            "a decoding process was killed twice, perhaps because the system is out of memory"
        )
        raise DecodingInterrupted(
            "The process that decodes images was killed from outside.", "Try again in a moment."
        )

    def _take(self) -> _Child:
        with self._lock:
            # The last one in has its pages in the caches; one that died idle is passed over.
            while self._idle:
                child = self._idle.pop()
                if child.alive:
                    return child
                child.kill()
        return self._start()

    def _start(self) -> _Child:
        try:
            return _Child(self._limits, self._seconds, self._provenance)
        except (OSError, Lost) as error:
            _LOG.exception("no decoding process can be started")
            raise DecoderUnavailable(
                "Images cannot be decoded right now.", "Try again in a moment."
            ) from error


def _is_encoded(source: ImageSource) -> TypeGuard[str | Path | bytes]:
    """Whether a child is needed: pixels need no decoding."""
    return isinstance(source, str | Path | bytes)


class _Child(Child):
    """A child that decodes one image after another.

    Attributes:
        worn: it said that it should be replaced, or is lost.

    Raises:
        OSError: it cannot be started.
        Lost: it ended before it was ready.
    """

    worn = False

    def __init__(self, limits: Limits, seconds: int, provenance: ProvenanceReader) -> None:
        numbers = (limits.bytes, limits.pixels, limits.side, limits.jpeg_scans, seconds)
        flags = (int(provenance.keep_position), int(provenance.watermarks))
        super().__init__(worker.__name__, [*map(str, numbers + flags)])
        try:
            trust, until = provenance.trust.encode(), Deadline(START_SECONDS)
            self.write(worker.TRUST.pack(len(trust)) + trust, until)
            self.read(len(worker.READY), until)
        except BaseException:
            self.kill()
            raise

    def decode(
        self, data: bytes, wanted: Sequence[PixelsWanted], until: Deadline
    ) -> DecodedImage | ImageError:
        """The pixels that models take; whatever the child answers is checked."""
        length = sum(3 * one.size**2 for one in wanted)
        question = worker.ASK.pack(len(wanted), 0, len(data)) + b"".join(map(worker.packed, wanted))
        answer = self._exchange(question, data, length, until)
        if isinstance(answer, ImageError):
            return answer
        words, samples = answer
        try:
            form, *numbers, digest, content, note = words
            width, height, frames, orientation = map(int, numbers)
            facts = ImageFacts(
                form,
                width,
                height,
                frames,
                len(data),
                digest,
                Content(content),
                Note(note) if note else None,
            )
            pixels = []
            for one in wanted:
                this, samples = np.split(samples, [3 * one.size**2])
                pixels.append(this.reshape(one.size, one.size, 3))
        except ValueError as error:
            raise Lost from error
        sound = len(digest) == 64 and digest.isalnum() and orientation in ORIENTATIONS  # noqa: PLR2004
        if form not in FORMATS or not sound:
            raise Lost
        facts = replace(facts, provenance=self._said())
        return DecodedImage(pixels[0], facts, orientation, tuple(pixels[1:]))

    def _said(self) -> Provenance:
        """What the file says about itself; a child that is lost over it still gave the picture."""
        try:
            until = Deadline(WALL_FACTOR * worker.SAID_SECONDS)
            (length,) = worker.SAID.unpack(self.read(worker.SAID.size, until))
            if length > _MOST_SAID:
                return self._lost_over_it()
            return Provenance.from_json(bytes(self.read(length, until)).decode())
        except (OSError, ValueError, Lost):
            return self._lost_over_it()

    def _lost_over_it(self) -> Provenance:
        self.worn = True
        return UNREADABLE

    def picture(self, data: bytes, side: int, until: Deadline) -> Pixels | ImageError:
        """The picture for people; whatever the child answers is checked."""
        answer = self._exchange(worker.ASK.pack(0, side, len(data)), data, 3 * side**2, until)
        if isinstance(answer, ImageError):
            return answer
        words, samples = answer
        try:
            height, width = map(int, words)
            return samples.reshape(height, width, 3)
        except ValueError as error:
            raise Lost from error

    def _exchange(
        self, question: bytes, data: bytes, most: int, until: Deadline
    ) -> tuple[list[str], Pixels] | ImageError:
        """What the child answers in words, and at most so many bytes of pixels."""
        try:
            self.write(question, until)
            self.write(data, until)
            answer = worker.ANSWER.unpack(self.read(worker.ANSWER.size, until))
            status, self.worn, length, pixels = answer
            if length > _MOST_WORDS or pixels > most:
                raise Lost
            words = bytes(self.read(length, until)).decode().split("\n")
            if status != worker.DECODED:
                kind, problem, remedy = words
                return _ERRORS[kind](problem, remedy)
            return words, np.frombuffer(self.read(pixels, until), np.uint8)
        except (OSError, struct.error, ValueError, KeyError) as error:
            raise Lost from error
