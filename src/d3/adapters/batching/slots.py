"""Slots in the queue, taken before the pixels are there; and events that nobody listens to."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace

from d3.adapters.batching.backlog import SlotRequest
from d3.domain.heatmaps import Map
from d3.domain.images import Pixels
from d3.domain.ports.queue import Lane, Scored

_NOTHING = SlotRequest(0, 0, 1, Lane.INTERACTIVE, None)


@dataclass(eq=False, slots=True)
class ReservedSlots:
    """Implements ``Slots``."""

    left: SlotRequest
    enter: Callable[[Pixels, SlotRequest], Future[Scored]]
    withdraw: Callable[[SlotRequest], None]

    def submit(self, pixels: Pixels) -> Future[Scored]:
        """Use as many slots as there are pixels."""
        return self.enter(pixels, self._use(len(pixels)))

    def release(self, images: int = 1) -> None:
        """Let so many slots go unused."""
        self.withdraw(self._use(images))

    def _use(self, images: int) -> SlotRequest:
        """Take slots off what is left."""
        left = self.left
        if images == left.images > 0:
            self.left = _NOTHING
            return left
        if not 0 < images <= left.images:
            raise ValueError(f"{left.images} slots are left, not {images}")
        size_bytes = left.size_bytes * images // left.images
        self.left = replace(
            left, images=left.images - images, size_bytes=left.size_bytes - size_bytes
        )
        return replace(left, images=images, size_bytes=size_bytes)


@dataclass(eq=False, slots=True)
class ReservedMapSlots:
    """Implements ``MapSlots``."""

    want: SlotRequest
    enter: Callable[[Pixels, SlotRequest], Future[Map]]
    withdraw: Callable[[SlotRequest], None]

    def submit(self, pixels: Pixels) -> Future[Map]:
        """Use them."""
        return self.enter(pixels, self.want)

    def release(self) -> None:
        """Let them go unused."""
        self.withdraw(self.want)


class NullEvents:
    """Implements ``QueueEvents``, and hears nothing."""

    def scored(self, images: int, fill: float, seconds: float) -> None:
        """Not interested."""

    def dropped(self, lane: Lane, reason: str, images: int) -> None:
        """Not interested."""

    def out_of_memory(self) -> None:
        """Not interested."""

    def restarted(self) -> None:
        """Not interested."""
