"""Submissions that wait for the detector, slots reserved for them, and the passes made of them."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from d3.domain.heatmaps import Map
from d3.domain.images import Pixels
from d3.domain.ports.queue import Lane, Scored
from d3.domain.ports.tracing import TraceContext


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """A request for slots in the queue.

    Attributes:
        images: 1 or more.
        size_bytes: memory of all images while they wait.
        views: 1 to 16.
        lane: who goes first.
        deadline: after which the result is not needed; None for never.
        apart: whether these are parts of a heat map, which share a pass only with each other.
        batch_size: largest pass that they may be part of, in images; None for the queue's limit.
        admitted: whether another queue has admitted them, so that they are not refused.
    """

    images: int
    size_bytes: int
    views: int = 1
    lane: Lane = Lane.INTERACTIVE
    deadline: float | None = None
    apart: bool = False
    batch_size: int | None = None
    admitted: bool = False

    @property
    def encodings(self) -> int:
        """The cost in encodings: one for each image and one for each view of it."""
        return self.images * (1 + self.views)


def _always() -> bool:
    return True


@dataclass(eq=False, slots=True, weakref_slot=True)
class Submission:
    """Images submitted together. They may be split over several passes.

    Attributes:
        images: 1 or more.
        views: of each.
        lane: who goes first.
        size_bytes: of all.
        deadline: after which the result is not needed; None for never.
        since: when it was submitted.
        token: belongs to the queue.
        apart: whether these are parts of a heat map, which share a pass only with each other.
        batch_size: largest pass that it may be part of, in images; None for the queue's limit.
        claim: called once, before its first pass; says whether it is still wanted.
        trace: where the work lies; None if it is not traced.
        taken: images that are in passes already.
        gone: answered, or not wanted any more.
    """

    images: int
    views: int
    lane: Lane
    size_bytes: int
    deadline: float | None
    since: float
    token: Any = None
    apart: bool = False
    batch_size: int | None = None
    claim: Callable[[], bool] = _always
    trace: TraceContext | None = None
    taken: int = 0
    claimed: bool = False
    gone: bool = False

    @property
    def unit(self) -> int:
        """Encodings of one image: one for itself and one for each view."""
        return 1 + self.views

    @property
    def left(self) -> int:
        """Images that wait for a pass."""
        return 0 if self.gone else self.images - self.taken


@dataclass(frozen=True, slots=True)
class Part:
    """Images ``start`` to ``stop`` of an entry."""

    entry: Submission
    start: int
    stop: int

    @property
    def images(self) -> int:
        """How many."""
        return self.stop - self.start


@dataclass(eq=False, slots=True)
class Batch:
    """One forward pass."""

    views: int
    parts: list[Part] = field(default_factory=list)
    earliest: float = math.inf
    most: float = math.inf

    @property
    def images(self) -> int:
        """How many."""
        return sum(part.images for part in self.parts)

    @property
    def encodings(self) -> int:
        """The cost in encodings."""
        return self.images * (1 + self.views)

    @property
    def apart(self) -> bool:
        """Whether this pass draws heat maps."""
        return bool(self.parts) and self.parts[0].entry.apart

    def takes(self, entry: Submission) -> bool:
        """Whether images of this submission may join the pass."""
        mixed = self.parts and self.parts[0].entry is not entry and (entry.apart or self.apart)
        return entry.views == self.views and not mixed

    def add(self, entry: Submission, images: int) -> None:
        """Add the next images of a submission."""
        self.parts.append(Part(entry, entry.taken, entry.taken + images))
        self._heed(entry)

    def halves(self) -> tuple[Batch, Batch]:
        """The pass split in two; it must have two images or more."""
        first, second = Batch(self.views), Batch(self.views)
        room = self.images // 2
        for part in self.parts:
            cut = min(part.stop, part.start + room)
            room -= cut - part.start
            if part.start < cut:
                first.parts.append(Part(part.entry, part.start, cut))
            if cut < part.stop:
                second.parts.append(Part(part.entry, cut, part.stop))
        for half in (first, second):
            for part in half.parts:
                half._heed(part.entry)  # noqa: SLF001  its own kind
        return first, second

    def forget_the_gone(self) -> None:
        """Remove submissions that are not wanted any more."""
        self.parts = [part for part in self.parts if not part.entry.gone]

    def _heed(self, entry: Submission) -> None:
        if entry.deadline is not None:
            self.earliest = min(self.earliest, entry.deadline)
        if entry.batch_size is not None:
            self.most = min(self.most, entry.batch_size)


@dataclass(slots=True)
class Backlog:
    """Submissions of one lane in order of arrival, and counts of reserved slots."""

    entries: deque[Submission] = field(default_factory=deque)
    images: int = 0
    size_bytes: int = 0
    encodings: int = 0
    promised_images: int = 0
    promised_bytes: int = 0
    promised_encodings: int = 0

    @property
    def all_images(self) -> int:
        """Images that wait, and reserved slots."""
        return self.images + self.promised_images

    @property
    def all_encodings(self) -> int:
        """Their cost in encodings."""
        return self.encodings + self.promised_encodings

    @property
    def head(self) -> Submission | None:
        """The first submission that waits."""
        while self.entries and not self.entries[0].left:
            self.entries.popleft()
        return self.entries[0] if self.entries else None

    def count(self, entry: Submission, images: int, sign: int) -> None:
        """Add (1) or subtract (-1) so many images of a submission."""
        before = entry.size_bytes * (entry.images - entry.taken - images) // entry.images
        after = entry.size_bytes * (entry.images - entry.taken) // entry.images
        self.images += sign * images
        self.size_bytes += sign * (after - before)
        self.encodings += sign * images * entry.unit

    def promise(self, want: SlotRequest, sign: int) -> None:
        """Add (1) or subtract (-1) reserved slots."""
        self.promised_images += sign * want.images
        self.promised_bytes += sign * want.size_bytes
        self.promised_encodings += sign * want.encodings


_NOTHING = SlotRequest(0, 0, 1, Lane.INTERACTIVE, None)


@dataclass(eq=False, slots=True)
class ReservedSlots:
    """Implements ``Slots``."""

    left: SlotRequest
    enter: Callable[[Pixels, SlotRequest], Future[Scored]]
    withdraw: Callable[[SlotRequest], None]
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def submit(self, pixels: Pixels, image_sha256: str | None = None) -> Future[Scored]:  # noqa: ARG002  one process shares it
        return self.enter(pixels, self._use(len(pixels)))

    def release(self, images: int = 1) -> None:
        self.withdraw(self._use(images))

    def _use(self, images: int) -> SlotRequest:
        """Take slots off what is left."""
        with self._lock:
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
        return self.enter(pixels, self.want)

    def release(self) -> None:
        self.withdraw(self.want)


class NullEvents:
    """Implements ``QueueEvents`` where nobody listens."""

    def scored(self, images: int, fill: float, seconds: float) -> None: ...

    def dropped(self, lane: Lane, reason: str, images: int) -> None: ...

    def out_of_memory(self) -> None: ...

    def restarted(self) -> None: ...
