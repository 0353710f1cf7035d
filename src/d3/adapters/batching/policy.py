"""What the detector does next: decisions without threads and without a clock of their own.

Whoever drives it says what happened and when, and is told which images go into the next forward
pass and who need not wait any more. The rules, in their order:

1. An idle device takes what waits at once; a busy one lets it gather. Bulk alone waits a moment for
   images that are being decoded: a device that is faster than the decoders gains nothing from
   single images.
2. NullEvents gets a pass whose time is over, or would be before the pass ends, or who has left.
3. Interactive goes first. Bulk joins with the work it has credit for (:class:`BulkShare`), leads a
   pass where its credit is enough for one, and has the device to itself while nobody else waits.
4. A pass has images of one number of views: those of the one that leads it. A heat map is drawn in
   parts, each as dear as an image, in passes of its own.
5. A pass is no larger than the bound, than the device was found to have room for, and than what
   makes it efficient. Where all that waits would fit into one, it is cut so that the earliest
   deadline is kept; where more waits, it is full: small passes would make many late for one.
6. On a slow device, where such a pass would take longer than a moment, passes are as small as is
   reasonable, and always cut for a deadline. So nothing is ever later there than if images were
   judged one by one, which is what they are let in by.
7. A pass that failed is halved until the image that fails does so alone; halves and other work take
   turns, so that one bad image does not hold up the rest.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from d3.adapters.batching.backlog import Backlog, Batch, SlotRequest, Submission
from d3.adapters.batching.costs import CostModel
from d3.domain.errors import ExplanationUnavailable, Overloaded
from d3.domain.ports.queue import Lane
from d3.domain.sharing import BulkShare

_PATIENCE = 0.08
"""Of an image's time, by which it may be late: costs are guesses, and it was let in by one."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may wait, and what may share a pass.

    Attributes:
        batch_size: images of one view that share a pass at most.
        images: that wait in a lane at most; a single request may be larger if its lane is empty.
        size_bytes: likewise.
        bulk_share: of the work, guaranteed to bulk; in (0, 1).
        moment: seconds of a pass from which on it is felt that its images wait for each other.
        linger: seconds that bulk alone waits on an idle device for images that are being decoded.
    """

    batch_size: int = 32
    images: int = 1000
    size_bytes: int = 256 * 2**20
    bulk_share: float = 0.2
    moment: float = 1.0
    linger: float = 0.02

    @classmethod
    def offline(cls, batch_size: int) -> Bounds:
        """For scripts: nothing is refused, and no pass is kept short for somebody who waits."""
        return cls(batch_size, images=sys.maxsize, size_bytes=sys.maxsize, moment=math.inf)


class Policy:
    """Decides. Not safe to call from many threads: its driver holds a lock.

    Attributes:
        costs: learned from the passes that ran.
        lines: what waits, by lane.
        running: the pass that was handed out last, until it is done.
    """

    def __init__(self, bounds: Bounds = Bounds()) -> None:
        self._bounds = bounds
        self._largest = 2 * bounds.batch_size
        self._fits = self._largest
        self._share = BulkShare(bounds.bulk_share)
        self._retries: deque[Batch] = deque()
        self._retried_last = False
        self._began = 0.0
        self._cut = False
        self.costs = CostModel()
        self.lines = {lane: Backlog() for lane in Lane}
        self.running: Batch | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing waits, runs, or is reserved for."""
        promised = any(line.promised_images for line in self.lines.values())
        return self.running is None and not self.waits and not promised

    @property
    def waits(self) -> bool:
        """Whether there is a next pass."""
        return bool(self._retries) or any(line.images for line in self.lines.values())

    @property
    def room(self) -> int:
        """Encodings of the next pass at most; an image by itself may have more."""
        enough = self._enough
        return self.costs.bearable(enough, self._bounds.moment) if self._slow else enough

    @property
    def _enough(self) -> int:
        """Encodings that make the device about as quick as it gets."""
        most = min(self._largest, self._fits)
        return min(most, self.costs.enough(most))

    @property
    def _slow(self) -> bool:
        """Whether a pass of so many takes longer than a moment."""
        return self.costs.seconds(self._enough) > self._bounds.moment

    def fill(self, one: Batch) -> float:
        """How full a pass was, of the largest one; at most 1."""
        return min(1.0, one.encodings / self._largest)

    def forget_costs(self) -> None:
        """Learn them anew."""
        self.costs = CostModel()

    def reserve(self, want: SlotRequest, now: float) -> None:
        """Promise slots.

        Raises:
            Overloaded: there are none, or they would come too late.
            ExplanationUnavailable: a heat map takes longer than there is time, even alone.
        """
        line, bounds = self.lines[want.lane], self._bounds
        images = line.images + line.promised_images
        size_bytes = line.size_bytes + line.promised_bytes
        over = images + want.images - bounds.images
        if images and (over > 0 or size_bytes + want.size_bytes > bounds.size_bytes):
            raise Overloaded(
                "Too many images are waiting to be judged.",
                "Try again in a moment, or send fewer at once.",
                retry_after=self._passes(
                    max(want.images, over), max(want.images, over) * (1 + want.views)
                ),
            )
        if want.deadline is not None and want.apart:
            self._check_map(want, want.deadline - now)
        if want.deadline is not None and not self.idle:
            time = want.deadline - now
            late = self.expected(want, now) + max(0.0, self.costs.slack - _PATIENCE * time) - time
            if late > 0:
                raise Overloaded(
                    "Too many images are waiting to be judged before the request's time limit.",
                    "Try again in a moment, or send fewer at once.",
                    retry_after=late,
                )
        line.promise(want, 1)

    def _check_map(self, want: SlotRequest, time: float) -> None:
        """See that a heat map could be drawn if nobody else asked; what images cost tells."""
        alone = self._passes(want.images, want.encodings)
        if alone > time:
            raise ExplanationUnavailable(
                f"This heat map would take {alone:.0f} seconds, but the time limit of a request is "
                f"{time:.0f} seconds.",
                "Ask for fewer views, or raise D3_REQUEST_SECONDS.",
            )

    def release(self, want: SlotRequest) -> None:
        """Take a promise back."""
        self.lines[want.lane].promise(want, -1)

    def enter(self, entry: Submission) -> None:
        """An entry waits for which slots were reserved."""
        line = self.lines[entry.lane]
        line.promise(SlotRequest(entry.images, entry.size_bytes, entry.views), -1)
        line.entries.append(entry)
        line.count(entry, entry.images, 1)

    def expected(self, want: SlotRequest, now: float) -> float:
        """Seconds until it should be done, if it came now; 0 while nothing is known."""
        rest = 0.0
        if self.running is not None:
            rest = max(0.0, self._began + self.costs.seconds(self.running.encodings) - now)
        interactive, bulk = self.lines[Lane.INTERACTIVE], self.lines[Lane.BULK]
        images = want.images + interactive.all_images
        encodings = want.encodings + interactive.all_encodings
        share = 1.0
        if want.lane is Lane.INTERACTIVE and bulk.all_encodings:
            due = self._bounds.bulk_share
            share = min(1.0, math.ceil(encodings * due / (1 - due)) / bulk.all_encodings)
        images += math.ceil(bulk.all_images * share) + sum(one.images for one in self._retries)
        encodings += math.ceil(bulk.all_encodings * share)
        encodings += sum(one.encodings for one in self._retries)
        return rest + self._passes(images, encodings)

    def withdraw(self, entry: Submission) -> int:
        """The entry is not wanted any more; how many images that spares."""
        spared = entry.left
        if spared:
            self.lines[entry.lane].count(entry, spared, -1)
        entry.gone = True
        return spared

    @property
    def lonely(self) -> bool:
        """Whether less than a batch of bulk waits alone while more of it is being decoded."""
        bulk = self.lines[Lane.BULK]
        few = 0 < bulk.images < self._bounds.batch_size and bulk.promised_images > 0
        return few and not self._retries and not self.lines[Lane.INTERACTIVE].images

    def next(self, now: float) -> tuple[Batch | None, list[Submission]]:
        """The pass to run now, if any, and the entries whose time is over."""
        expired = list(self._expire(now))
        chosen = self._retry() if self._retries and not self._retried_last else None
        self._retried_last = chosen is not None
        chosen = chosen or self._compose(now) or self._retry()
        if chosen is not None:
            self.running, self._began = chosen, now
        return chosen, expired

    def done(self, seconds: float) -> None:
        """The running pass ended well, after so long."""
        assert self.running is not None
        if not self.running.apart:  # only about as dear as images
            self.costs.observe(self.running.encodings, seconds)
        self.running = None

    def failed(self, *, out_of_memory: bool = False) -> Submission | None:
        """The running pass failed: its halves are tried again, or its one image's entry is lost."""
        assert self.running is not None
        broken, self.running = self.running, None
        if broken.images == 1:
            entry = broken.parts[0].entry
            self.withdraw(entry)
            return entry
        if out_of_memory:
            self._fits = min(self._fits, max(1, broken.encodings // 2))
        self._retries.extend(broken.halves())
        return None

    def _passes(self, images: int, encodings: int) -> float:
        """Seconds of the passes that so much work takes; what comes later fills up the last.

        On a slow device: of one pass for each image, which larger ones never exceed.
        """
        if self._slow:
            return images * self.costs.fixed + encodings * self.costs.each
        room = self.room
        if encodings <= room:
            return self.costs.seconds(encodings)
        return math.ceil(encodings / room) * self.costs.seconds(room)

    def _expire(self, now: float) -> Iterator[Submission]:
        """Those whose time is over; and those for whom it will be, if others wait behind them."""
        waiting = [entry for line in self.lines.values() for entry in line.entries if entry.left]
        waiting += [part.entry for retry in self._retries for part in retry.parts]
        left = len(waiting)
        least = self.room if self._crowded else 0
        for entry in waiting:
            if entry.deadline is None or entry.gone:
                continue
            ends = now + self.costs.seconds(max(least, entry.unit))
            over = entry.deadline + _PATIENCE * (entry.deadline - entry.since)
            hopeless = left > 1 and ends > over
            if now >= over or hopeless:
                self.withdraw(entry)
                left -= 1
                yield entry

    @property
    def _crowded(self) -> bool:
        """Whether more waits than a pass takes: then small passes would make many late for one."""
        room = self.room
        return sum(line.encodings for line in self.lines.values()) > room and not self._slow

    def _retry(self) -> Batch | None:
        while self._retries:
            retry = self._retries.popleft()
            retry.forget_the_gone()
            if not retry.parts:
                continue
            if retry.images > 1 and retry.encodings > self._fits:
                self._retries.extendleft(reversed(retry.halves()))
                continue
            return retry
        return None

    def _compose(self, now: float) -> Batch | None:
        # Round again where everybody that was looked at had left.
        while any(line.images for line in self.lines.values()):
            if composed := self._compose_once(now):
                return composed
        return None

    def _compose_once(self, now: float) -> Batch | None:
        interactive, bulk = self.lines[Lane.INTERACTIVE], self.lines[Lane.BULK]
        room = self.room
        both = interactive.head is not None and bulk.head is not None
        self._cut = not self._crowded
        bulk_leads = interactive.head is None or (both and self._bulk_leads(bulk, room))
        leads = bulk if bulk_leads else interactive
        assert leads.head is not None
        chosen = Batch(leads.head.views)
        self._fill(chosen, leads, leads.head.unit, now)
        if not chosen.parts:
            return None
        if not both:
            self._fill(chosen, leads, room, now)
            self._share.clear()
            return chosen
        ours = chosen.encodings if bulk_leads else 0
        before = chosen.encodings
        self._fill(chosen, bulk, min(room, before + int(self._share.credit) - ours), now)
        ours += chosen.encodings - before
        self._fill(chosen, interactive, room, now)
        if bulk.head is None:
            self._share.clear()
        else:
            self._share.settle(chosen.encodings - ours, ours)
        return chosen

    def _bulk_leads(self, bulk: Backlog, room: int) -> bool:
        """Whether bulk has saved up for a pass of its own, as where others want other views."""
        head = bulk.head
        assert head is not None
        alike = sum(one.left * one.unit for one in bulk.entries if one.views == head.views)
        return self._share.credit >= max(head.unit, min(room, alike))

    def _fill(self, chosen: Batch, line: Backlog, room: int, now: float) -> None:
        """Add what waits in a line until the pass has so many encodings."""
        for entry in line.entries:
            if chosen.parts and room - chosen.encodings < 1 + chosen.views:
                break
            if not entry.left or not chosen.takes(entry):
                continue
            images = self._images_for(entry, chosen, room, now)
            if images and self._claimed(entry):
                chosen.add(entry, images)
                line.count(entry, images, -1)
                entry.taken += images
        if chosen.parts:
            line.entries = deque(entry for entry in line.entries if entry.left)

    def _images_for(self, entry: Submission, chosen: Batch, room: int, now: float) -> int:
        """How many of its images fit in, with everybody's deadline kept."""
        earliest = min(chosen.earliest, math.inf if entry.deadline is None else entry.deadline)
        if self._cut:
            room = int(min(room, self.costs.within(earliest - now)))
        images = min(entry.left, (room - chosen.encodings) // entry.unit)
        most = chosen.most if entry.batch_size is None else min(chosen.most, entry.batch_size)
        if most < math.inf:
            images = min(images, int(most) - chosen.images)
        return max(images, 0 if chosen.parts else 1)

    def _claimed(self, entry: Submission) -> bool:
        if not entry.claimed:
            entry.claimed = True
            if not entry.claim():
                self.withdraw(entry)
                return False
        return True
