"""Detectors of one process score one after another, in the order in which they ask."""

from __future__ import annotations

import threading

import numpy as np

from d3.adapters.batching import Bounds, ThreadedQueue, Turns
from d3.domain.images import Pixels
from d3.domain.ports.detector import Logits
from d3.testing import FakeClock, FakeDetector
from tests.serving import wait_until

SECONDS = 20
BLACK = np.zeros((1, 8, 8, 3), np.uint8)


class Meeting(FakeDetector):
    """Notes who is scoring, and how many at the same time."""

    def __init__(self, name: str, log: list[str], now: list[str]) -> None:
        super().__init__()
        self.name, self.log, self.now = name, log, now
        self.may_score = threading.Event()
        self.may_score.set()

    def score(self, pixels: Pixels, views: int) -> Logits:
        self.now.append(self.name)
        assert self.may_score.wait(SECONDS)
        assert self.now == [self.name], "nobody else scores"
        self.log.append(self.name)
        self.now.remove(self.name)
        return super().score(pixels, views)


def test_no_two_passes_at_a_time() -> None:
    log, now, turns = list[str](), list[str](), Turns()
    detectors = [Meeting(name, log, now) for name in "abc"]
    queues = [ThreadedQueue(one, FakeClock(), Bounds(linger=0, batch_size=1)) for one in detectors]
    for queue in queues:
        queue.turns = turns
    asked = [queue.submit(BLACK, 1) for _ in range(6) for queue in queues]
    for one in asked:
        one.result(SECONDS)
    for queue in queues:
        queue.close()
    assert sorted(log) == sorted("abc" * 6)


def test_turns_come_in_the_order_in_which_they_are_asked_for() -> None:
    turns, log = Turns(), list[str]()

    def ask(name: str) -> None:
        turns.wait()
        log.append(name)
        turns.end()

    waiting = [threading.Thread(target=ask, args=name) for name in "abcd"]
    turns.wait()
    for number, one in enumerate(waiting, start=1):
        one.start()
        wait_until(lambda number=number: len(turns._waiting) == number)
    turns.end()
    ask("last")
    for one in waiting:
        one.join(SECONDS)
    assert log == ["a", "b", "c", "d", "last"]


def test_an_answer_is_not_kept_while_its_detector_waits_for_a_turn() -> None:
    log, now, turns = list[str](), list[str](), Turns()
    slow, quick = Meeting("slow", log, now), Meeting("quick", log, now)
    queues = [
        ThreadedQueue(one, FakeClock(), Bounds(linger=0, batch_size=1)) for one in (slow, quick)
    ]
    for queue in queues:
        queue.turns = turns
    quick.may_score.clear()
    first, second = queues[1].submit(BLACK, 1), queues[1].submit(BLACK, 1)
    wait_until(lambda: now == ["quick"])
    slow.may_score.clear()
    other = queues[0].submit(BLACK, 1)
    wait_until(lambda: len(turns._waiting) == 1)
    quick.may_score.set()
    first.result(SECONDS)
    assert not second.done()
    slow.may_score.set()
    other.result(SECONDS)
    second.result(SECONDS)
    for queue in queues:
        queue.close()


def test_a_pass_that_fails_gives_its_turn_back() -> None:
    turns = Turns()
    broken = FakeDetector()
    broken.score = lambda *_: 1 / 0  # type: ignore[method-assign, assignment]
    queues = [ThreadedQueue(one, FakeClock(), Bounds(linger=0)) for one in (broken, FakeDetector())]
    for queue in queues:
        queue.turns = turns
    assert queues[0].submit(BLACK, 1).exception(SECONDS) is not None
    assert queues[1].submit(BLACK, 1).result(SECONDS).logits.shape == (1, 1)
    for queue in queues:
        queue.close()
