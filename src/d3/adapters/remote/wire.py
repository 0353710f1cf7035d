"""The frames between a front and an engine process.

A frame is a header of fixed size and a payload: raw pixels or logits where it is hot, MessagePack
everywhere else. Both ends run the same version of D3 and say so first.
"""

from __future__ import annotations

import socket
import struct
from enum import IntEnum
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from d3.domain import errors
from d3.domain.errors import D3Error, DetectorFailed, RetryLater
from d3.domain.images import Pixels
from d3.domain.models import Manifest
from d3.domain.panels import Missing
from d3.domain.ports import tracing

PROTOCOL = 3
BUFFER = 4 * 2**20
"""Asked of the system for each direction; it may give less."""
NO_DEADLINE = float("inf")
NO_SHA = bytes(32)
NO_TRACE = tracing.NO_TRACE

T = TypeVar("T")


class Ask(IntEnum):
    """What a front says. What it has admitted as one of several images is not refused any more."""

    HELLO = 1
    SCORE = 2
    DRAW = 3
    CANCEL = 4
    DROP = 5
    CALL = 6
    SCORE_ADMITTED = 7


class Tell(IntEnum):
    """What an engine process says."""

    HELLO = 1
    PANEL = 2
    NO_MODEL = 3
    STATES = 4
    SCORED = 5
    DREW = 6
    FAILED = 7
    ANSWERED = 8


ASK = struct.Struct("<BBHIQIIIId32s25s")
"""kind, lane, views, bytes of payload, id, detector, images, side, batch or 0, deadline, SHA-256,
trace"""
TELL = struct.Struct("<BBHIQIdd")
"""kind, whether it was known, views, bytes of payload, id, images, seconds, seconds waited"""


class Hello(msgspec.Struct, frozen=True):
    """The first payload in each direction."""

    version: str
    name: str
    protocol: int = PROTOCOL


class Announced(msgspec.Struct, frozen=True):
    """A detector that an engine process has loaded.

    Attributes:
        number: counts the detectors of this engine process.
        manifests: of the models that it scores in one pass, in the order of their logits' columns.
        parts: of a heat map; 0 where the engine draws none.
    """

    number: int
    manifests: tuple[Manifest, ...]
    engine: str
    device: str
    precision: str
    weights_bytes: int
    parts: int


class AnnouncedPanel(msgspec.Struct, frozen=True):
    """All that an engine process has loaded to judge images with.

    Attributes:
        members: the models' names, the chief's first.
        detectors: that score them.
        missing: members that it could not load.
    """

    members: tuple[str, ...]
    detectors: tuple[Announced, ...]
    missing: tuple[Missing, ...] = ()


class Load(msgspec.Struct, frozen=True, array_like=True):
    """What waits in one lane of an engine's queue, and what of it is this front's.

    Attributes:
        images: that wait, of all fronts.
        size_bytes: their memory.
        oldest_seconds: the age of the oldest.
        seconds: estimated until one more image would be scored.
        each: estimated seconds for each encoding more.
        own_images: this front's share.
        own_bytes: likewise.
        own_encodings: likewise.
    """

    images: int = 0
    size_bytes: int = 0
    oldest_seconds: float = 0.0
    seconds: float = 0.0
    each: float = 0.0
    own_images: int = 0
    own_bytes: int = 0
    own_encodings: int = 0


class State(msgspec.Struct, frozen=True, array_like=True):
    """The state of a detector's queue; all of an engine's are sent when one changes."""

    interactive: Load = Load()
    bulk: Load = Load()
    trouble: str | None = None


class Call(msgspec.Struct, frozen=True, array_like=True):
    """A question that is answered with one value."""

    method: str
    arguments: list[Any]


class Failed(msgspec.Struct, frozen=True, array_like=True):
    """An error on its way."""

    kind: str
    problem: str
    remedy: str
    retry_after: float = 0.0

    @classmethod
    def of(cls, error: BaseException) -> Failed:
        """Any error; what is not D3's is named, and said to be the detector's."""
        if isinstance(error, D3Error):
            after = error.retry_after if isinstance(error, RetryLater) else 0.0
            return cls(type(error).__name__, error.problem, error.remedy, after)
        return cls("DetectorFailed", f"The engine failed ({error!r:.200}).", "Try again.")

    def error(self) -> D3Error:
        """The same error in this process."""
        kind: type[D3Error] = getattr(errors, self.kind, DetectorFailed)
        error = kind(self.problem, self.remedy)
        if isinstance(error, RetryLater):
            error.retry_after = self.retry_after
        return error


encode = msgspec.msgpack.Encoder().encode
"""A payload as MessagePack."""


def decode(payload: bytes | bytearray | memoryview, kind: type[T]) -> T:
    """A payload as a value of this type.

    Raises:
        ValueError: it is none.
    """
    return msgspec.msgpack.decode(payload, type=kind)


def ask(
    kind: Ask,
    *,
    number: int = 0,
    length: int = 0,
    lane: int = 0,
    views: int = 1,
    model: int = 0,
    images: int = 0,
    side: int = 0,
    batch_size: int = 0,
    deadline: float = NO_DEADLINE,
    sha: bytes = NO_SHA,
    trace: bytes = NO_TRACE,
) -> bytes:
    """The header of what a front says."""
    return ASK.pack(
        kind, lane, views, length, number, model, images, side, batch_size, deadline, sha, trace
    )


def tell(
    kind: Tell,
    payload: bytes = b"",
    *,
    number: int = 0,
    known: bool = False,
    views: int = 1,
    images: int = 0,
    seconds: float = 0.0,
    waited: float = 0.0,
) -> bytes:
    """A frame of an engine process."""
    header = TELL.pack(kind, known, views, len(payload), number, images, seconds, waited)
    return header + payload


def receive(source: socket.socket, into: bytearray | memoryview) -> None:
    """Fill the buffer.

    Raises:
        OSError: the connection has ended.
    """
    view = memoryview(into)
    while view:
        count = source.recv_into(view, len(view), socket.MSG_WAITALL)
        if not count:
            raise ConnectionResetError("the other process has closed the connection")
        view = view[count:]


def received(source: socket.socket, length: int) -> bytearray:
    """The next bytes, so many.

    Raises:
        OSError: the connection has ended.
    """
    content = bytearray(length)
    receive(source, content)
    return content


def receive_pixels(source: socket.socket, images: int, side: int) -> Pixels:
    """Raw uint8 pixels (images, side, side, 3), received into the array that is scored."""
    pixels = np.empty((images, side, side, 3), np.uint8)
    receive(source, raw(pixels))
    return pixels


def raw(pixels: Pixels) -> memoryview:
    """The bytes of contiguous pixels; no copy."""
    view: memoryview = pixels.data
    return view.cast("B")


def logits_of(payload: memoryview, rows: int) -> NDArray[np.float64]:
    """Float64 values (rows, anything); a copy."""
    return np.frombuffer(payload, np.float64).reshape(rows, -1).copy()


def send(target: socket.socket, *parts: bytes | memoryview) -> None:
    """Send all parts.

    Raises:
        OSError: the connection has ended.
    """
    sent = target.sendmsg(parts)
    for part in parts:
        if sent >= len(part):
            sent -= len(part)
        else:
            target.sendall(memoryview(part)[sent:])
            sent = 0
