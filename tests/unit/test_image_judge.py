"""The way of one image: identical ones are scored once, and nobody suffers from another's fate."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from functools import partial

import numpy as np
import pytest

from d3.adapters.batching import Bounds, ThreadedQueue
from d3.adapters.in_process import MemoryResultCache, SystemClock
from d3.adapters.pillow import PillowDecoder
from d3.domain.errors import DetectorFailed, ImageDamaged
from d3.domain.images import Pixels
from d3.domain.models import ModelFile
from d3.domain.ports.detector import Logits
from d3.domain.ports.queue import Lane
from d3.domain.services.detection import ImageJudge, Job, Judged, SingleFlight
from d3.domain.services.lanes import LanePool
from d3.domain.services.model_host import LoadedModel, Panel
from d3.domain.services.questions import Question
from d3.testing import FakeDetector
from d3.testing.models import tiny_manifest
from tests.serving import wait_until
from tests.support.images import noise, png

SECONDS = 20


class Held(FakeDetector):
    """Scores when allowed; fails as often as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_score = threading.Event()
        self.began = threading.Event()
        self.failures = 0
        self.images = 0

    def score(self, pixels: Pixels, views: int) -> Logits:
        self.began.set()
        assert self.may_score.wait(SECONDS)
        self.images += len(pixels)
        if self.failures:
            self.failures -= 1
            raise DetectorFailed("told to fail")
        return super().score(pixels, views)


@pytest.fixture
def detector() -> Held:
    return Held()


@pytest.fixture
def queue(detector: Held) -> Iterator[ThreadedQueue]:
    queue = ThreadedQueue(detector, SystemClock(), Bounds(linger=0))
    yield queue
    detector.may_score.set()
    queue.close()


@pytest.fixture
def pool() -> Iterator[LanePool]:
    pool = LanePool(2, 0.2, "test")
    yield pool
    pool.shutdown()


Ask = Callable[..., Future[Judged]]


@pytest.fixture
def ask(queue: ThreadedQueue, pool: LanePool) -> Ask:
    judge, decoder, file = (
        ImageJudge(SystemClock(), SingleFlight()),
        PillowDecoder(),
        ModelFile("0" * 64, 1),
    )
    model = Panel(LoadedModel(tiny_manifest(file, file), queue))

    def ask(
        data: bytes,
        *,
        lane: Lane = Lane.INTERACTIVE,
        threshold: float = 0.5,
        views: int = 1,
        judge: ImageJudge = judge,
    ) -> Future[Judged]:
        question = Question.of(model, threshold=threshold, views=views)
        slots = question.reserve(lane, 1, len(data))
        decode = partial(question.decode, decoder, data)
        submit = partial(pool.submit, lane=lane)
        return judge.judge(Job(question, "a.png", decode, submit, slots, lane))

    return ask


def all_slots_are_free(queue: ThreadedQueue) -> bool:
    return not any(queue.waiting(lane).images for lane in Lane)


def let_decode(pool: LanePool, lane: Lane) -> None:
    """Wait until the pool's two threads have done all that the lane has asked for."""
    done = threading.Barrier(3)
    for _ in range(2):
        pool.submit(partial(done.wait, SECONDS), lane)
    done.wait(SECONDS)


def busy(ask: Ask, detector: Held) -> Future[Judged]:
    """The device works on another image until it is allowed to go on."""
    other = ask(png(noise(40, 40, 99)))
    assert detector.began.wait(SECONDS)
    return other


PICTURE = png(noise(48, 48, 1))


def test_identical_images_in_flight_are_scored_once(
    ask: Ask, detector: Held, queue: ThreadedQueue, pool: LanePool
) -> None:
    busy(ask, detector)
    asked = [ask(PICTURE, threshold=level / 10) for level in range(1, 9)]
    let_decode(pool, Lane.INTERACTIVE)
    detector.may_score.set()
    found = [one.result(SECONDS).detection for one in asked]
    assert detector.images == 2, "one for the device's own, one for all eight"
    assert len({one.logit for one in found}) == 1
    assert [one.threshold for one in found] == [level / 10 for level in range(1, 9)]
    assert [one.is_fake for one in found] == [one.prediction > one.threshold for one in found]
    wait_until(lambda: all_slots_are_free(queue))


def test_other_images_and_other_views_are_scored_for_themselves(ask: Ask, detector: Held) -> None:
    busy(ask, detector)
    asked = [ask(PICTURE), ask(PICTURE, views=2), ask(png(noise(48, 48, 2)))]
    detector.may_score.set()
    for one in asked:
        one.result(SECONDS)
    assert detector.images == 4


def test_one_that_failed_first_takes_no_other_along(
    ask: Ask, detector: Held, queue: ThreadedQueue
) -> None:
    other = busy(ask, detector)
    asked = [ask(PICTURE) for _ in range(3)]
    wait_until(lambda: queue.waiting(Lane.INTERACTIVE).images == 3)
    detector.failures = 2  # the image on the device, and the first of the three
    detector.may_score.set()
    assert isinstance(other.exception(SECONDS), DetectorFailed)
    failures = [one for one in asked if isinstance(one.exception(SECONDS), DetectorFailed)]
    assert len(failures) == 1
    wait_until(lambda: all_slots_are_free(queue))


def test_one_that_is_cancelled_first_takes_no_other_along(
    ask: Ask, detector: Held, queue: ThreadedQueue
) -> None:
    busy(ask, detector)
    first = ask(PICTURE)
    wait_until(lambda: queue.waiting(Lane.INTERACTIVE).oldest_seconds > 0)
    second = ask(PICTURE)
    wait_until(lambda: queue.waiting(Lane.INTERACTIVE).images == 2)
    assert first.cancel()
    detector.may_score.set()
    assert second.result(SECONDS).detection.verdict
    with pytest.raises(CancelledError):
        first.result(SECONDS)
    wait_until(lambda: all_slots_are_free(queue))


def test_one_that_waits_for_another_and_leaves_does_not_stop_it(
    ask: Ask, detector: Held, queue: ThreadedQueue
) -> None:
    busy(ask, detector)
    first = ask(PICTURE)
    wait_until(lambda: queue.waiting(Lane.INTERACTIVE).oldest_seconds > 0)
    assert ask(PICTURE).cancel()
    detector.may_score.set()
    assert first.result(SECONDS).detection.verdict
    wait_until(lambda: all_slots_are_free(queue))


def test_nobody_who_is_in_a_hurry_waits_for_bulk(
    ask: Ask, detector: Held, queue: ThreadedQueue, pool: LanePool
) -> None:
    busy(ask, detector)
    ask(PICTURE, lane=Lane.BULK)
    wait_until(lambda: queue.waiting(Lane.BULK).oldest_seconds > 0)
    hurried = ask(PICTURE)
    wait_until(lambda: queue.waiting(Lane.INTERACTIVE).oldest_seconds > 0)
    bulk = ask(PICTURE, lane=Lane.BULK)  # that one may wait for either
    let_decode(pool, Lane.BULK)
    detector.may_score.set()
    assert hurried.result(SECONDS).detection.logit == bulk.result(SECONDS).detection.logit
    assert detector.images == 3


def test_a_bad_image_gives_its_slot_back(ask: Ask, queue: ThreadedQueue) -> None:
    assert isinstance(ask(PICTURE[:80]).exception(SECONDS), ImageDamaged)
    wait_until(lambda: all_slots_are_free(queue))


def test_what_a_decoder_never_says_is_an_error_of_ours(
    queue: ThreadedQueue, pool: LanePool
) -> None:
    file = ModelFile("0" * 64, 1)
    question = Question.of(Panel(LoadedModel(tiny_manifest(file, file), queue)))

    def decode() -> object:
        raise RuntimeError("not ours")

    slots = question.reserve(Lane.BULK)
    submit = partial(pool.submit, lane=Lane.BULK)
    judged = ImageJudge(SystemClock(), SingleFlight()).judge(
        Job(question, "a", decode, submit, slots, Lane.BULK)
    )
    error = judged.exception(SECONDS)
    assert isinstance(error, DetectorFailed)
    assert isinstance(error.__cause__, RuntimeError)
    wait_until(lambda: all_slots_are_free(queue))


def test_what_the_cache_knows_is_not_scored(ask: Ask, detector: Held) -> None:
    detector.may_score.set()
    judge = ImageJudge(SystemClock(), SingleFlight(MemoryResultCache(10, 10_000)))
    first = ask(PICTURE, judge=judge).result(SECONDS)
    second = ask(PICTURE, judge=judge, threshold=0.9).result(SECONDS)
    assert (first.cached, second.cached) == (False, True)
    assert second.detection.logit == first.detection.logit
    assert second.detection.threshold == 0.9
    assert np.isfinite(second.detection.logit)
    assert detector.images == 1


def test_what_one_that_left_began_is_remembered_all_the_same(
    ask: Ask, detector: Held, queue: ThreadedQueue
) -> None:
    judge = ImageJudge(SystemClock(), SingleFlight(MemoryResultCache(10, 10_000)))
    first = ask(PICTURE, judge=judge)
    assert detector.began.wait(SECONDS)
    assert first.cancel()
    detector.may_score.set()
    wait_until(lambda: all_slots_are_free(queue))
    wait_until(lambda: ask(PICTURE, judge=judge).result(SECONDS).cached)
    assert detector.images == 1
