"""A device that takes a pass while it computes another: it is kept busy, and nothing is mixed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from d3.adapters.batching import Bounds, ThreadedQueue
from d3.adapters.in_process import SystemClock
from d3.domain.errors import DetectorFailed
from d3.domain.images import Pixels
from d3.domain.ports.detector import EarlyStarter, Logits
from d3.testing.fakes import FakeDetector
from tests.serving import wait_until

SECONDS = 20


class Pipelined(FakeDetector):
    """Computes when allowed, one begun pass after the other; black images break it.

    Attributes:
        begun: passes that were begun, and not waited for yet.
        most: at once.
        breaks_in: whether black images break it when a pass is begun, or when it is waited for.
    """

    def __init__(self, breaks_in: str = "wait") -> None:
        super().__init__()
        self.may_compute = threading.Event()
        self.begun = 0
        self.most = 0
        self.breaks_in = breaks_in

    def start(self, pixels: Pixels, views: int) -> Callable[[], Logits] | None:
        if views > 1:
            return None
        pixels = pixels.copy()
        if self.breaks_in == "start":
            self._check(pixels)
        self.begun += 1
        self.most = max(self.most, self.begun)

        def wait() -> Logits:
            assert self.may_compute.wait(SECONDS)
            self.begun -= 1
            self._check(pixels)
            return FakeDetector.score(self, pixels, views)

        return wait

    def settle(self, seconds: float) -> None:
        """It is as quick as it will be."""

    @staticmethod
    def _check(pixels: Pixels) -> None:
        if (pixels.reshape(len(pixels), -1).mean(axis=1) == 0).any():
            raise DetectorFailed("black")


def image(level: int) -> Pixels:
    return np.full((1, 8, 8, 3), level, np.uint8)


def expected(level: int) -> float:
    return float(FakeDetector().score(image(level), 1)[0, 0])


@pytest.fixture(params=["wait", "start"])
def detector(request: pytest.FixtureRequest) -> Pipelined:
    return Pipelined(request.param)


@pytest.fixture
def queue(detector: Pipelined) -> Iterator[ThreadedQueue]:
    queue = ThreadedQueue(detector, SystemClock(), Bounds(batch_size=4))
    yield queue
    detector.may_compute.set()
    queue.close()


def test_while_much_waits_two_passes_are_on_the_device(
    queue: ThreadedQueue, detector: Pipelined
) -> None:
    assert isinstance(detector, EarlyStarter)
    futures = [queue.submit(image(level), 1) for level in range(1, 41)]
    wait_until(lambda: detector.begun >= 1)
    detector.may_compute.set()
    for level, future in enumerate(futures, 1):
        assert future.result(SECONDS).logits[0, 0] == expected(level)
    assert detector.most == 2
    assert detector.begun == 0
    assert max(detector.batches) <= 4


def test_a_pass_that_fails_takes_no_other_with_it(
    queue: ThreadedQueue, detector: Pipelined
) -> None:
    detector.may_compute.set()
    levels = [0 if number % 7 == 3 else number for number in range(1, 60)]
    futures = [queue.submit(image(level), 1 + level % 2) for level in levels]
    for level, future in zip(levels, futures, strict=True):
        if level == 0:
            assert isinstance(future.exception(SECONDS), DetectorFailed)
        else:
            assert future.result(SECONDS).logits[0, 0] == expected(level)


def test_closing_finishes_both(queue: ThreadedQueue, detector: Pipelined) -> None:
    futures = [queue.submit(image(level), 1) for level in range(1, 30)]
    wait_until(lambda: detector.begun >= 1)
    closing = threading.Thread(target=queue.close)
    closing.start()
    detector.may_compute.set()
    closing.join(SECONDS)
    assert [future.result(SECONDS).logits[0, 0] for future in futures] == [
        expected(level) for level in range(1, 30)
    ]
    assert detector.closed


def test_little_work_is_not_begun_early(queue: ThreadedQueue, detector: Pipelined) -> None:
    detector.may_compute.set()
    for level in range(1, 10):
        assert queue.submit(image(level), 1).result(SECONDS).logits[0, 0] == expected(level)
    assert detector.most == 1


class Settling(FakeDetector):
    """Takes a while until it is quick.

    Attributes:
        settled: passes before it was.
    """

    settled: int | None = None

    def start(self, pixels: Pixels, views: int) -> Callable[[], Logits] | None:
        return None

    def settle(self, seconds: float) -> None:
        assert seconds > 0
        self.settled = len(self.batches)


def test_a_detector_is_timed_when_it_is_as_quick_as_it_will_be() -> None:
    detector = Settling()
    queue = ThreadedQueue(detector, SystemClock(), Bounds(batch_size=4))
    queue.warm_up(8)
    queue.close()
    assert detector.settled == 1
    assert detector.batches == [1, 1, 2, 4]
