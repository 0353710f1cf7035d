"""The scheduling policy on a simulated device: no thread, no clock but a number."""

from __future__ import annotations

from dataclasses import dataclass, field

from d3.adapters.batching.backlog import Batch, SlotRequest, Submission
from d3.adapters.batching.policy import Bounds, Policy
from d3.domain.ports.queue import Lane

FIXED, EACH = 0.02, 0.005
"""Seconds of a pass, and of an encoding: an image with one view costs 10 ms."""


@dataclass
class Device:
    """Drives a policy.

    Attributes:
        poison: tokens of entries that make any pass fail.
        memory: encodings of a pass at most.
        passes: as they ran, the failed ones too.
        answered: images answered, by entry.
        ended: how each entry ended, once each.
    """

    bounds: Bounds = Bounds()
    now: float = 0.0
    fixed: float = FIXED
    each: float = EACH
    poison: set[object] = field(default_factory=set)
    memory: int = 10**9
    passes: list[Batch] = field(default_factory=list)
    answered: dict[Submission, list[int]] = field(default_factory=dict)
    ended: dict[Submission, str] = field(default_factory=dict)
    ended_at: dict[Submission, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.policy = Policy(self.bounds)

    def learn(self) -> Device:
        """Let the policy know what passes cost."""
        for encodings in (2, 4, 8, 64):
            self.policy.costs.observe(encodings, self.fixed + self.each * encodings)
        return self

    def submit(
        self,
        lane: Lane = Lane.INTERACTIVE,
        images: int = 1,
        views: int = 1,
        deadline: float | None = None,
        token: object = None,
    ) -> Submission:
        """Reserve and enter."""
        want = SlotRequest(images, 100 * images, views, lane, deadline)
        self.policy.reserve(want, self.now)
        entry = Submission(images, views, lane, 100 * images, deadline, self.now, token)
        entry.claim = lambda: self.ended.get(entry) != "cancelled"
        self.policy.enter(entry)
        self.answered[entry] = []
        return entry

    def cancel(self, entry: Submission) -> None:
        """Its caller has left; that works until its first pass."""
        if not entry.claimed and entry not in self.ended:
            self._end(entry, "cancelled")
            self.policy.withdraw(entry)

    def begin(self) -> Batch | None:
        """Let the policy choose; the pass runs from now on."""
        chosen, expired = self.policy.next(self.now)
        for entry in expired:
            self._end(entry, "expired")
        if chosen is not None:
            self.passes.append(chosen)
        return chosen

    def finish(self, chosen: Batch) -> None:
        """Time passes, and the pass ends one way or the other."""
        seconds = self.fixed + self.each * chosen.encodings
        self.now += seconds
        if chosen.encodings > self.memory:
            self._fail(chosen, out_of_memory=True)
        elif any(part.entry.token in self.poison for part in chosen.parts):
            self._fail(chosen, out_of_memory=False)
        else:
            self.policy.done(seconds, self.now)
            for part in chosen.parts:
                if not part.entry.gone:
                    self.answered[part.entry] += range(part.start, part.stop)
                    if len(self.answered[part.entry]) == part.entry.images:
                        self._end(part.entry, "answered")

    def step(self) -> Batch | None:
        """One pass from beginning to end."""
        chosen = self.begin()
        if chosen is not None:
            self.finish(chosen)
        return chosen

    def run(self) -> None:
        """Until nothing waits."""
        while self.step() is not None or self.policy.waits:
            pass

    def _fail(self, broken: Batch, *, out_of_memory: bool) -> None:
        lost = self.policy.failed(broken, out_of_memory=out_of_memory)
        if lost is not None:
            self._end(lost, "out of memory" if out_of_memory else "failed")

    def _end(self, entry: Submission, how: str) -> None:
        assert entry not in self.ended, "nobody is answered twice"
        self.ended[entry] = how
        self.ended_at[entry] = self.now


def lanes(chosen: Batch | None) -> dict[Lane, int]:
    """Images of each lane in a pass."""
    assert chosen is not None
    counted = dict.fromkeys(Lane, 0)
    for part in chosen.parts:
        counted[part.entry.lane] += part.images
    return counted
