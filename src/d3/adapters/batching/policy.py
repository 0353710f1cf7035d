"""Which images go into the next forward pass: decisions without threads and without a clock.

The queue reports what happened and when; the policy says what to run next and what has expired.
The rules, in order:

1. An idle device takes what waits at once. A busy one lets submissions gather. If only bulk waits,
   an idle device also waits a short time for images that are being decoded: a device faster than
   the decoders gains nothing from single images.
2. No pass for a submission that was cancelled, whose deadline has passed, or whose deadline would
   pass before the pass ends.
3. Interactive goes first. Bulk joins a pass with the work that it has credit for
   (:class:`BulkShare`), leads a pass once its credit pays for one, and has the device to itself
   while no interactive image waits.
4. All images of a pass have the same number of views: that of the submission that leads it. A heat
   map is drawn in parts, each as expensive as an image, in passes of its own.
5. A pass is no larger than the limit, than what fits the device, and than what makes the device
   efficient. If everything that waits fits into one pass, the pass is cut so that the earliest
   deadline is met. If more waits, the pass is full: small passes would delay many for one.
6. On a slow device, where an efficient pass takes longer than a moment, passes are as small as is
   reasonable and always cut for a deadline. So no image is ever later than if images were judged
   one by one, which is the estimate that admits them.
7. A pass that failed is split in two until the image that fails is alone. The halves alternate with
   other work, so that one bad image does not hold up the rest.
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
from d3.domain.ports.queue import Delay, Lane
from d3.domain.services.lanes import BulkShare

_PATIENCE = 0.08
"""The share of its time by which an image may be late, since it was admitted by an estimate."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of what waits and of a forward pass.

    Attributes:
        batch_size: largest pass, in images with one view.
        images: most that wait in a lane; a single request may be larger if its lane is empty.
        size_bytes: likewise.
        bulk_share: share of the work guaranteed to bulk; in (0, 1).
        moment: seconds of a pass beyond which its images noticeably wait for each other.
        linger: seconds that bulk alone waits on an idle device for images being decoded.
    """

    batch_size: int = 32
    images: int = 1000
    size_bytes: int = 256 * 2**20
    bulk_share: float = 0.2
    moment: float = 1.0
    linger: float = 0.02

    @classmethod
    def offline(cls, batch_size: int) -> Bounds:
        """For scripts: nothing is refused, and passes are as large as is efficient."""
        return cls(batch_size, images=sys.maxsize, size_bytes=sys.maxsize, moment=math.inf)


class Policy:
    """Decides what runs next. Not thread-safe: the queue holds a lock.

    Attributes:
        costs: learned from past passes.
        lines: what waits, by lane.
        running: passes on the device, in the order in which they end: one, or a second one that
            was started early.
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
        self._efficient: int | None = None
        self.costs = CostModel()
        self.lines = {lane: Backlog() for lane in Lane}
        self.running: deque[Batch] = deque()

    @property
    def idle(self) -> bool:
        """Whether nothing waits, runs or has reserved slots."""
        promised = any(line.promised_images for line in self.lines.values())
        return not self.running and not self.waits and not promised

    @property
    def waits(self) -> bool:
        """Whether anything waits."""
        return bool(self._retries) or any(line.images for line in self.lines.values())

    @property
    def room(self) -> int:
        """The most encodings of the next pass; a single image may have more."""
        enough = self._enough
        return self.costs.bearable(enough, self._bounds.moment) if self._slow else enough

    @property
    def _enough(self) -> int:
        """Encodings at which the device is about as efficient as it gets."""
        if self._efficient is None:  # asked for often, and changes only after a pass
            most = min(self._largest, self._fits)
            # Offline nobody waits for an image, and a pass may be as large as it can.
            offline = math.isinf(self._bounds.moment)
            self._efficient = most if offline else min(most, self.costs.enough(most))
        return self._efficient

    @property
    def _slow(self) -> bool:
        """Whether such a pass takes longer than a moment."""
        return self.costs.seconds(self._enough) > self._bounds.moment

    def fill(self, one: Batch) -> float:
        """How full a pass was: its share of the largest pass, at most 1."""
        return min(1.0, one.encodings / self._largest)

    def forget_costs(self) -> None:
        """Start learning costs again."""
        self._efficient = None
        self.costs = CostModel()

    def reserve(self, want: SlotRequest, now: float) -> None:
        """Reserve slots.

        Raises:
            Overloaded: the lane is full, or the deadline would be missed.
            ExplanationUnavailable: a heat map would take longer than its time, even alone.
        """
        line, bounds = self.lines[want.lane], self._bounds
        if want.admitted:
            line.promise(want, 1)
            return
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
        """Check that a heat map could be drawn in time on an idle device."""
        alone = self._passes(want.images, want.encodings)
        if alone > time:
            raise ExplanationUnavailable(
                f"This heat map would take {alone:.0f} seconds, but the time limit of a request is "
                f"{time:.0f} seconds.",
                "Ask for fewer views, or raise D3_REQUEST_SECONDS.",
            )

    def release(self, want: SlotRequest) -> None:
        """Release reserved slots."""
        self.lines[want.lane].promise(want, -1)

    def enter(self, entry: Submission) -> None:
        """Add a submission that has reserved slots."""
        line = self.lines[entry.lane]
        line.promise(SlotRequest(entry.images, entry.size_bytes, entry.views), -1)
        line.entries.append(entry)
        line.count(entry, entry.images, 1)

    def expected(self, want: SlotRequest, now: float) -> float:
        """Estimated seconds until it would be done; 0 while costs are unknown."""
        rest = 0.0
        if self.running:
            passes = sum(self.costs.seconds(one.encodings) for one in self.running)
            rest = max(0.0, self._began + passes - now)
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

    def delay(self, lane: Lane, now: float) -> Delay:
        """How long one more image would take."""
        each = self.costs.seconds(self.room) / self.room
        if self.idle:
            return Delay(0.0, each)
        return Delay(self.expected(SlotRequest(1, 0, 1, lane), now), each)

    def withdraw(self, entry: Submission) -> int:
        """Remove a submission that is not wanted any more; gives the number of images spared."""
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
        """The pass to run now, if any, and the submissions that have expired."""
        expired = list(self._expire(now))
        chosen = self._retry() if self._retries and not self._retried_last else None
        self._retried_last = chosen is not None
        chosen = chosen or self._compose(now) or self._retry()
        if chosen is not None:
            if not self.running:
                self._began = now
            self.running.append(chosen)
        return chosen, expired

    def done(self, seconds: float, now: float) -> None:
        """The first running pass succeeded, after so many seconds on the device."""
        one = self.running.popleft()
        self._began = now
        if not one.apart:  # costs only about as much as images
            self.costs.observe(one.encodings, seconds)
            self._efficient = None

    def failed(self, broken: Batch, *, out_of_memory: bool = False) -> Submission | None:
        """A running pass failed: retry its halves, or give the submission of its only image."""
        self.running.remove(broken)
        if broken.images == 1:
            entry = broken.parts[0].entry
            self.withdraw(entry)
            return entry
        if out_of_memory:
            self._fits = min(self._fits, max(1, broken.encodings // 2))
            self._efficient = None
        self._retries.extend(broken.halves())
        return None

    def _passes(self, images: int, encodings: int) -> float:
        """Estimated seconds of the passes for so much work.

        On a slow device it is estimated with one pass for each image, an upper bound.
        """
        if self._slow:
            return images * self.costs.fixed + encodings * self.costs.each
        room = self.room
        if encodings <= room:
            return self.costs.seconds(encodings)
        return math.ceil(encodings / room) * self.costs.seconds(room)

    def _expire(self, now: float) -> Iterator[Submission]:
        """Submissions past their deadline, or sure to miss it while others wait."""
        waiting = [entry for line in self.lines.values() for entry in line.entries if entry.left]
        waiting += [part.entry for retry in self._retries for part in retry.parts]
        left = len(waiting)
        least = self.room if self.crowded else 0
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
    def crowded(self) -> bool:
        """Whether more waits than fits one pass; then small passes would delay many for one."""
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
        # Try again if all submissions looked at were cancelled.
        while any(line.images for line in self.lines.values()):
            if composed := self._compose_once(now):
                return composed
        return None

    def _compose_once(self, now: float) -> Batch | None:
        interactive, bulk = self.lines[Lane.INTERACTIVE], self.lines[Lane.BULK]
        room = self.room
        both = interactive.head is not None and bulk.head is not None
        self._cut = not self.crowded
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
        """Whether bulk has enough credit for a pass of its own."""
        head = bulk.head
        assert head is not None
        alike = sum(one.left * one.unit for one in bulk.entries if one.views == head.views)
        return self._share.credit >= max(head.unit, min(room, alike))

    def _fill(self, chosen: Batch, line: Backlog, room: int, now: float) -> None:
        """Add waiting images of a lane until the pass has so many encodings."""
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
        """How many of its images fit into the pass with all deadlines met."""
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
