"""The queue with its threads: who is answered, what is cancelled, what happens when one dies."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future

import numpy as np
import pytest

from d3.adapters.batching import Bounds, ThreadedQueue
from d3.adapters.in_process import SystemClock
from d3.domain.errors import (
    DeadlineExceeded,
    DetectorFailed,
    DeviceOutOfMemory,
    ModelNotLoaded,
    Overloaded,
)
from d3.domain.heatmaps import Map
from d3.domain.images import Pixels
from d3.domain.ports.detector import Logits
from d3.domain.ports.queue import Lane, Scored
from d3.testing import FakeClock
from d3.testing.fakes import FakeDetector
from tests.serving import wait_until

SECONDS = 20


class Held(FakeDetector):
    """Scores when allowed; black images break it, white ones kill its thread."""

    def __init__(self) -> None:
        super().__init__()
        self.may_score = threading.Event()
        self.may_score.set()
        self.scoring = threading.Semaphore(0)
        self.memory = 10**9
        self.deadly = True

    def score(self, pixels: Pixels, views: int) -> Logits:
        self.scoring.release()
        assert self.may_score.wait(SECONDS)
        logits = super().score(pixels, views)
        if len(pixels) > self.memory:
            raise DeviceOutOfMemory("No room.")
        means = pixels.reshape(len(pixels), -1).mean(axis=1)
        if self.deadly and (means == 255).any():
            raise SystemExit("killed")
        if (means == 0).any() and len(pixels) == 1:
            raise RuntimeError("an image that breaks it")
        if (means == 0).any():
            raise MemoryError
        return logits


class Heard:
    """Remembers what happened."""

    def __init__(self) -> None:
        self.passes: list[int] = []
        self.counts: Counter[str] = Counter()

    def scored(self, images: int, fill: float, seconds: float) -> None:
        assert 0 < fill <= 1
        assert seconds >= 0
        self.passes.append(images)

    def dropped(self, lane: Lane, reason: str, images: int) -> None:
        self.counts[f"{lane} {reason}"] += images

    def out_of_memory(self) -> None:
        self.counts["out of memory"] += 1

    def restarted(self) -> None:
        self.counts["restarted"] += 1


def image(level: int) -> Pixels:
    return np.full((1, 4, 4, 3), level, np.uint8)


def logit(level: int) -> float:
    return level / 32 - 4


@pytest.fixture
def detector() -> Held:
    return Held()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def make(detector: Held, heard: Heard) -> Iterator[Callable[..., ThreadedQueue]]:
    made: list[ThreadedQueue] = []

    def make(clock: FakeClock | SystemClock = SystemClock(), **bounds: int) -> ThreadedQueue:
        made.append(ThreadedQueue(detector, clock, Bounds(**bounds), heard))  # type: ignore[arg-type]
        return made[-1]

    yield make
    detector.may_score.set()
    for queue in made:
        queue.close()


@pytest.fixture
def queue(make: Callable[..., ThreadedQueue]) -> ThreadedQueue:
    return make()


def busy(queue: ThreadedQueue, detector: Held) -> Future[Scored]:
    """Begin a pass that lasts until the detector may score."""
    detector.may_score.clear()
    future = queue.submit(image(1), 1)
    assert detector.scoring.acquire(timeout=SECONDS)
    return future


def test_what_gathers_shares_a_pass_and_interactive_goes_first(
    queue: ThreadedQueue, detector: Held, heard: Heard
) -> None:
    first = busy(queue, detector)
    bulk = [queue.submit(image(level), 1, Lane.BULK) for level in (2, 3)]
    mine = queue.submit(image(4), 1)
    waiting = queue.waiting(Lane.BULK)
    assert (waiting.images, waiting.size_bytes) == (2, 2 * 48)
    detector.may_score.set()
    assert mine.result(SECONDS).logits.tolist() == [[logit(4)]]
    assert [one.result(SECONDS).logits.item() for one in bulk] == [logit(2), logit(3)]
    assert first.result(SECONDS).logits.item() == logit(1)
    assert heard.passes == [1, 1, 2]


def test_who_leaves_before_the_pass_costs_none(
    queue: ThreadedQueue, detector: Held, heard: Heard
) -> None:
    first = busy(queue, detector)
    gone = queue.submit(image(2), 1, Lane.BULK)
    stays = queue.submit(image(3), 1, Lane.BULK)
    assert gone.cancel()
    assert queue.waiting(Lane.BULK).images == 1
    assert not first.cancel(), "its pass has begun"
    detector.may_score.set()
    stays.result(SECONDS)
    first.result(SECONDS)
    with pytest.raises(CancelledError):
        gone.result()
    assert heard.passes == [1, 1]
    assert heard.counts["bulk cancelled"] == 1


def test_pixels_are_let_go_with_their_answer_without_the_garbage_collector() -> None:
    queue = ThreadedQueue(FakeDetector(), SystemClock())
    gc.disable()
    try:
        pixels = np.full((3, 8, 8, 3), 9, np.uint8)
        alive = weakref.ref(pixels)
        queue.submit(pixels, 1).result(SECONDS)
        del pixels
        wait_until(lambda: alive() is None)
    finally:
        gc.enable()
        queue.close()


def test_who_is_late_costs_no_pass(
    make: Callable[..., ThreadedQueue], detector: Held, heard: Heard
) -> None:
    clock = FakeClock()
    queue = make(clock)
    first = busy(queue, detector)
    late = queue.submit(image(2), 1, deadline=1.0)
    clock.advance(2.0)
    assert queue.waiting(Lane.INTERACTIVE).oldest_seconds == 2.0
    detector.may_score.set()
    assert isinstance(late.exception(SECONDS), DeadlineExceeded)
    assert first.result(SECONDS).seconds == 2.0
    assert heard.counts["interactive expired"] == 1
    assert detector.batches == [1]


def test_a_full_queue_refuses_at_once(
    make: Callable[..., ThreadedQueue], detector: Held, heard: Heard
) -> None:
    queue = make(images=2)
    busy(queue, detector)
    slots = queue.reserve(2, 96, 1)
    with pytest.raises(Overloaded):
        queue.submit(image(2), 1)
    slots.release()
    queue.submit(image(3), 1)
    slots.submit(image(4))
    with pytest.raises(ValueError, match="0 slots are left"):
        slots.submit(image(5))
    assert heard.counts["interactive rejected"] == 1


def test_one_bad_image_fails_alone_and_says_why(
    queue: ThreadedQueue, detector: Held, heard: Heard
) -> None:
    busy(queue, detector)
    futures = [queue.submit(image(level), 1) for level in (5, 0, 6, 7)]
    detector.may_score.set()
    outcomes = [one.exception(SECONDS) for one in futures]
    assert [type(one) for one in outcomes] == [type(None), DetectorFailed, type(None), type(None)]
    assert isinstance(outcomes[1].__cause__, RuntimeError)
    assert [futures[n].result().logits.item() for n in (0, 2, 3)] == [logit(5), logit(6), logit(7)]
    assert heard.counts["interactive failed"] == 1


def test_a_batch_without_room_is_halved_and_remembered(
    queue: ThreadedQueue, detector: Held, heard: Heard
) -> None:
    detector.memory = 3
    pixels = np.concatenate([image(level) for level in range(1, 17)])
    assert queue.submit(pixels, 1).result(SECONDS).logits[:, 0].tolist() == [
        logit(level) for level in range(1, 17)
    ]
    assert heard.counts["out of memory"] >= 2
    failed = heard.counts["out of memory"]
    queue.submit(pixels, 1).result(SECONDS)
    assert heard.counts["out of memory"] == failed
    detector.memory = 0
    assert isinstance(queue.submit(image(1), 1).exception(SECONDS), DeviceOutOfMemory)


def test_a_thread_that_dies_is_replaced_and_readiness_says_so_until_it_answers(
    queue: ThreadedQueue, detector: Held, heard: Heard
) -> None:
    detector.failure = DeviceOutOfMemory("so that the probe fails too")
    detector.failure = None
    busy(queue, detector)
    futures = [queue.submit(image(level), 1) for level in (5, 255, 6)]
    detector.may_score.set()
    outcomes = [one.exception(SECONDS) for one in futures]
    assert [type(one) for one in outcomes] == [type(None), DetectorFailed, type(None)]
    assert isinstance(outcomes[1].__cause__, SystemExit)
    assert heard.counts["restarted"] >= 1
    assert queue.submit(image(7), 1).result(SECONDS).logits.item() == logit(7)
    wait_until(lambda: queue.trouble is None)


def test_while_nothing_was_answered_since_it_says_that_it_is_in_trouble(
    queue: ThreadedQueue, detector: Held
) -> None:
    # The probe is a black image, which this detector cannot stand.
    assert isinstance(queue.submit(image(255), 1).exception(SECONDS), DetectorFailed)
    trouble = queue.trouble
    assert trouble is not None
    assert "SystemExit" in trouble
    queue.submit(image(7), 1).result(SECONDS)
    wait_until(lambda: queue.trouble is None)


def test_close_finishes_what_waits_and_refuses_what_comes(
    queue: ThreadedQueue, detector: Held
) -> None:
    first = busy(queue, detector)
    waiting = [queue.submit(image(level), 1, Lane.BULK) for level in range(2, 9)]
    closing = threading.Thread(target=queue.close)
    closing.start()
    time.sleep(0.05)
    with pytest.raises(ModelNotLoaded):
        queue.submit(image(1), 1)
    assert not detector.closed
    detector.may_score.set()
    closing.join(SECONDS)
    assert detector.closed
    assert all(one.done() and one.exception() is None for one in [first, *waiting])


def test_it_may_be_closed_by_whoever_hears_the_last_answer(
    queue: ThreadedQueue, detector: Held
) -> None:
    future = busy(queue, detector)
    future.add_done_callback(lambda _: queue.close())
    detector.may_score.set()
    wait_until(lambda: detector.closed)


def test_an_answer_that_does_not_fit_the_question_is_nobodys(
    queue: ThreadedQueue, detector: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector, "score", lambda _, views: np.zeros((7, views)))
    assert isinstance(queue.submit(image(1), 1).exception(SECONDS), DetectorFailed)


def test_a_model_that_cannot_score_one_image_says_so_while_it_warms_up(
    queue: ThreadedQueue, detector: Held
) -> None:
    detector.memory = 0
    with pytest.raises(DeviceOutOfMemory):
        queue.warm_up(4)


def test_warming_up_learns_what_a_pass_costs(
    make: Callable[..., ThreadedQueue], detector: Held, heard: Heard
) -> None:
    queue = make(batch_size=8)
    detector.score = FakeDetector().score  # type: ignore[method-assign]  # black images are fine
    queue.warm_up(4)
    assert heard.passes[:3] == [1, 1, 2]
    assert sum(heard.passes) >= 8
    assert queue.waiting(Lane.INTERACTIVE).images == 0


class Explaining(Held):
    """Draws heat maps in four parts, when allowed."""

    parts = 4

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[tuple[int, int]] = []
        self.at_a_part: Callable[[], object] = lambda: None

    def explain_parts(self, pixels: Pixels, views: int, start: int, stop: int) -> Map:
        assert pixels.ndim == 3
        self.at_a_part()
        self.drawn.append((start, stop))
        return np.arange(start, stop, dtype=np.float64) + 10 * views

    def heat(self, logits: Map) -> Map:
        return logits.reshape(2, 2)


class TestHeatMaps:
    @pytest.fixture
    def detector(self) -> Explaining:
        return Explaining()

    def test_all_parts_make_one_map(self, queue: ThreadedQueue, detector: Explaining) -> None:
        drawn = queue.reserve_map(2).submit(image(3)[0])
        assert drawn.result(SECONDS).tolist() == [[20, 21], [22, 23]]
        assert queue.waiting(Lane.BULK).images == 0

    def test_it_waits_its_turn_and_who_left_costs_nothing_more(
        self, make: Callable[..., ThreadedQueue], detector: Explaining
    ) -> None:
        queue = make(batch_size=1)
        first = busy(queue, detector)
        drawn = queue.reserve_map(1).submit(image(3)[0])
        assert queue.waiting(Lane.BULK).images == 4
        detector.at_a_part = drawn.cancel
        detector.may_score.set()
        first.result(SECONDS)
        queue.submit(image(5), 1).result(SECONDS)
        assert drawn.cancelled()
        assert detector.drawn == [(0, 1)]
        assert queue.waiting(Lane.BULK).images == 0

    def test_places_given_up_are_free(self, queue: ThreadedQueue) -> None:
        queue.reserve_map(1).release()
        assert queue.waiting(Lane.BULK).images == 0

    def test_a_part_that_breaks_it_fails_the_map_alone(
        self, queue: ThreadedQueue, detector: Explaining, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> Map:
            raise DeviceOutOfMemory("No room.")

        monkeypatch.setattr(detector, "explain_parts", broken)
        drawn = queue.reserve_map(1).submit(image(3)[0])
        assert isinstance(drawn.exception(SECONDS), DeviceOutOfMemory)
        assert queue.submit(image(5), 1).result(SECONDS).logits.item() == logit(5)
