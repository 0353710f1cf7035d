"""Judging images, with a detector made for it: order, failures, limits of what is read ahead."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from d3.adapters.batching import Bounds, ThreadedQueue
from d3.adapters.pillow import PillowDecoder
from d3.domain.detections import Detection, Failure
from d3.domain.errors import (
    ImageDamaged,
    ImageUnsupported,
    RequestInvalid,
    ScoreUndefined,
    ThresholdInvalid,
)
from d3.domain.images import Pixels
from d3.domain.models import StoredModel
from d3.domain.ports.detector import Detector, Logits
from d3.domain.services.detection import DetectionService, ImageJudge, SingleFlight
from d3.domain.services.lanes import LanePool
from d3.domain.services.local_host import LocalModelHost
from d3.testing import FakeClock, FakeDetector
from tests.support.contracts.registries import RegistryFiles
from tests.support.images import noise, png
from tests.support.memory import MemoryRegistry


class Overflowing(FakeDetector):
    """Answers white images with infinity."""

    def score(self, pixels: Pixels, views: int) -> Logits:
        logits = super().score(pixels, views)
        logits[pixels.reshape(len(pixels), -1).min(1) == 255] = np.inf
        return logits


class OneDetector:
    """An engine that gives the same detector for every model."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def load(self, model: StoredModel) -> Detector:
        return self._detector


@pytest.fixture
def detector() -> FakeDetector:
    return Overflowing()


@pytest.fixture
def service(detector: FakeDetector, tmp_path: Path) -> DetectionService:
    registry, clock = MemoryRegistry(), FakeClock()
    RegistryFiles(registry, tmp_path).put("mine")
    host = LocalModelHost(
        registry,
        engine=lambda: OneDetector(detector),
        queue=lambda one: ThreadedQueue(one, clock, Bounds.offline(100)),
        choice="mine",
    )
    return DetectionService(
        host, PillowDecoder(), ImageJudge(clock, SingleFlight()), LanePool(2, 0.2, "test")
    )


def grey(level: int) -> Pixels:
    return np.full((8, 8, 3), level, np.uint8)


def nearly(level: int) -> Pixels:
    """A picture: one colour but for a pixel."""
    pixels = np.full((64, 64, 3), level, np.uint8)
    pixels[40, 40] += 1
    return pixels


def test_the_verdict_follows_the_pixels(service: DetectionService) -> None:
    black, light = service.detect(nearly(0)), service.detect(nearly(200))
    assert (black.verdict, black.is_fake, black.reason) == ("real", False, None)
    assert (light.verdict, light.is_fake, light.reason) == ("fake", True, None)
    assert (black.logit, light.logit) == pytest.approx((-4, 2.25), abs=0.05)
    assert (light.engine, light.precision, light.model.name) == ("fake", "fp32", "mine")


def test_what_carries_nothing_is_scored_and_not_judged(service: DetectionService) -> None:
    plain, small = np.full((64, 64, 3), 200, np.uint8), nearly(200)[20:51]
    alpha = np.dstack([plain, nearly(1)[:, :, 0]])
    judged = list(service.detect_many([plain, small, alpha, nearly(200)]))
    assert [one.verdict for one in judged] == ["uncertain", "uncertain", "uncertain", "fake"]
    assert [one.reason for one in judged] == ["one_colour", "too_small", "alpha_only", None]
    assert "fewer than 32 pixels" in str(judged[1].reason_text)
    assert judged[3].reason_text is None
    assert all(one.is_fake and one.prediction > 0.9 for one in judged)
    assert [one.reason for one in (service.detect(one) for one in (plain, small))] == [
        *("one_colour", "too_small")
    ]


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_answers_come_in_the_order_of_the_questions(
    batch_size: int, service: DetectionService, detector: FakeDetector
) -> None:
    levels = list(range(0, 250, 11))
    outcomes = service.detect_many(map(grey, levels), batch_size=batch_size)
    assert [one.logit for one in outcomes] == [level / 32 - 4 for level in levels]
    assert max(detector.batches) <= batch_size


def test_a_queue_of_its_own_thread_has_the_next_batch_before_this_one_is_told(
    detector: FakeDetector, tmp_path: Path
) -> None:
    """So that the detector goes on while whoever asked is busy with the answers."""
    registry, clock = MemoryRegistry(), FakeClock()
    RegistryFiles(registry, tmp_path).put("mine")
    host = LocalModelHost(
        registry,
        engine=lambda: OneDetector(detector),
        queue=lambda one: ThreadedQueue(one, clock, Bounds(batch_size=2)),
        choice="mine",
    )
    service = DetectionService(
        host, PillowDecoder(), ImageJudge(clock, SingleFlight()), LanePool(2, 0.2, "test")
    )
    outcomes = service.detect_many(map(grey, [0, 32, 64, 96, 128, 160, 192]), batch_size=2)
    first = next(outcomes)
    deadline = time.monotonic() + 10
    while len(detector.batches) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(detector.batches) >= 2
    assert [one.logit for one in (first, *outcomes)] == [-4, -3, -2, -1, 0, 1, 2]
    host.close()


def test_bad_images_fail_alone_and_in_their_place(service: DetectionService) -> None:
    sources = [grey(0), b"no image", png(noise(9, 9))[:60], grey(255), grey(99)]
    outcomes = list(service.detect_many(sources, errors="return"))
    kinds = [type(one.error) if isinstance(one, Failure) else type(one) for one in outcomes]
    assert kinds == [Detection, ImageUnsupported, ImageDamaged, ScoreUndefined, Detection]


def test_an_answer_that_is_no_number_is_an_error_of_ours(service: DetectionService) -> None:
    with pytest.raises(ScoreUndefined):
        service.detect(grey(255))


def test_only_a_bounded_number_of_images_is_read_ahead(service: DetectionService) -> None:
    taken = 0

    def endless() -> Iterator[Pixels]:
        nonlocal taken
        while True:
            taken += 1
            yield grey(taken % 200)

    outcomes = service.detect_many(endless(), batch_size=4)
    for _ in range(8):
        next(outcomes)
    outcomes.close()
    assert taken <= 8 + 3 * 4


def test_a_senseless_question_is_refused_before_any_image_is_taken(
    service: DetectionService,
) -> None:
    sources = iter([grey(0)])
    with pytest.raises(ThresholdInvalid):
        service.detect_many(sources, threshold=float("nan"))
    assert next(sources) is not None


def test_more_views_are_averaged_and_their_spread_said(service: DetectionService) -> None:
    one, four = service.detect(grey(128)), service.detect(grey(128), views=4)
    assert (one.spread, one.views, four.views) == (0, 1, 4)
    assert four.logit == one.logit + (0 + 1 + 2 + 3) / 4 / 8
    assert four.spread > 0
    assert four.verdict == "uncertain"


@pytest.mark.parametrize("one", ["a.jpg", Path("a.jpg"), b"bytes"])
def test_one_image_is_not_taken_for_many(one: object, service: DetectionService) -> None:
    with pytest.raises(RequestInvalid, match="several images"):
        service.detect_many(one)  # type: ignore[arg-type]


def test_a_huge_batch_reads_no_further_ahead_than_memory_allows(service: DetectionService) -> None:
    taken = 0

    def endless() -> Iterator[Pixels]:
        nonlocal taken
        while True:
            taken += 1
            yield grey(taken % 200)

    outcomes = service.detect_many(endless(), batch_size=10**9)
    next(outcomes)
    outcomes.close()
    assert taken <= 3 * 256
