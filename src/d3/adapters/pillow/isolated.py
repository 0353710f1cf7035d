"""Decoding in child processes, so that limits hold even where a decoder misbehaves.

The decoders are C libraries fed by strangers. One that crashes, never ends or takes all memory
costs here a child its life and the sender an error; a new child takes over with the next image. A
child that was taken over altogether can write no file and answer nothing but pixels and facts.
"""

from __future__ import annotations

import os
import selectors
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np

from d3.adapters.pillow import worker
from d3.adapters.pillow.decoder import Limits, PillowDecoder, read_file
from d3.domain.errors import (
    ImageDamaged,
    ImageEmpty,
    ImageError,
    ImageFormatUnsupported,
    ImageTooLarge,
    ImageUnsupported,
)
from d3.domain.images import Content, DecodedImage, ImageFacts, ImageSource

_ERRORS: dict[str, type[ImageError]] = {
    kind.__name__: kind
    for kind in (ImageDamaged, ImageEmpty, ImageFormatUnsupported, ImageTooLarge, ImageUnsupported)
}
_FORMATS = {"AVIF", "BMP", "GIF", "HEIF", "JPEG", "PNG", "WEBP"}
_SECONDS = 10
_WALL_FACTOR = 3
_MOST_WORDS = 4096


class IsolatedDecoder:
    """Fills :class:`d3.domain.ports.ImageDecoder`; as many children as ever decoded at once.

    Encoded bytes and files go to a child; what needs no decoding, or is wanted whole, stays here.

    Args:
        limits: what one image may cost.
        seconds: of a processor that one image may take; three times as long by the clock.
    """

    def __init__(self, limits: Limits = Limits(), seconds: int = _SECONDS) -> None:
        self._inside = PillowDecoder(limits)
        self._limits = limits
        self._seconds = seconds
        self._idle: list[_Child] = []
        self._lock = threading.Lock()

    def recognises(self, path: Path) -> bool:
        """Whether the file's first bytes are those of an image."""
        return self._inside.recognises(path)

    def decode(self, source: ImageSource, size: int | None) -> DecodedImage:
        """Check the limits, decode the first frame to RGB and resize it to ``size`` x ``size``."""
        if size is not None and isinstance(source, str | Path):
            source = read_file(Path(source), self._limits.bytes)
        if size is None or not isinstance(source, bytes):
            return self._inside.decode(source, size)
        if not source or len(source) > self._limits.bytes:
            return self._inside.decode(source, size)  # which refuses it at once
        child = self._take()
        try:
            outcome = child.decode(source, size, _WALL_FACTOR * self._seconds)
        except _Lost as lost:
            child.kill()
            raise ImageDamaged(
                "Decoding the image went beyond the limits of memory or time.",
                "Export it again with another program.",
            ) from lost
        except BaseException:
            child.kill()  # it would answer the next one with this one's pixels
            raise
        with self._lock:
            self._idle.append(child)
        if isinstance(outcome, ImageError):
            raise outcome
        return outcome

    def close(self) -> None:
        """End the children that are idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            child.kill()

    def _take(self) -> _Child:
        with self._lock:
            # The last one in has its pages in the caches; one that died idle is passed over.
            while self._idle:
                child = self._idle.pop()
                if child.alive:
                    return child
                child.kill()
        return _Child(self._limits, self._seconds)


class _Lost(Exception):
    """A child that ended, took too long, or answered nonsense."""


class _Child:
    """One child process and its two pipes."""

    def __init__(self, limits: Limits, seconds: int) -> None:
        numbers = (limits.bytes, limits.pixels, limits.side, limits.jpeg_scans, seconds)
        self._process = subprocess.Popen(
            [sys.executable, "-m", worker.__name__, *map(str, numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the service, which still needs it
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def decode(self, data: bytes, size: int, seconds: float) -> DecodedImage | ImageError:
        """What the child answers; whatever it is, it is checked."""
        until = _Deadline(seconds)
        try:
            self._write(worker.ASK.pack(size, len(data)), until)
            self._write(data, until)
            status, words, pixels = worker.ANSWER.unpack(self._read(worker.ANSWER.size, until))
            if words > _MOST_WORDS or pixels != (3 * size**2 if status == worker.DECODED else 0):
                raise _Lost
            text = bytes(self._read(words, until)).decode().split("\n")
            if status != worker.DECODED:
                kind, problem, remedy = text
                return _ERRORS[kind](problem, remedy)
            form, *numbers, digest, content = text
            width, height, frames = map(int, numbers)
            if form not in _FORMATS or len(digest) != 64 or not digest.isalnum():  # noqa: PLR2004
                raise _Lost
            facts = ImageFacts(form, width, height, frames, len(data), digest, Content(content))
            samples = np.frombuffer(self._read(pixels, until), np.uint8)
        except (OSError, struct.error, ValueError, KeyError) as error:
            raise _Lost from error
        return DecodedImage(samples.reshape(size, size, 3), facts)

    def kill(self) -> None:
        """End it, whatever it does."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                assert stream is not None
                stream.close()

    def _write(self, data: bytes, until: _Deadline) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._to, rest) :]
            except BlockingIOError:
                until.wait(self._to, selectors.EVENT_WRITE)

    def _read(self, size: int, until: _Deadline) -> bytearray:
        """Exactly so many bytes."""
        content, at = bytearray(size), 0
        while at < size:
            try:
                got = os.readv(self._from, [memoryview(content)[at:]])
            except BlockingIOError:
                until.wait(self._from, selectors.EVENT_READ)
                continue
            if not got:
                raise _Lost
            at += got
        return content


class _Deadline:
    """The moment after which nothing is waited for."""

    def __init__(self, seconds: float) -> None:
        import time

        self._clock = time.monotonic
        self._end = self._clock() + seconds

    def wait(self, descriptor: int, event: int) -> None:
        """Until the descriptor is ready."""
        left = self._end - self._clock()
        with selectors.PollSelector() as selector:
            selector.register(descriptor, event)
            if left <= 0 or not selector.select(left):
                raise _Lost


def _environment() -> dict[str, str]:
    """Nothing of this process's, secrets least of all, but what a Python needs to start."""
    kept = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "SYSTEMROOT", "LANG")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    return found | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
