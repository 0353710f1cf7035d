"""Stability: an image is judged under four harmless changes, and a verdict that one turns falls."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from d3.adapters.batching import Bounds, ThreadedQueue
from d3.adapters.in_process import MemoryResultCache, SystemClock
from d3.adapters.pillow import PillowDecoder
from d3.domain.detections import Detection
from d3.domain.errors import DetectorFailed, Overloaded, ScoreUndefined
from d3.domain.images import Pixels
from d3.domain.inputs import CHANGES, Fit, InputSpec
from d3.domain.models import Manifest, ModelFile
from d3.domain.panels import PanelRule
from d3.domain.ports.detector import Logits
from d3.domain.ports.queue import Lane
from d3.domain.scoring import AbstainBand, Calibration, Reason, Verdict
from d3.domain.services.detection import ImageJudge, Job, Judged, SingleFlight, _at_once
from d3.domain.services.model_host import LoadedModel, Panel
from d3.domain.services.questions import Question, release
from d3.testing import FakeDetector
from d3.testing.models import tiny_manifest
from tests.serving import wait_until
from tests.support.images import noise

SECONDS = 20
FILE = ModelFile("0" * 64, 1)
MANIFEST = tiny_manifest(FILE, FILE)


class Watched(FakeDetector):
    """Scores when allowed, and may answer images without a bright frame with something else."""

    frameless: float | Exception | None = None

    def __init__(self) -> None:
        super().__init__()
        self.may_score = threading.Event()
        self.may_score.set()

    def score(self, pixels: Pixels, views: int) -> Logits:
        assert self.may_score.wait(SECONDS)
        logits = super().score(pixels, views)
        frameless = pixels[:, 0, 0].max(axis=1) < 200
        if self.frameless is not None and frameless.any():
            if isinstance(self.frameless, Exception):
                raise self.frameless
            logits[frameless] = self.frameless
        return logits


@pytest.fixture
def detector() -> Watched:
    return Watched()


@pytest.fixture
def queue(detector: Watched) -> Iterator[ThreadedQueue]:
    queue = ThreadedQueue(detector, SystemClock(), Bounds(linger=0, images=64))
    yield queue
    detector.may_score.set()
    queue.close()


def framed(inside: int, frame: int, thickness: int = 10) -> Pixels:
    """A picture that cropping takes the frame off; scored by its mean, which 128 gives 0.5."""
    pixels = np.full((400, 400, 3), frame, np.uint8)
    pixels[thickness:-thickness, thickness:-thickness] = inside
    return pixels


TURNED, STEADY = framed(120, 255), framed(180, 255)


class Asked:
    """Asks about one image, with a judge that remembers."""

    def __init__(self, queue: ThreadedQueue, manifest: Manifest = MANIFEST) -> None:
        self.judge = ImageJudge(SystemClock(), SingleFlight(MemoryResultCache(100, 100_000)))
        self.panel = Panel(LoadedModel(manifest, queue))

    def __call__(self, source: object, **changes: object) -> Detection:
        return self.judged(source, **changes).detection

    def judged(self, source: object, **changes: object) -> Judged:
        question = Question.of(self.panel, **{"stability": True} | changes)
        decode = partial(question.decode, PillowDecoder(), source)
        slots = question.reserve(Lane.INTERACTIVE)
        job = Job(question, "a", decode, _at_once, slots, Lane.INTERACTIVE)
        return self.judge.judge(job).result(SECONDS)


@pytest.fixture
def ask(queue: ThreadedQueue) -> Asked:
    return Asked(queue)


def test_a_verdict_that_a_change_turns_is_uncertain(ask: Asked) -> None:
    plain, tried = ask(TURNED, stability=False), ask(TURNED)
    assert (plain.verdict, plain.reason, plain.stability_probabilities) == ("fake", None, "")
    assert (tried.verdict, tried.reason) == (Verdict.UNCERTAIN, Reason.UNSTABLE)
    assert (tried.is_fake, tried.prediction) == (True, plain.prediction)
    changed = tried.stability
    assert tuple(changed) == CHANGES
    assert changed["cropped"] < 0.5 < min(changed[one] for one in changed if one != "cropped")


def test_a_verdict_that_stands_stays(ask: Asked) -> None:
    tried = ask(STEADY)
    assert (tried.verdict, tried.reason) == (Verdict.FAKE, None)
    assert min(tried.stability.values()) > 0.5
    assert ask(255 - STEADY).verdict is Verdict.REAL


def test_the_threshold_asked_for_is_the_one_that_counts(ask: Asked) -> None:
    assert ask(TURNED, threshold=0.3).verdict is Verdict.FAKE
    assert ask(STEADY, threshold=0.5).reason is None
    assert ask(STEADY, threshold=ask(STEADY).prediction - 1e-6).reason is Reason.UNSTABLE


def test_probabilities_are_calibrated_and_the_band_is_not_a_side(queue: ThreadedQueue) -> None:
    manifest = replace(
        MANIFEST,
        calibration=Calibration(2.0, 1.0, "fitted"),
        abstain_band=AbstainBand(0.1, 0.1),
    )
    tried = Asked(queue, manifest)(framed(120, 0), threshold=0.15)
    logit = 120 / 32 - 4
    assert tried.stability["cropped"] == pytest.approx(
        Calibration(2.0, 1.0).probability(logit), abs=1e-6
    )
    near = Asked(queue, manifest)(framed(120, 255), threshold=0.55)
    assert near.abstain_above == 0.1
    assert 0.55 < near.stability["cropped"] < 0.65, "in the band, on the same side"
    assert near.verdict is Verdict.FAKE


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (np.full((300, 300, 3), 140, np.uint8), Reason.ONE_COLOUR),
        (TURNED[:31], Reason.TOO_SMALL),
        (np.dstack([np.full((64, 64, 3), 140, np.uint8), noise(64, 64)[:, :, 0]]), "alpha_only"),
    ],
)
def test_what_carries_nothing_to_judge_keeps_that_reason(
    ask: Asked, source: Pixels, reason: Reason
) -> None:
    tried = ask(source)
    assert (tried.verdict, tried.reason) == (Verdict.UNCERTAIN, reason)
    assert tuple(tried.stability) == CHANGES


def test_of_an_animation_the_first_frame_is_tried(ask: Asked) -> None:
    frames = [Image.fromarray(one) for one in (STEADY, 255 - STEADY)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    tried = ask(file.getvalue())
    assert (tried.image_frames, tried.verdict) == (2, Verdict.FAKE)
    assert min(tried.stability.values()) > 0.5


def test_each_change_is_seen_by_as_many_views(ask: Asked, detector: Watched) -> None:
    tried = ask(TURNED, views=4)
    assert tried.stability["cropped"] == pytest.approx(
        Calibration().probability(120 / 32 - 4 + np.mean(np.arange(4)) / 8), abs=1e-6
    )
    assert ask(framed(122, 140), views=4).reason is Reason.SPREAD


def test_a_model_that_crops_is_given_the_changed_image_cropped(queue: ThreadedQueue) -> None:
    manifest = replace(MANIFEST, input=InputSpec(200, Fit.CROP))
    tried = Asked(queue, manifest)(framed(120, 255, 20))
    assert tried.verdict is Verdict.REAL, "the middle of the image is all that it sees"
    assert set(tried.stability.values()) == {tried.prediction}


def test_changes_go_in_the_bulk_lane(ask: Asked, detector: Watched, queue: ThreadedQueue) -> None:
    detector.may_score.clear()
    asking = threading.Thread(target=ask, args=[TURNED])
    asking.start()
    wait_until(lambda: queue.waiting(Lane.BULK).images >= 4)
    assert queue.waiting(Lane.INTERACTIVE).images <= 1
    detector.may_score.set()
    asking.join(SECONDS)
    assert sum(detector.batches) == 5
    wait_until(lambda: not any(queue.waiting(lane).images for lane in Lane))


def test_known_logits_are_not_scored_again(ask: Asked, detector: Watched) -> None:
    ask(TURNED, stability=False)
    first = ask.judged(TURNED)
    assert (sum(detector.batches), first.cached) == (5, False)
    again = ask.judged(TURNED, threshold=0.3)
    assert (sum(detector.batches), again.cached) == (5, True)
    assert again.detection.stability == first.detection.stability
    assert again.detection.verdict is Verdict.FAKE
    assert ask.judged(TURNED, stability=False).cached


@pytest.mark.parametrize(
    ("frameless", "error"), [(np.nan, ScoreUndefined), (DetectorFailed("told to"), DetectorFailed)]
)
def test_a_change_that_cannot_be_scored_fails_the_image(
    ask: Asked,
    detector: Watched,
    queue: ThreadedQueue,
    frameless: float | Exception,
    error: type[Exception],
) -> None:
    detector.frameless = frameless  # the cropped image alone
    with pytest.raises(error):
        ask(TURNED)
    assert ask(TURNED, stability=False).verdict is Verdict.FAKE
    wait_until(lambda: not any(queue.waiting(lane).images for lane in Lane))


def test_a_full_bulk_lane_refuses_the_test_and_no_slot_is_kept(
    ask: Asked, queue: ThreadedQueue
) -> None:
    taken = queue.reserve(61, 0, 1, Lane.BULK)
    with pytest.raises(Overloaded):
        ask(TURNED)
    assert queue.waiting(Lane.INTERACTIVE).images == 0
    assert ask(TURNED, stability=False).verdict is Verdict.FAKE
    taken.release(61)
    assert ask(TURNED).reason is Reason.UNSTABLE


@pytest.mark.parametrize("lane", Lane)
def test_a_request_larger_than_its_lane_is_taken_where_that_is_empty(
    ask: Asked, queue: ThreadedQueue, lane: Lane
) -> None:
    question = Question.of(ask.panel, stability=True)
    slots = question.reserve(lane, 40)
    assert sum(queue.waiting(one).images for one in Lane) == 200
    release(slots, 40)
    assert not any(queue.waiting(one).images for one in Lane)


@pytest.mark.parametrize(
    ("rule", "bias", "verdict", "reason"),
    [
        (PanelRule.CHIEF, 2, Verdict.UNCERTAIN, Reason.UNSTABLE),
        (PanelRule.CHIEF, -2, Verdict.UNCERTAIN, Reason.UNSTABLE),
        (PanelRule.ANY, 2, Verdict.FAKE, None),
        (PanelRule.ANY, -2, Verdict.UNCERTAIN, Reason.UNSTABLE),
        (PanelRule.MAJORITY, 2, Verdict.UNCERTAIN, Reason.UNSTABLE),
    ],
)
def test_in_a_panel_the_chief_votes_as_its_stability_says_and_keeps_its_own_opinion(
    ask: Asked, rule: PanelRule, bias: float, verdict: Verdict, reason: Reason | None
) -> None:
    """The other model is so calibrated that every image gets the same probability."""
    other = replace(MANIFEST, name="other", calibration=Calibration(1e-9, bias, "fitted"))
    with closing(ThreadedQueue(FakeDetector(), SystemClock(), Bounds(linger=0))) as apart:
        ask.panel = Panel(ask.panel.chief, (LoadedModel(other, apart),), rule=rule)
        tried = ask(TURNED)
    assert (tried.verdict, tried.reason) == (verdict, reason)
    panel = tried.panel_verdict
    assert panel is not None
    assert (panel.opinions[0].verdict, panel.opinions[0].reason) == (Verdict.FAKE, None)
    assert tuple(tried.stability) == CHANGES
