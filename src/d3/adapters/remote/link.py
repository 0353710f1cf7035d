"""A front's connection to an engine process: what was asked, what is answered, and reconnecting.

What an engine process that ended has not answered is sent once more to the next one: scoring an
image twice changes nothing.
"""

from __future__ import annotations

import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import msgspec

from d3.adapters.remote import wire
from d3.adapters.remote.wire import AnnouncedPanel, Ask, Call, Failed, Hello, State, Tell
from d3.domain.errors import D3Error, DeadlineExceeded, EngineAway
from d3.domain.images import Pixels
from d3.domain.models import Manifest
from d3.domain.ports.queue import Lane, Scored

_LOG = logging.getLogger(__name__)
_RETRY_SECONDS = 0.1
_LONGEST_OUTAGE = 120.0
_CALL_SECONDS = 2.0
_AWAY_SECONDS = 5.0
"""About as long as a process takes to start and to load a model."""
_CHUNK = 256 * 1024
_MOST_AT_ONCE = 256
_LANES = list(Lane)


@dataclass(eq=False, slots=True)
class Asked:
    """An image, or several, on the way through an engine process.

    Attributes:
        kind: whether it is scored or drawn.
        pixels: uint8 (n, S, S, 3); kept until it is answered.
        views: of each image.
        lane: its priority.
        deadline: on the monotonic clock.
        batch_size: largest pass that it may be in; 0 for the queue's limit.
        sha: of the file of a single image; zeros for none.
        trace: where the work lies; zeros for nowhere.
        manifests: of the models that are asked.
        number: of their detector, in the engine process that it is sent to.
        attempts: how often it was sent.
        connection: that it was last sent over; 0 for none.
    """

    kind: Ask
    manifests: tuple[Manifest, ...]
    pixels: Pixels
    views: int
    lane: Lane
    deadline: float
    batch_size: int = 0
    sha: bytes = wire.NO_SHA
    trace: bytes = wire.NO_TRACE
    future: Future[Any] = field(default_factory=Future)
    number: int = 0
    attempts: int = 0
    connection: int = 0

    def fail(self, error: D3Error) -> None:
        """End it with an error, unless it has ended."""
        _fail(self.future, error)

    def header(self, number: int) -> bytes:
        """What is sent before the pixels."""
        return wire.ask(
            self.kind,
            number=number,
            length=self.pixels.nbytes,
            lane=_LANES.index(self.lane),
            views=self.views,
            model=self.number,
            images=len(self.pixels),
            side=self.pixels.shape[1],
            batch_size=self.batch_size,
            deadline=self.deadline,
            sha=self.sha,
            trace=self.trace,
        )


class _Live(NamedTuple):
    """A connection over which an engine process can be asked."""

    number: int
    socket: socket.socket


class EngineLink:
    """A connection to one engine process, made again whenever it breaks.

    Args:
        path: of the engine's socket.
        name: of this process, such as ``front-1``.
        version: of D3, which both must share.

    Attributes:
        is_new: whether the engine process has not told of its models yet.
        states: of the engine's queues by the number of their detector, as they were last told.
        announced: called with what the engine has loaded, or with None and the reason;
            set before :meth:`start`. Called on the link's thread.
        lost: called when the connection breaks, on the link's thread.
    """

    def __init__(self, path: Path, name: str, version: str) -> None:
        self._path = path
        self._hello = Hello(version, name)
        self._numbers = itertools.count(1)
        self._asked: dict[int, Asked] = {}
        self._calls: dict[int, Future[Any]] = {}
        self._outbox: SimpleQueue[bytes | tuple[int, Asked] | None] = SimpleQueue()
        self._connections = 0
        self._connection: socket.socket | None = None
        self._live: _Live | None = None
        self._closed = threading.Event()
        self._met = threading.Event()
        self._trouble: str | None = "The engine process is being started."
        self._thread = threading.Thread(target=self._run, name="d3-engine-link", daemon=True)
        self.is_new = False
        self.states: dict[int, State] = {}
        self.announced: Callable[[AnnouncedPanel | None, str | None], None] = lambda *_: None
        self.lost: Callable[[], None] = lambda: None

    @property
    def trouble(self) -> str | None:
        """Why the engine process does not answer; None while it does."""
        return self._trouble

    @property
    def is_mine(self) -> bool:
        """Whether the caller runs on the link's thread."""
        return threading.current_thread() is self._thread

    def start(self, seconds: float) -> bool:
        """Begin; says whether the engine process has answered within these seconds."""
        self._thread.start()
        threading.Thread(target=self._send_all, name="d3-engine-send", daemon=True).start()
        return self._met.wait(seconds)

    def close(self) -> None:
        """End the connection. What is still waited for fails."""
        self._closed.set()
        self._break()
        self._outbox.put(None)
        if self._thread.is_alive() and not self.is_mine:
            self._thread.join()
        self._connections += 1
        for asked in self.take_orphans():
            asked.fail(EngineAway("The service is stopping.", "Try again."))

    def submit(self, asked: Asked) -> None:
        """Send pixels; the future is finished on the link's thread."""
        number = next(self._numbers)
        self._asked[number] = asked
        asked.future.add_done_callback(lambda future: self._left(number, future))
        self._outbox.put((number, asked))

    def post(self, frame: bytes) -> None:
        """Send a small frame."""
        self._outbox.put(frame)

    def call(self, method: str, *arguments: Any, seconds: float = _CALL_SECONDS) -> Any:
        """Ask a question and wait for the answer.

        Raises:
            EngineAway: there is none in time.
            D3Error: the engine process's own.
        """
        if self._trouble is not None:
            raise self.away()
        number, answer = next(self._numbers), Future[Any]()
        self._calls[number] = answer
        payload = wire.encode(Call(method, list(arguments)))
        try:
            self.post(wire.ask(Ask.CALL, number=number, length=len(payload)) + payload)
            return answer.result(seconds)
        except FutureTimeout:
            raise EngineAway(
                f"The engine process did not answer within {seconds:.0f} seconds.", "Try again."
            ) from None
        finally:
            self._calls.pop(number, None)

    def away(self) -> EngineAway:
        """The error for whoever asks meanwhile."""
        return EngineAway(
            self._trouble or "The engine process was restarted.",
            "Try again in a moment.",
            retry_after=_AWAY_SECONDS,
        )

    def take_orphans(self) -> list[Asked]:
        """Take what this connection's engine process was not asked, in the order it was asked."""
        return [
            asked
            for number, asked in list(self._asked.items())
            if asked.connection != self._connections and self._asked.pop(number, None) is not None
        ]

    def _send_all(self) -> None:
        """Send what is to be sent, on a thread of its own, and what has gathered at once.

        Whoever asks never waits, neither for room nor to get the interpreter back.
        """
        while (first := self._outbox.get()) is not None:
            waiting: list[bytes | tuple[int, Asked] | None] = [first]
            with suppress(Empty):
                while len(waiting) < _MOST_AT_ONCE:
                    waiting.append(self._outbox.get_nowait())
            # Else images are asked again, and the rest was for a process that has ended.
            if (live := self._live) is not None:
                try:
                    wire.send(live.socket, *self._parts(waiting, live.number))
                except OSError:
                    self._break()
            if None in waiting:
                return

    def _parts(
        self, waiting: list[bytes | tuple[int, Asked] | None], connection: int
    ) -> Iterator[bytes | memoryview]:
        for one in waiting:
            if isinstance(one, bytes):
                yield one
            elif one is not None and one[0] in self._asked:  # a cancelled one has left
                number, asked = one
                asked.attempts += 1
                asked.connection = connection
                yield asked.header(number)
                yield wire.raw(asked.pixels)

    def _break(self) -> None:
        """End this connection; the link's thread notices."""
        if (connection := self._connection) is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _left(self, number: int, future: Future[Any]) -> None:
        if self._asked.pop(number, None) is not None and future.cancelled():
            self.post(wire.ask(Ask.CANCEL, number=number))

    def _run(self) -> None:
        lost_at = time.monotonic()
        while not self._closed.is_set():
            try:
                with self._connect() as connection:
                    self._listen(connection)
            except (OSError, ValueError) as error:
                _LOG.debug("no engine process: %s", error)
            if self._trouble is None:
                lost_at = time.monotonic()
                self._trouble = "The engine process has ended and is being restarted."
                self._connections += 1
                self._fail_calls()
                self.lost()
            self._expire(time.monotonic() - lost_at > _LONGEST_OUTAGE)
            self._closed.wait(_RETRY_SECONDS)

    def _connect(self) -> socket.socket:
        self._connection = connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if self._closed.is_set():  # before there was a connection to end
                raise ConnectionAbortedError("this process ends")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wire.BUFFER)
            connection.connect(str(self._path))
            payload = wire.encode(self._hello)
            wire.send(connection, wire.ask(Ask.HELLO, length=len(payload)), payload)
        except OSError:
            connection.close()
            raise
        return connection

    def _listen(self, connection: socket.socket) -> None:
        """Take what the engine process says, until the connection ends."""
        frames = _Frames(connection)
        kind, payload = frames.hello()
        if kind is not Tell.HELLO:
            raise ValueError("an engine process says hello first")
        theirs = wire.decode(payload, Hello)
        if (theirs.version, theirs.protocol) != (self._hello.version, self._hello.protocol):
            trouble = (
                f"The engine process is D3 {theirs.version}, and this is D3 {self._hello.version}. "
                "Restart d3 serve."
            )
            if self._trouble != trouble:
                _LOG.error("%s", trouble)
            self._trouble = trouble
            self._met.set()
            self._closed.wait(1.0)
            return
        self._connections += 1
        self.is_new = True
        self._live = _Live(self._connections, connection)
        try:
            while not self._closed.is_set():
                for frame in frames.read():
                    self._take(*frame)
        finally:
            self._live = None

    def _take(self, header: tuple[Any, ...], payload: memoryview) -> None:
        kind, known, _, _, number, images, seconds, waited = header
        if kind in (Tell.SCORED, Tell.DREW):
            asked = self._asked.pop(number, None)
            if asked is not None and asked.future.set_running_or_notify_cancel():
                logits = wire.logits_of(payload, images)
                scored = kind == Tell.SCORED
                asked.future.set_result(
                    Scored(logits, seconds, waited, bool(known)) if scored else logits
                )
        elif kind == Tell.STATES:
            self.states = wire.decode(payload, dict[int, State])
        elif kind in (Tell.PANEL, Tell.NO_MODEL):
            self._meet(kind, payload)
        else:
            self._finish(kind, number, payload)

    def _meet(self, kind: int, payload: memoryview) -> None:
        """Take in which models the engine process has."""
        self._trouble = None
        if kind == Tell.PANEL:
            self.announced(wire.decode(payload, AnnouncedPanel), None)
        else:
            self.announced(None, wire.decode(payload, str))
        self.is_new = False
        self._met.set()

    def _finish(self, kind: int, number: int, payload: memoryview) -> None:
        """Take in an error, or the answer to a call."""
        call = self._calls.get(number)
        if kind == Tell.FAILED:
            error = wire.decode(payload, Failed).error()
            if (asked := self._asked.pop(number, None)) is not None:
                asked.fail(error)
            elif call is not None:
                _fail(call, error)
        elif call is not None and not call.done():
            call.set_result(msgspec.msgpack.decode(payload))

    def _fail_calls(self) -> None:
        for call in list(self._calls.values()):
            _fail(call, self.away())

    def _expire(self, given_up: bool) -> None:  # noqa: FBT001
        """Fail what waits for an engine process for too long."""
        now = time.monotonic()
        for number, asked in list(self._asked.items()):
            if given_up or now >= asked.deadline:
                self._asked.pop(number, None)
                late = DeadlineExceeded(
                    "The image could not be judged before the request's time limit.",
                    "Try again in a moment.",
                )
                _fail(asked.future, self.away() if given_up else late)


class _Frames:
    """Reads what an engine process says, many small frames at once."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._buffer = bytearray(_CHUNK)
        self._have = 0

    def hello(self) -> tuple[Tell, bytearray]:
        """The first frame."""
        header = wire.received(self._source, wire.TELL.size)
        kind, _, _, length, *_ = wire.TELL.unpack(header)
        return Tell(kind), wire.received(self._source, length)

    def read(self) -> list[tuple[tuple[Any, ...], memoryview]]:
        """Wait for more, and give all whole frames."""
        count = self._source.recv_into(memoryview(self._buffer)[self._have :])
        if not count:
            raise ConnectionResetError("the engine process has closed the connection")
        self._have += count
        frames, at, size = [], 0, wire.TELL.size
        while self._have - at >= size:
            header = wire.TELL.unpack_from(self._buffer, at)
            end = at + size + header[3]
            if end > self._have:
                if end - at > len(self._buffer):
                    self._buffer = self._buffer + bytearray(end - at)
                break
            # A copy: the buffer is used again.
            frames.append((header, memoryview(bytes(self._buffer[at + size : end]))))
            at = end
        rest = self._buffer[at : self._have]
        self._buffer[: len(rest)] = rest
        self._have = len(rest)
        return frames


def _fail(future: Future[Any], error: D3Error) -> None:
    if not future.done() and future.set_running_or_notify_cancel():
        future.set_exception(error)
