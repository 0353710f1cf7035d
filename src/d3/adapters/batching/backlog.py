"""What waits for the detector: entries in lines, and the forward passes they are cut into."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from d3.domain.ports.queue import Lane


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """What slots are asked for.

    Attributes:
        images: 1 or more.
        size_bytes: that all of them keep while they wait.
        views: 1 to 16.
        lane: who goes first.
        deadline: after which nobody waits; None for never.
        apart: whether the images are parts of a heat map, which share a pass with nobody's.
    """

    images: int
    size_bytes: int
    views: int = 1
    lane: Lane = Lane.INTERACTIVE
    deadline: float | None = None
    apart: bool = False

    @property
    def encodings(self) -> int:
        """What it costs: each image itself, and once for each view."""
        return self.images * (1 + self.views)


def _always() -> bool:
    return True


@dataclass(eq=False, slots=True, weakref_slot=True)
class Submission:
    """Images of one submission, to be cut where a pass is full.

    Attributes:
        images: 1 or more.
        views: of each.
        lane: who goes first.
        size_bytes: of all.
        deadline: after which nobody waits; None for never.
        since: when it was submitted.
        token: the driver's own.
        apart: whether they are parts of a heat map, which share a pass with nobody's.
        claim: says, once, whether it is still wanted; from then on it is.
        taken: images that went into passes.
        gone: answered for good, or not wanted any more.
    """

    images: int
    views: int
    lane: Lane
    size_bytes: int
    deadline: float | None
    since: float
    token: Any = None
    apart: bool = False
    claim: Callable[[], bool] = _always
    taken: int = 0
    claimed: bool = False
    gone: bool = False

    @property
    def unit(self) -> int:
        """Encodings of one image: itself, and once for each view."""
        return 1 + self.views

    @property
    def left(self) -> int:
        """Images that wait."""
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

    @property
    def images(self) -> int:
        """How many."""
        return sum(part.images for part in self.parts)

    @property
    def encodings(self) -> int:
        """What it costs."""
        return self.images * (1 + self.views)

    @property
    def apart(self) -> bool:
        """Whether it draws parts of a heat map."""
        return bool(self.parts) and self.parts[0].entry.apart

    def takes(self, entry: Submission) -> bool:
        """Whether the entry's images may come along."""
        mixed = self.parts and self.parts[0].entry is not entry and (entry.apart or self.apart)
        return entry.views == self.views and not mixed

    def add(self, entry: Submission, images: int) -> None:
        """Take the next images of an entry."""
        self.parts.append(Part(entry, entry.taken, entry.taken + images))
        self._heed(entry)

    def halves(self) -> tuple[Batch, Batch]:
        """The same images in two passes; there have to be two at least."""
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
        """Leave out who is not waited for any more."""
        self.parts = [part for part in self.parts if not part.entry.gone]

    def _heed(self, entry: Submission) -> None:
        if entry.deadline is not None:
            self.earliest = min(self.earliest, entry.deadline)


@dataclass(slots=True)
class Backlog:
    """What waits in one lane, in the order it came; promised is what was reserved for."""

    entries: deque[Submission] = field(default_factory=deque)
    images: int = 0
    size_bytes: int = 0
    encodings: int = 0
    promised_images: int = 0
    promised_bytes: int = 0
    promised_encodings: int = 0

    @property
    def all_images(self) -> int:
        """Images that wait, or for which slots are reserved."""
        return self.images + self.promised_images

    @property
    def all_encodings(self) -> int:
        """What they cost."""
        return self.encodings + self.promised_encodings

    @property
    def head(self) -> Submission | None:
        """The first that waits."""
        while self.entries and not self.entries[0].left:
            self.entries.popleft()
        return self.entries[0] if self.entries else None

    def count(self, entry: Submission, images: int, sign: int) -> None:
        """So many images of an entry wait more, or fewer."""
        before = entry.size_bytes * (entry.images - entry.taken - images) // entry.images
        after = entry.size_bytes * (entry.images - entry.taken) // entry.images
        self.images += sign * images
        self.size_bytes += sign * (after - before)
        self.encodings += sign * images * entry.unit

    def promise(self, want: SlotRequest, sign: int) -> None:
        """So much was reserved for; or, with -1, is so no longer."""
        self.promised_images += sign * want.images
        self.promised_bytes += sign * want.size_bytes
        self.promised_encodings += sign * want.encodings
