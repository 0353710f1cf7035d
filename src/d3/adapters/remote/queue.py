"""The queue of a detector that engine processes run, one for each device.

Slots are counted here, against what the engine processes last told of their queues, so that
reserving never waits. Their own queues decide: what they refuse ends with the same error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from d3.adapters.remote import wire
from d3.adapters.remote.link import Asked, EngineLink
from d3.adapters.remote.wire import Announced, AnnouncedPanel, Ask, Load, State
from d3.domain.errors import EngineAway, ExplanationUnavailable, ModelNotLoaded, Overloaded
from d3.domain.heatmaps import Map
from d3.domain.images import Pixels
from d3.domain.models import Manifest
from d3.domain.ports.clock import Clock
from d3.domain.ports.detector import Logits
from d3.domain.ports.queue import Delay, Lane, QueueEvents, Scored, Waiting
from d3.domain.ports.tracing import current

_CLOSE_SECONDS = 120.0
_MOST_ATTEMPTS = 2
_NO_STATE = State()


@dataclass(frozen=True, slots=True)
class RemoteDetector:
    """What is known of a detector in an engine process; it scores through its queue alone."""

    engine: str
    device: str
    precision: str
    weights_bytes: int

    def score(self, pixels: Pixels, views: int) -> Logits:
        raise NotImplementedError("a detector of another process is asked through its queue")

    def close(self) -> None:
        """The engine process closes it when no front uses it any more."""


@dataclass(frozen=True, slots=True)
class RemoteExplainer(RemoteDetector):
    """One that can draw heat maps."""

    parts: int

    def explain_parts(self, pixels: Pixels, views: int, start: int, stop: int) -> Map:
        raise NotImplementedError("a detector of another process is asked through its queue")

    def heat(self, logits: Map) -> Map:
        raise NotImplementedError("a detector of another process is asked through its queue")


def detector_of(model: Announced) -> RemoteDetector:
    """What an engine process tells of its detector."""
    facts = (model.engine, model.device, model.precision, model.weights_bytes)
    return RemoteExplainer(*facts, model.parts) if model.parts else RemoteDetector(*facts)


@dataclass(eq=False, slots=True)
class _Mine:
    """What this process has reserved or submitted in a lane and knows no answer of."""

    images: int = 0
    size_bytes: int = 0
    encodings: int = 0

    def add(self, images: int, size_bytes: int, encodings: int) -> None:
        self.images += images
        self.size_bytes += size_bytes
        self.encodings += encodings


def ended_meanwhile() -> EngineAway:
    """The error of an image for which there is no other engine process with the same models."""
    return EngineAway("The engine process ended while it judged this image.", "Try again.")


@dataclass(eq=False, slots=True)
class Seat:
    """A detector in one engine process.

    Attributes:
        link: to the process.
        number: of the detector there; None while the process is away.
        mine: what this process has there, by lane.
    """

    link: EngineLink
    number: int | None
    mine: dict[Lane, _Mine] = field(default_factory=lambda: {lane: _Mine() for lane in Lane})

    @property
    def state(self) -> State:
        """Of its queue, as last told."""
        known = self.link.states
        return _NO_STATE if self.number is None else known.get(self.number, _NO_STATE)

    def load(self, lane: Lane) -> Load:
        """What waits there, as last told."""
        state = self.state
        return state.interactive if lane is Lane.INTERACTIVE else state.bulk

    def waiting(self, lane: Lane) -> tuple[int, int]:
        """Images that wait and their memory: others' as last told, one's own up to now."""
        load, mine = self.load(lane), self.mine[lane]
        images = max(0, load.images - load.own_images + mine.images)
        return images, max(0, load.size_bytes - load.own_bytes + mine.size_bytes)

    def seconds(self, lane: Lane, encodings: int) -> float:
        """Estimated seconds until so many encodings more would be done."""
        state, mine = self.state, self.mine
        unsent = mine[Lane.INTERACTIVE].encodings + mine[Lane.BULK].encodings
        unsent -= state.interactive.own_encodings + state.bulk.own_encodings
        load = state.interactive if lane is Lane.INTERACTIVE else state.bulk
        return load.seconds + max(0, unsent + encodings - 2) * load.each


class RemoteQueue:
    """Implements ``DetectionQueue``.

    Args:
        told: what the first engine process has announced of the detector.
        link: to this process.
        images: most that wait in a lane of one engine process; see ``D3_QUEUE_IMAGES``.
        size_bytes: likewise; see ``D3_QUEUE_BYTES``.
        clock: for deadlines; the same for all processes of a machine.
        events: is told of images that are refused; the engine process counts the others.
    """

    def __init__(  # noqa: PLR0917  made in one place
        self,
        told: Announced,
        link: EngineLink,
        images: int,
        size_bytes: int,
        clock: Clock,
        events: QueueEvents | None = None,
    ) -> None:
        self._manifests: tuple[Manifest, ...] = told.manifests
        self._detector = detector_of(told)
        self._images = images
        self._size_bytes = size_bytes
        self._clock = clock
        self._events = events
        self._seats = [Seat(link, told.number)]
        self._lock = threading.Condition()
        self._closed = False

    @property
    def detector(self) -> RemoteDetector:
        """What is known of it."""
        return self._detector

    @property
    def trouble(self) -> str | None:
        """Of the engine processes, if none can answer."""
        troubles = [seat.link.trouble or seat.state.trouble for seat in self._seats]
        return troubles[0] if all(troubles) else None

    def take_seat(self, link: EngineLink, told: AnnouncedPanel) -> bool:
        """Use an engine process that has loaded the same; says whether it has."""
        same = (
            one
            for one in told.detectors
            if one.manifests == self._manifests and detector_of(one) == self._detector
        )
        if (found := next(same, None)) is None:
            return False
        with self._lock:
            for seat in self._seats:
                if seat.link is link:
                    seat.number = found.number
                    break
            else:
                self._seats.append(Seat(link, found.number))
        return True

    def leave_seat(self, link: EngineLink) -> None:
        """An engine process has ended, or has loaded something else."""
        with self._lock:
            for seat in self._seats:
                if seat.link is link:
                    seat.number = None

    def scores(self, manifests: tuple[Manifest, ...]) -> bool:
        """Whether these are its models."""
        return manifests == self._manifests

    def again(self, asked: Asked) -> None:
        """Ask once more for what an engine process that ended has not answered."""
        seat = self._best(asked.lane)
        if seat is None or asked.attempts >= _MOST_ATTEMPTS:
            asked.fail(ended_meanwhile())
            return
        asked.number = seat.number or 0
        seat.link.submit(asked)

    def waiting(self, lane: Lane) -> Waiting:
        """What waits in a lane of all engine processes."""
        with self._lock:
            pairs = [seat.waiting(lane) for seat in self._seats]
            oldest = max(seat.load(lane).oldest_seconds for seat in self._seats)
        images = sum(one for one, _ in pairs)
        return Waiting(images, sum(one for _, one in pairs), oldest if images else 0.0)

    def delay(self, lane: Lane) -> Delay:
        """How long one more image would take."""
        with self._lock:
            seat = self._best(lane)
            return Delay() if seat is None else Delay(seat.seconds(lane, 2), seat.load(lane).each)

    def reserve(
        self,
        images: int,
        size_bytes: int,
        views: int,
        lane: Lane = Lane.INTERACTIVE,
        deadline: float | None = None,
        *,
        batch_size: int | None = None,
        admitted: bool = False,
    ) -> RemoteSlots:
        encodings = images * (1 + views)
        with self._lock:
            seat = self._admit(images, size_bytes, encodings, lane, deadline, admitted=admitted)
        return RemoteSlots(
            self, seat, images, size_bytes, views, lane, _time(deadline), batch_size or 0
        )

    def reserve_map(self, views: int, deadline: float | None = None) -> RemoteMapSlots:
        """Take slots for a heat map."""
        if not isinstance(self._detector, RemoteExplainer):
            raise ExplanationUnavailable(
                f"The engine {self._detector.engine!r} cannot explain scores.",
                "Set D3_ENGINE=torch, or leave out explain.",
            )
        parts = self._detector.parts
        with self._lock:
            seat = self._admit(parts, 0, parts * (1 + views), Lane.BULK, deadline)
        return RemoteMapSlots(self, seat, parts, views, _time(deadline))

    def submit(
        self,
        pixels: Pixels,
        views: int,
        lane: Lane = Lane.INTERACTIVE,
        deadline: float | None = None,
    ) -> Future[Scored]:
        """Ask for the logits of uint8 pixels (n, S, S, 3), n >= 1."""
        return self.reserve(len(pixels), pixels.nbytes, views, lane, deadline).submit(pixels)

    def warm_up(self, image_size: int) -> None:
        """See that it answers; the engine process has timed its passes by itself."""
        self.submit(np.zeros((1, image_size, image_size, 3), np.uint8), 1).result()

    def close(self) -> None:
        """Wait for what was submitted, then tell the engine processes that it is not needed."""
        with self._lock:
            closed, self._closed = self._closed, True
            if not any(seat.link.is_mine for seat in self._seats):
                self._lock.wait_for(self._is_empty, _CLOSE_SECONDS)
            seats = [(seat.link, seat.number) for seat in self._seats]
        for link, number in seats:
            if number is not None and not closed:
                link.post(wire.ask(Ask.DROP, model=number))

    def ask(self, seat: Seat, asked: Asked, give_back: Callable[[], None]) -> Future[Any]:
        """Send an image to an engine process; its slots are given back when it is answered."""
        with self._lock:
            if seat.number is None:  # it ended while the image was decoded
                seat = self._best(asked.lane) or seat
            asked.number = seat.number or 0
        asked.future.add_done_callback(lambda _: give_back())
        seat.link.submit(asked)
        return asked.future

    def give_back(
        self, seat: Seat, lane: Lane, images: int, size_bytes: int, encodings: int
    ) -> None:
        """Slots are free again."""
        with self._lock:
            seat.mine[lane].add(-images, -size_bytes, -encodings)
            if self._closed:
                self._lock.notify_all()

    def new(self, kind: Ask, pixels: Pixels, views: int, lane: Lane, deadline: float) -> Asked:
        """An image to be asked about."""
        whole = np.ascontiguousarray(pixels)
        asked = Asked(kind, self._manifests, whole, views, lane, deadline)
        if (trace := current.get()) is not None:
            asked.trace = trace.packed
        return asked

    def _is_empty(self) -> bool:
        return not any(seat.mine[lane].images for seat in self._seats for lane in Lane)

    def _best(self, lane: Lane) -> Seat | None:
        """The engine process that would be done first; None if all are away."""
        there = [seat for seat in self._seats if seat.number is not None]
        if len(there) <= 1:
            return there[0] if there else None
        return min(there, key=lambda seat: (seat.seconds(lane, 2), seat.waiting(lane)))

    def _admit(
        self,
        images: int,
        size_bytes: int,
        encodings: int,
        lane: Lane,
        deadline: float | None,
        *,
        admitted: bool = False,
    ) -> Seat:
        """Take slots.

        Raises:
            Overloaded: the lane is full, or they cannot be judged in time.
            ModelNotLoaded: the queue is closed.
            EngineAway: no engine process is there.
        """
        if self._closed:
            raise ModelNotLoaded("The model has been unloaded.", "Load it again.")
        seat = self._best(lane)
        if seat is None:
            raise self._seats[0].link.away()
        if not admitted:
            try:
                self._check(seat, images, size_bytes, encodings, lane, deadline)
            except Overloaded:
                if self._events is not None:
                    self._events.dropped(lane, "rejected", images)
                raise
        seat.mine[lane].add(images, size_bytes, encodings)
        return seat

    def _check(  # noqa: PLR0917  as above
        self,
        seat: Seat,
        images: int,
        size_bytes: int,
        encodings: int,
        lane: Lane,
        deadline: float | None,
    ) -> None:
        """Check that there are slots, and time.

        Raises:
            Overloaded: there are not.
        """
        there, there_bytes = seat.waiting(lane)
        over = there + images - self._images
        if there and (over > 0 or there_bytes + size_bytes > self._size_bytes):
            raise Overloaded(
                "Too many images are waiting to be judged.",
                "Try again in a moment, or send fewer at once.",
                retry_after=max(images, over) * encodings / images * seat.load(lane).each,
            )
        if there and deadline is not None and deadline > self._clock.monotonic():
            late = self._clock.monotonic() + seat.seconds(lane, encodings) - deadline
            if late > 0:
                raise Overloaded(
                    "Too many images are waiting to be judged before the request's time limit.",
                    "Try again in a moment, or send fewer at once.",
                    retry_after=late,
                )


class RemoteSlots:
    """Implements ``Slots``."""

    def __init__(  # noqa: PLR0917  what was reserved
        self,
        queue: RemoteQueue,
        seat: Seat,
        images: int,
        size_bytes: int,
        views: int,
        lane: Lane,
        deadline: float,
        batch_size: int,
    ) -> None:
        self._queue = queue
        self._seat = seat
        self._left, self._size_bytes = images, size_bytes
        self._views = views
        self._lane = lane
        self._deadline = deadline
        self._batch_size = batch_size
        # The engine process may know better and refuse an image, but no request loses some of its
        # images for want of slots.
        self._kind = Ask.SCORE_ADMITTED if images > 1 else Ask.SCORE
        self._lock = threading.Lock()

    def submit(self, pixels: Pixels, image_sha256: str | None = None) -> Future[Scored]:
        give_back = self._use(len(pixels))
        asked = self._queue.new(self._kind, pixels, self._views, self._lane, self._deadline)
        asked.batch_size = self._batch_size
        if image_sha256 is not None:
            asked.sha = bytes.fromhex(image_sha256)
        return self._queue.ask(self._seat, asked, give_back)

    def release(self, images: int = 1) -> None:
        self._use(images)()

    def _use(self, images: int) -> Callable[[], None]:
        """Take slots off what is left; gives what returns them."""
        with self._lock:
            if not 0 < images <= self._left:
                raise ValueError(f"{self._left} slots are left, not {images}")
            size_bytes = self._size_bytes * images // self._left
            self._left -= images
            self._size_bytes -= size_bytes
        encodings = images * (1 + self._views)
        return lambda: self._queue.give_back(self._seat, self._lane, images, size_bytes, encodings)


class RemoteMapSlots:
    """Implements ``MapSlots``."""

    def __init__(
        self, queue: RemoteQueue, seat: Seat, parts: int, views: int, deadline: float
    ) -> None:
        self._queue = queue
        self._seat = seat
        self._parts = parts
        self._views = views
        self._deadline = deadline

    def submit(self, pixels: Pixels) -> Future[Map]:
        asked = self._queue.new(Ask.DRAW, pixels[None], self._views, Lane.BULK, self._deadline)
        return self._queue.ask(self._seat, asked, self.release)

    def release(self) -> None:
        encodings = self._parts * (1 + self._views)
        self._queue.give_back(self._seat, Lane.BULK, self._parts, 0, encodings)


def _time(deadline: float | None) -> float:
    return wire.NO_DEADLINE if deadline is None else deadline
