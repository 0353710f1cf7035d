"""The engine process's end: fronts connect, and what they ask goes into the models' queues."""

from __future__ import annotations

import itertools
import logging
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import astuple, dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

import numpy as np

from d3.adapters.remote import wire
from d3.adapters.remote.wire import (
    Announced,
    AnnouncedPanel,
    Ask,
    Call,
    Failed,
    Hello,
    Load,
    State,
    Tell,
)
from d3.domain.coroutines import start
from d3.domain.errors import D3Error, EngineAway, RequestInvalid
from d3.domain.images import Pixels
from d3.domain.ports.accounts import RateLimiter
from d3.domain.ports.detector import Explainer
from d3.domain.ports.history import CacheKey
from d3.domain.ports.queue import DetectionQueue, Lane, Scored
from d3.domain.ports.tracing import TraceContext, within
from d3.domain.services.detection import SingleFlight
from d3.domain.services.model_host import LoadedModel, ModelHost, Panel

_LOG = logging.getLogger(__name__)
_STATE_SECONDS = 0.02
_LOOK_SECONDS = 0.1
_HELLO_SECONDS = 10.0
_MOST_UNSENT = 64 * 2**20
_SLOW_CALLS = 4
_LANES = list(Lane)
_NOTHING = {lane: [0, 0, 0] for lane in _LANES}
Method = Callable[..., Any]
_LaneLoad = tuple[int, int, float, float, float]


class EngineServer:
    """Serves the fronts of a machine.

    Args:
        host: holds the models.
        flights: has each image scored once, for all fronts.
        limiter: counts requests, for all fronts.
        version: of D3, which both ends must share.

    Attributes:
        methods: what a front may call, by name; they answer with what MessagePack can hold.
        quick: the names of those that never take long.
    """

    def __init__(
        self, host: ModelHost, flights: SingleFlight, limiter: RateLimiter, version: str
    ) -> None:
        self._host = host
        self.flights = flights
        self.methods: dict[str, Method] = {
            "load": self._load,
            "unload": host.unload,
            "hit": lambda rate, who: astuple(limiter.hit(rate, who)),
            "look": lambda rate, who: astuple(limiter.look(rate, who)),
        }
        self.quick = set() if limiter.waits else {"hit", "look"}
        self.hello = Hello(version, "engine")
        self.slow = ThreadPoolExecutor(_SLOW_CALLS, thread_name_prefix="d3-call")
        self._fronts: set[_Front] = set()
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        # No two engine processes of a machine give a detector the same number.
        self._numbers = itertools.count(secrets.randbelow(2**20) * 2**12 + 1)
        self._numbered: dict[DetectionQueue, int] = {}
        self._closed = threading.Event()
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._waking, self._woken = socket.socketpair()

    def serve(self, listener: socket.socket) -> None:
        """Accept fronts on a listening Unix socket, on threads of its own."""
        self._listener = listener
        self._accepting = threading.Thread(target=self._accept, name="d3-accept", daemon=True)
        self._accepting.start()
        threading.Thread(target=self._tell_states, name="d3-state", daemon=True).start()

    def tell_all(self) -> None:
        """Tell all fronts which models are loaded now."""
        with self._lock:
            fronts = list(self._fronts)
        for front in fronts:
            self.tell(front)

    def tell(self, front: _Front) -> None:
        """Tell a front which models are loaded now; they are held for it until it drops them."""
        with self._telling, ExitStack() as holding:
            try:
                panel = holding.enter_context(self._host.panel())
            except D3Error:
                self._numbered = {}
                front.tell_none(self._host.trouble or "")
                return
            models = self._number(panel)
            told = AnnouncedPanel(
                tuple(one.manifest.name for one in panel.members),
                tuple(_announcement(number, one) for number, one in models.items()),
                panel.missing,
            )
            front.tell_panel(told, models, self._host.holding)

    def wait_for_fronts(self, seconds: float) -> None:
        """Wait until no front is connected, or for so many seconds."""
        until = time.monotonic() + seconds
        while self._fronts and time.monotonic() < until:
            self._closed.wait(_LOOK_SECONDS)

    def close(self) -> None:
        """Let all fronts go.

        The socket goes on listening where another process holds it too: its backlog is the next
        engine's.
        """
        self._closed.set()
        self._waking.close()
        if self._listener is not None and self._accepting is not None:
            self._accepting.join()
            self._listener.close()
        self._woken.close()
        with self._lock:
            fronts = list(self._fronts)
        for front in fronts:
            front.close()
        self.slow.shutdown(wait=False, cancel_futures=True)

    def gone(self, front: _Front) -> None:
        """A front has left."""
        with self._lock:
            self._fronts.discard(front)

    def _number(self, panel: Panel) -> dict[int, LoadedModel]:
        """A model of each detector, by the detector's number."""
        queues = {one.queue: one for one in panel.members}
        self._numbered = {one: self._numbered.get(one) or next(self._numbers) for one in queues}
        return {self._numbered[queue]: one for queue, one in queues.items()}

    def _load(self, name: str | None, version: int | None) -> tuple[str, int]:
        manifest = self._host.load(name, version).manifest
        return manifest.name, manifest.version

    def _accept(self) -> None:
        assert self._listener is not None
        arrivals = select.poll()
        arrivals.register(self._listener, select.POLLIN)
        arrivals.register(self._woken, select.POLLIN)
        while not self._closed.is_set():
            arrivals.poll()
            if self._closed.is_set():
                return
            try:
                connection, _ = self._listener.accept()
            except OSError:
                if self._closed.wait(0.1):
                    return
                continue
            front = _Front(self, connection)
            with self._lock:
                self._fronts.add(front)
            front.start()

    def _tell_states(self) -> None:
        while not self._closed.wait(_STATE_SECONDS):
            with self._lock:
                fronts = list(self._fronts)
            if fronts:
                states = {
                    number: ([_load_of(queue, lane) for lane in _LANES], queue.trouble)
                    for queue, number in self._numbered.items()
                }
                for front in fronts:
                    front.tell_states(states)


def _announcement(number: int, model: LoadedModel) -> Announced:
    detector = model.queue.detector
    return Announced(
        number,
        model.together or (model.manifest,),
        detector.engine,
        detector.device,
        detector.precision,
        detector.weights_bytes,
        detector.parts if isinstance(detector, Explainer) else 0,
    )


def _load_of(queue: DetectionQueue, lane: Lane) -> _LaneLoad:
    waiting, delay = queue.waiting(lane), queue.delay(lane)
    return waiting.images, waiting.size_bytes, waiting.oldest_seconds, delay.seconds, delay.each


@dataclass(eq=False, slots=True)
class _Work:
    """What a front has asked: its pixels, and how to judge them."""

    draws: bool
    admitted: bool
    pixels: Pixels
    views: int
    lane: Lane
    deadline: float | None
    batch_size: int
    sha: bytes
    trace: bytes


def _submit(model: LoadedModel, work: _Work) -> Future[Scored]:
    slots = model.queue.reserve(
        len(work.pixels),
        work.pixels.nbytes,
        work.views,
        work.lane,
        work.deadline,
        batch_size=work.batch_size or None,
        admitted=work.admitted,
    )
    if work.trace == wire.NO_TRACE:
        return slots.submit(work.pixels)
    with within(TraceContext.unpacked(work.trace)):
        return slots.submit(work.pixels)


def _draw(model: LoadedModel, work: _Work) -> Future[Any]:
    return model.queue.reserve_map(work.views, work.deadline).submit(work.pixels[0])


def _failed(error: D3Error) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


class _Front:
    """One connected front."""

    def __init__(self, server: EngineServer, connection: socket.socket) -> None:
        self._server = server
        self._connection = connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wire.BUFFER)
        self._name = "?"
        self._asked: dict[int, Future[Any]] = {}
        self._mine: dict[int, dict[Lane, list[int]]] = {}
        self._held: dict[int, tuple[LoadedModel, ExitStack]] = {}
        self._latest: AnnouncedPanel | None = None
        self._states: dict[int, State] = {}
        self._greeted = False
        self._unsent = bytearray()
        self._awake = False
        self._has_unsent: SimpleQueue[bool] = SimpleQueue()
        self._sending = threading.Lock()
        self._counting = threading.Lock()

    def start(self) -> None:
        """Begin to listen and to answer, on threads of its own."""
        threading.Thread(target=self._run, name="d3-front", daemon=True).start()
        threading.Thread(target=self._send_all, name="d3-answer", daemon=True).start()

    def close(self) -> None:
        """End the connection; its thread notices."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def tell_panel(
        self,
        told: AnnouncedPanel,
        models: Mapping[int, LoadedModel],
        hold: Callable[[LoadedModel], AbstractContextManager[None]],
    ) -> None:
        """Tell of the models that are loaded, unless they were told of last.

        Args:
            told: what is said.
            models: one of each detector, by the detector's number.
            hold: keeps a detector open until the front drops it.
        """
        if not self._greeted or self._latest == told:
            return
        for number, model in models.items():
            if number not in self._held:
                holding = ExitStack()
                holding.enter_context(hold(model))
                self._held[number] = model, holding
        self._latest = told
        self._send(wire.tell(Tell.PANEL, wire.encode(told)))

    def tell_none(self, why: str) -> None:
        """Tell that no model is loaded."""
        if self._greeted:
            self._latest = None
            self._send(wire.tell(Tell.NO_MODEL, wire.encode(why)))

    def tell_states(self, queues: Mapping[int, tuple[list[_LaneLoad], str | None]]) -> None:
        """Tell of the queues, by their detectors' numbers, if something has changed."""
        states: dict[int, State] = {}
        with self._counting:
            for number, (loads, trouble) in queues.items():
                mine = self._mine.get(number, _NOTHING)
                interactive, bulk = (
                    Load(*load, *mine[lane]) for load, lane in zip(loads, _LANES, strict=True)
                )
                states[number] = State(interactive, bulk, trouble)
        if self._greeted and states != self._states:
            self._states = states
            self._send(wire.tell(Tell.STATES, wire.encode(states)))

    def _run(self) -> None:
        try:
            self._greet()
            self._listen()
        except (OSError, ValueError) as error:
            _LOG.debug("%s left: %s", self._name, error)
        except Exception:  # noqa: BLE001  the others stay
            _LOG.exception("%s sent what could not be understood", self._name)
        finally:
            self._server.gone(self)
            self._has_unsent.put(False)
            for future in list(self._asked.values()):
                future.cancel()
            for _, holding in self._held.values():
                holding.close()

    def _greet(self) -> None:
        self._connection.settimeout(_HELLO_SECONDS)
        header = wire.received(self._connection, wire.ASK.size)
        kind, _, _, length, *_ = wire.ASK.unpack(header)
        if kind != Ask.HELLO:
            raise ValueError("a front says hello first")
        theirs = wire.decode(wire.received(self._connection, length), Hello)
        self._connection.settimeout(None)
        self._name = theirs.name
        ours = self._server.hello
        self._send(wire.tell(Tell.HELLO, wire.encode(ours)))
        if (theirs.version, theirs.protocol) != (ours.version, ours.protocol):
            raise ValueError(f"it is D3 {theirs.version}")
        self._greeted = True
        self._server.tell(self)

    def _listen(self) -> None:
        header = bytearray(wire.ASK.size)
        while True:
            wire.receive(self._connection, header)
            self._take(wire.ASK.unpack(header))

    def _take(self, header: tuple[Any, ...]) -> None:
        kind, lane, views, length, number, detector, images, side, most, *rest = header
        deadline, sha, trace = rest
        if kind in (Ask.SCORE, Ask.SCORE_ADMITTED, Ask.DRAW):
            if length != images * side * side * 3:
                raise ValueError("the pixels do not have the size that their header tells")
            pixels = wire.receive_pixels(self._connection, images, side)
            when = None if deadline == wire.NO_DEADLINE else deadline
            draws, admitted = kind == Ask.DRAW, kind == Ask.SCORE_ADMITTED
            work = _Work(draws, admitted, pixels, views, _LANES[lane], when, most, sha, trace)
            self._work(number, detector, work)
        elif kind == Ask.CANCEL:
            if (asked := self._asked.get(number)) is not None:
                asked.cancel()
        elif kind == Ask.DROP:
            self._mine.pop(detector, None)
            if (dropped := self._held.pop(detector, None)) is not None:
                self._server.slow.submit(dropped[1].close)  # it may wait for a forward pass
        elif kind == Ask.CALL:
            self._begin_call(number, wire.decode(wire.received(self._connection, length), Call))
        else:
            raise ValueError(f"there is no question {kind}")

    def _work(self, number: int, detector: int, work: _Work) -> None:
        """Begin to score an image, or to draw its heat map."""
        held = self._held.get(detector)
        try:
            if held is None:
                future = _failed(
                    EngineAway("The engine process does not have this model.", "Try again.")
                )
            else:
                future = (_draw if work.draws else self._score)(held[0], work)
        except D3Error as error:
            future = _failed(error)
        self._count(detector, work, 1)
        self._asked[number] = future
        future.add_done_callback(partial(self._answer, number, detector, work))

    def _score(self, model: LoadedModel, work: _Work) -> Future[Any]:
        submit = partial(_submit, model, work)
        if work.sha == wire.NO_SHA:
            return submit()
        detector = model.queue.detector
        key = CacheKey(work.sha.hex(), model.key, work.views, detector.engine, detector.precision)
        return start(self._server.flights.score(key, work.lane, submit))

    def _answer(self, number: int, detector: int, work: _Work, done: Future[Any]) -> None:
        self._asked.pop(number, None)
        self._count(detector, work, -1)
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            self._fail(number, error)
            return
        result = done.result()
        if isinstance(result, Scored):
            logits = np.ascontiguousarray(result.logits, np.float64)
            frame = wire.tell(
                Tell.SCORED,
                logits.tobytes(),
                number=number,
                known=result.known,
                images=len(logits),
                seconds=result.seconds,
                waited=result.waited,
            )
        else:
            frame = wire.tell(Tell.DREW, result.tobytes(), number=number, images=len(result))
        self._send(frame)

    def _begin_call(self, number: int, call: Call) -> None:
        method = self._server.methods.get(call.method)
        if method is None:
            self._fail(number, RequestInvalid(f"The engine process has no {call.method!r}."))
        elif call.method in self._server.quick:
            self._call(number, method, call)
        else:
            self._server.slow.submit(self._call, number, method, call)

    def _call(self, number: int, method: Method, call: Call) -> None:
        try:
            answer = wire.encode(method(*call.arguments))
        except Exception as error:  # noqa: BLE001  the front raises it
            if not isinstance(error, D3Error):
                _LOG.exception("%s, which %s asked for, failed", call.method, self._name)
            self._fail(number, error)
        else:
            self._send(wire.tell(Tell.ANSWERED, answer, number=number))

    def _fail(self, number: int, error: BaseException) -> None:
        self._send(wire.tell(Tell.FAILED, wire.encode(Failed.of(error)), number=number))

    def _count(self, detector: int, work: _Work, sign: int) -> None:
        images = sign * len(work.pixels)
        with self._counting:
            lanes = self._mine.setdefault(detector, {lane: [0, 0, 0] for lane in _LANES})
            mine = lanes[work.lane]
            mine[0] += images
            mine[1] += sign * work.pixels.nbytes
            mine[2] += images * (1 + work.views)

    def _send(self, frame: bytes) -> None:
        """Have it sent, without ever waiting: the answers of a forward pass leave together."""
        with self._sending:
            self._unsent += frame
            if len(self._unsent) > _MOST_UNSENT:
                self.close()  # it reads nothing
                return
            if self._awake:
                return
            self._awake = True
        self._has_unsent.put(True)

    def _send_all(self) -> None:
        """Send what there is to send, on a thread of its own: others do not wait for this front."""
        with self._connection as connection, suppress(OSError):  # its other thread notices
            while self._has_unsent.get():
                with self._sending:
                    frames, self._unsent, self._awake = self._unsent, bytearray(), False
                connection.sendall(frames)
