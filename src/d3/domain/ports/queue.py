"""What stands in front of a detector: lanes, reservations, deadlines, and the answers."""

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
    """Who goes first: somebody waits for an interactive image, bulk has a guaranteed share."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Scored:
    """What a queue answers.

    Attributes:
        logits: raw logits (n, views).
        seconds: each image's share of the time on the device.
        waited: seconds from submission until the device began.
    """

    logits: Logits
    seconds: float
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in one lane.

    Attributes:
        images: submitted, and reserved for.
        size_bytes: they were said to take.
        oldest_seconds: since the first of those that wait was submitted; 0 when none does.
    """

    images: int = 0
    size_bytes: int = 0
    oldest_seconds: float = 0.0


@runtime_checkable
class Slots(Protocol):
    """Slots in a queue, taken before the pixels are there. Submit or release every one."""

    def submit(self, pixels: Pixels) -> Future[Scored]:
        """Use as many slots as there are pixels (n, S, S, 3); see :class:`DetectionQueue`.

        A future that is cancelled before its forward pass costs none.
        """
        ...

    def release(self, images: int = 1) -> None:
        """Let so many slots go unused."""
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
        """Let them go unused."""
        ...


@runtime_checkable
class DetectionQueue(Protocol):
    """Owns a detector and takes turns at it. Safe to call from many threads.

    Its futures raise :class:`d3.domain.errors.D3Error`: the detector's own, or
    :class:`d3.domain.errors.DeadlineExceeded`.
    """

    @property
    def detector(self) -> Detector:
        """The one it owns."""
        ...

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
    ) -> Slots:
        """Take slots for images that are still to be decoded.

        Args:
            images: 1 or more.
            size_bytes: that all of them keep in memory while they wait.
            views: 1 to 16.
            lane: who goes first.
            deadline: on the monotonic clock, after which nobody waits for them.
            batch_size: images of any pass that they are in, at most; None for the queue's own
                bound, which is never exceeded.

        Raises:
            Overloaded: the lane is full, or they cannot be judged by then.
            ModelNotLoaded: the queue was closed.
        """
        ...

    def reserve_map(self, views: int, deadline: float | None = None) -> MapSlots:
        """Take slots for a heat map, in the bulk lane: it costs as much as many images.

        The detector has to be a :class:`d3.domain.ports.detector.Explainer`.

        Raises:
            ExplanationUnavailable: it takes longer, even on an idle device.
            Overloaded: the lane is full, or the map cannot be drawn by then.
            ModelNotLoaded: the queue was closed.
        """
        ...

    def submit(
        self,
        pixels: Pixels,
        views: int,
        lane: Lane = Lane.INTERACTIVE,
        deadline: float | None = None,
    ) -> Future[Scored]:
        """Ask for the logits of uint8 pixels (n, S, S, 3), n >= 1; a slots used at once."""
        ...

    def warm_up(self, image_size: int) -> None:
        """Time a few forward passes of S x S pixels, so that costs are known before anybody waits.

        Raises:
            D3Error: the detector cannot score a single image.
        """
        ...

    def waiting(self, lane: Lane) -> Waiting:
        """What waits in a lane."""
        ...

    def close(self) -> None:
        """Finish what was submitted, then close the detector."""
        ...


class QueueEvents(Protocol):
    """Hears what happens in a queue, for metrics; called from its threads, so it may not wait."""

    def scored(self, images: int, fill: float, seconds: float) -> None:
        """A forward pass ended well; ``fill`` is in (0, 1], of the largest batch."""
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
