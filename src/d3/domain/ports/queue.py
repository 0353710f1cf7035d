"""The queue in front of a detector: lanes, slots, deadlines, and answers."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from d3.domain.images import Pixels
from d3.domain.ports.detector import Detector, Logits

if TYPE_CHECKING:
    from d3.domain.heatmaps import Map


class Lane(StrEnum):
    """Priority: interactive images go first, bulk has a guaranteed share."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Scored:
    """What a queue answers.

    Attributes:
        logits: raw logits (n, views).
        seconds: each image's share of the time on the device.
        waited: seconds from submission until the device began.
        known: whether the logits were known from an earlier pass.
    """

    logits: Logits
    seconds: float
    waited: float = 0.0
    known: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in one lane.

    Attributes:
        images: submitted or reserved.
        size_bytes: that they take, as reserved.
        oldest_seconds: the age of the oldest submission; 0 if there is none.
    """

    images: int = 0
    size_bytes: int = 0
    oldest_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Delay:
    """How long an image would take that was submitted now.

    Attributes:
        seconds: estimated until its logits are there, with one view; 0 on an idle device.
        each: estimated seconds more for each further encoding; 0 while that is unknown.
    """

    seconds: float = 0.0
    each: float = 0.0


@runtime_checkable
class Slots(Protocol):
    """Slots in a queue, reserved before the images are decoded. Submit or release each of them."""

    def submit(self, pixels: Pixels, image_sha256: str | None = None) -> Future[Scored]:
        """Use as many slots as there are pixels (n, S, S, 3); see :class:`DetectionQueue`.

        A future that is cancelled before its forward pass costs none.

        Args:
            pixels: uint8 RGB.
            image_sha256: of a single image. A queue that many processes share scores it once for
                all of them.
        """
        ...

    def release(self, images: int = 1) -> None:
        """Give so many slots back unused."""
        ...


@runtime_checkable
class MapSlots(Protocol):
    """Slots for the parts of one heat map. Submit or release them, once."""

    def submit(self, pixels: Pixels) -> Future[Map]:
        """Ask for the raw logits (grid, grid) of the patches of uint8 RGB pixels (S, S, 3).

        Cancelling the future spares every part that has not begun.
        """
        ...

    def release(self) -> None:
        """Give them back unused."""
        ...


@runtime_checkable
class DetectionQueue(Protocol):
    """Owns a detector and batches its work. Safe to call from many threads.

    Its futures raise :class:`d3.domain.errors.D3Error`: the detector's own, or
    :class:`d3.domain.errors.DeadlineExceeded`.
    """

    @property
    def detector(self) -> Detector: ...

    @property
    def trouble(self) -> str | None:
        """Why the detector may not answer, as of the last attempt; None while it does."""
        ...

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
    ) -> Slots:
        """Reserve slots for images that are still to be decoded.

        Args:
            images: 1 or more.
            size_bytes: the memory that all of them take while they wait.
            views: 1 to 16.
            lane: their priority.
            deadline: on the monotonic clock; images that are later are dropped.
            batch_size: the most images of a pass that they are in; None for the queue's own limit,
                which is never exceeded.
            admitted: whether another queue has admitted them, so that none is refused here.

        Raises:
            Overloaded: the lane is full, or they cannot be judged in time.
            ModelNotLoaded: the queue is closed.
        """
        ...

    def reserve_map(self, views: int, deadline: float | None = None) -> MapSlots:
        """Reserve slots for a heat map, in the bulk lane: it costs as much as many images.

        The detector has to be a :class:`d3.domain.ports.detector.Explainer`.

        Raises:
            ExplanationUnavailable: it takes longer, even on an idle device.
            Overloaded: the lane is full, or the map cannot be drawn in time.
            ModelNotLoaded: the queue is closed.
        """
        ...

    def submit(
        self,
        pixels: Pixels,
        views: int,
        lane: Lane = Lane.INTERACTIVE,
        deadline: float | None = None,
    ) -> Future[Scored]:
        """Score uint8 pixels (n, S, S, 3), n >= 1; slots are reserved and used at once."""
        ...

    def warm_up(self, image_size: int) -> None:
        """Time a few forward passes of S x S pixels, so that costs are known beforehand.

        Raises:
            D3Error: the detector cannot score a single image.
        """
        ...

    def waiting(self, lane: Lane) -> Waiting: ...

    def delay(self, lane: Lane) -> Delay: ...

    def close(self) -> None:
        """Finish what was submitted, then close the detector."""
        ...


class QueueEvents(Protocol):
    """Gets a queue's events, for metrics; called from its threads, so it must not block."""

    def scored(self, images: int, fill: float, seconds: float) -> None:
        """A forward pass succeeded; ``fill`` is in (0, 1], of the largest batch."""
        ...

    def dropped(self, lane: Lane, reason: str, images: int) -> None:
        """Images left without an answer: ``rejected``, ``expired``, ``cancelled`` or ``failed``."""
        ...

    def out_of_memory(self) -> None:
        """A batch did not fit the device."""
        ...

    def restarted(self) -> None:
        """The detector's thread died and was replaced."""
        ...
