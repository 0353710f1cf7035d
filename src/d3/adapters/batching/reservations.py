"""Places taken before the pixels are there, and whoever does not want to hear what happens."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace

from d3.adapters.batching.lines import Want
from d3.domain.heatmaps import Map
from d3.domain.images import Pixels
from d3.domain.ports_queue import Lane, Scored

_NOTHING = Want(0, 0, 1, Lane.INTERACTIVE, None)


@dataclass(eq=False, slots=True)
class Places:
    """Fills :class:`d3.domain.ports_queue.Reservation`."""

    left: Want
    enter: Callable[[Pixels, Want], Future[Scored]]
    withdraw: Callable[[Want], None]

    def submit(self, pixels: Pixels) -> Future[Scored]:
        """Use as many places as there are pixels."""
        return self.enter(pixels, self._use(len(pixels)))

    def give_up(self, images: int = 1) -> None:
        """Let so many places go unused."""
        self.withdraw(self._use(images))

    def _use(self, images: int) -> Want:
        """Take places off what is left."""
        left = self.left
        if images == left.images > 0:
            self.left = _NOTHING
            return left
        if not 0 < images <= left.images:
            raise ValueError(f"{left.images} places are left, not {images}")
        size_bytes = left.size_bytes * images // left.images
        self.left = replace(
            left, images=left.images - images, size_bytes=left.size_bytes - size_bytes
        )
        return replace(left, images=images, size_bytes=size_bytes)


@dataclass(eq=False, slots=True)
class MapPlaces:
    """Fills :class:`d3.domain.ports_queue.MapReservation`."""

    want: Want
    enter: Callable[[Pixels, Want], Future[Map]]
    withdraw: Callable[[Want], None]

    def submit(self, pixels: Pixels) -> Future[Map]:
        """Use them."""
        return self.enter(pixels, self.want)

    def give_up(self) -> None:
        """Let them go unused."""
        self.withdraw(self.want)


class Nobody:
    """Fills :class:`d3.domain.ports_queue.QueueEvents`, and hears nothing."""

    def scored(self, images: int, fill: float, seconds: float) -> None:
        """Not interested."""

    def dropped(self, lane: Lane, reason: str, images: int) -> None:
        """Not interested."""

    def out_of_memory(self) -> None:
        """Not interested."""

    def restarted(self) -> None:
        """Not interested."""
