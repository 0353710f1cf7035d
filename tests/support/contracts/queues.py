"""What a queue in front of a detector promises."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from d3.domain.errors import DeadlineExceeded, DeviceOutOfMemory
from d3.domain.ports.detector import Detector
from d3.domain.ports.queue import DetectionQueue, Lane, Waiting
from d3.testing.fakes import FakeDetector
from tests.serving import wait_until
from tests.support.images import noise

_SECONDS = 30
MakeQueue = Callable[[Detector], DetectionQueue]


class DetectionQueueContract:
    """Override :meth:`make_queue`."""

    @pytest.fixture
    def make_queue(self) -> MakeQueue:
        """Makes the queue under test in front of a detector."""
        raise NotImplementedError

    def test_it_is_a_queue(self, make_queue: MakeQueue) -> None:
        detector = FakeDetector()
        queue = make_queue(detector)
        assert isinstance(queue, DetectionQueue)
        assert queue.detector.engine == detector.engine
        assert queue.trouble is None
        assert queue.waiting(Lane.BULK) == Waiting()
        queue.close()

    @pytest.mark.parametrize("lane", Lane)
    def test_the_answer_is_the_detectors(self, make_queue: MakeQueue, lane: Lane) -> None:
        queue = make_queue(FakeDetector())
        pixels = np.stack([noise(8, 8, seed) for seed in range(3)])
        scored = queue.submit(pixels, 4, lane).result(_SECONDS)
        assert np.array_equal(scored.logits, FakeDetector().score(pixels, 4))
        assert scored.seconds >= 0
        queue.close()

    def test_a_submission_of_any_size_is_answered_whole(self, make_queue: MakeQueue) -> None:
        queue = make_queue(FakeDetector())
        pixels = np.stack([noise(8, 8, seed) for seed in range(100)])
        logits = queue.submit(pixels, 3, Lane.BULK).result(_SECONDS).logits
        assert np.array_equal(logits, FakeDetector().score(pixels, 3))
        queue.close()

    def test_everybody_gets_their_own_answer_and_the_detector_one_caller_at_a_time(
        self, make_queue: MakeQueue
    ) -> None:
        queue = make_queue(FakeDetector())
        lanes = list(Lane)
        asked = [
            (noise(8, 8, seed)[None], 1 + seed % 3, lanes[seed // 3 % 2]) for seed in range(60)
        ]
        with ThreadPoolExecutor(8) as pool:
            futures = list(pool.map(lambda one: queue.submit(*one), asked))
        for (pixels, views, _), future in zip(asked, futures, strict=True):
            expected = FakeDetector().score(pixels, views)
            assert np.array_equal(future.result(_SECONDS).logits, expected)
        queue.close()

    def test_reserved_places_are_used_one_by_one_or_given_up(self, make_queue: MakeQueue) -> None:
        queue = make_queue(FakeDetector())
        slots = queue.reserve(3, 3 * 192, 2, Lane.BULK)
        first = slots.submit(noise(8, 8, 1)[None])
        slots.release()
        last = slots.submit(noise(8, 8, 2)[None])
        for seed, future in ((1, first), (2, last)):
            expected = FakeDetector().score(noise(8, 8, seed)[None], 2)
            assert np.array_equal(future.result(_SECONDS).logits, expected)
        assert queue.waiting(Lane.BULK) == Waiting()
        queue.close()

    def test_a_deadline_that_is_over_costs_no_forward_pass(self, make_queue: MakeQueue) -> None:
        detector = FakeDetector()
        queue = make_queue(detector)
        future = queue.submit(noise(8, 8)[None], 1, deadline=-1.0)
        assert isinstance(future.exception(_SECONDS), DeadlineExceeded)
        assert detector.batches == []
        queue.close()

    def test_an_error_reaches_whoever_waits_and_nobody_after(self, make_queue: MakeQueue) -> None:
        detector = FakeDetector(failure=DeviceOutOfMemory("No room."))
        queue = make_queue(detector)
        future = queue.submit(noise(8, 8)[None], 1)
        assert isinstance(future.exception(_SECONDS), DeviceOutOfMemory)
        detector.failure = None
        assert queue.submit(noise(8, 8)[None], 1).result(_SECONDS).logits.shape == (1, 1)
        queue.close()

    def test_warming_up_leaves_nothing_behind(self, make_queue: MakeQueue) -> None:
        queue = make_queue(FakeDetector())
        queue.warm_up(8)
        assert queue.waiting(Lane.INTERACTIVE) == Waiting()
        assert queue.submit(noise(8, 8)[None], 1).result(_SECONDS).logits.shape == (1, 1)
        queue.close()

    def test_close_finishes_what_was_submitted_and_closes_the_detector(
        self, make_queue: MakeQueue
    ) -> None:
        detector = FakeDetector()
        queue = make_queue(detector)
        futures = [queue.submit(noise(8, 8, seed)[None], 2) for seed in range(20)]
        queue.close()
        wait_until(lambda: detector.closed)
        assert [future.result(_SECONDS).logits.shape for future in futures] == [(1, 2)] * 20
