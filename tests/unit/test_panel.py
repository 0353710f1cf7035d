"""A panel judges: each member by its own lights, one verdict by the rule, and nobody takes another
along.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d3.adapters.batching import Bounds, ThreadedQueue
from d3.adapters.in_process import MemoryResultCache, SystemClock
from d3.adapters.pillow import PillowDecoder
from d3.domain.detections import Detection
from d3.domain.errors import (
    DeadlineExceeded,
    DetectorFailed,
    ModelNotFound,
    ModelNotLoaded,
    Overloaded,
    RequestInvalid,
    ScoreUndefined,
)
from d3.domain.images import DecodedImage, ImageSource
from d3.domain.inputs import Fit, InputSpec, PixelsWanted
from d3.domain.panels import PanelRule
from d3.domain.ports.queue import Lane
from d3.domain.scoring import AbstainBand, Calibration, Reason
from d3.domain.services.detection import DetectionService, ImageJudge, Job, Judged, SingleFlight
from d3.domain.services.lanes import LanePool
from d3.domain.services.local_host import LocalModelHost
from d3.domain.services.questions import Question
from tests.serving import wait_until
from tests.support.images import noise, png
from tests.support.panels import SECONDS, PanelEngine, Shelf

CALIBRATED = Calibration(1.0, 0.0, "photographs")
CROP = InputSpec(40, Fit.CROP)
IMAGE = png(noise(64, 64, 1))


class CountingDecoder(PillowDecoder):
    """Remembers what was wanted of each image."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[list[Any]] = []

    def decode(
        self,
        source: ImageSource,
        wanted: int | PixelsWanted | None,
        also: Sequence[PixelsWanted] = (),
    ) -> DecodedImage:
        self.wanted.append([wanted, *also])
        return super().decode(source, wanted, also)


class Bench:
    """Models, an engine, and a detection service over them."""

    def __init__(self, folder: Path) -> None:
        self.shelf = Shelf(folder)
        self.engine = PanelEngine()
        self.decoder = CountingDecoder()
        self.pool = LanePool(2, 0.2, "test")
        self.clock = SystemClock()
        self.queues: list[ThreadedQueue] = []
        self.bounds = Bounds(linger=0)
        self.judge = ImageJudge(self.clock, SingleFlight())
        self.host = LocalModelHost(self.shelf.registry, lambda: self.engine, self._queue, "a")

    def _queue(self, detector: Any) -> ThreadedQueue:
        self.queues.append(ThreadedQueue(detector, self.clock, self.bounds))
        return self.queues[-1]

    @property
    def service(self) -> DetectionService:
        return DetectionService(self.host, self.decoder, self.judge, self.pool)

    def put(self, *names: str, **changed: Any) -> None:
        for name in names:
            self.shelf.put(name, **changed)

    def detect(self, *panel: str, **more: Any) -> Detection:
        return self.service.detect(IMAGE, panel=panel, **more)

    def all_slots_are_free(self) -> bool:
        return not any(queue.waiting(lane).images for queue in self.queues for lane in Lane)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.engine.may_score.set()
    wait_until(bench.all_slots_are_free)  # whatever happened: no slot is ever lost
    bench.host.close(SECONDS)
    bench.pool.shutdown()


def opinions(found: Detection) -> dict[str, Any]:
    assert found.panel_verdict is not None
    return {one.model.name: one for one in found.panel_verdict.opinions}


def missing(found: Detection) -> dict[str, str]:
    assert found.panel_verdict is not None
    return {one.model: one.code for one in found.panel_verdict.missing}


def test_each_member_judges_with_its_own_threshold_calibration_and_band(bench: Bench) -> None:
    bench.put("a", threshold=0.9)
    bench.put("b", threshold=0.2, calibration=Calibration(2.0, 1.0, "other photographs"))
    bench.put("c", abstain_band=AbstainBand(0.3, 0.3))
    bench.engine.logits = {"a": 1.0, "b": -0.5, "c": 0.1}
    found = bench.detect("a", "b", "c", threshold=0.6)
    said = opinions(found)
    assert list(said) == ["a", "b", "c"]
    assert [one.threshold for one in said.values()] == [0.6, 0.2, 0.5], "asked of the chief alone"
    assert [one.verdict for one in said.values()] == ["fake", "fake", "uncertain"]
    assert said["b"].prediction == pytest.approx(0.5)
    assert said["c"].reason is Reason.ABSTAIN_BAND
    assert [one.calibrated for one in said.values()] == [False, True, False]
    assert (said["a"].calibration, said["b"].calibration) == ("none", "other photographs")
    assert (said["b"].calibration_scale, said["b"].calibration_bias) == (2.0, 1.0)
    assert (said["c"].abstain_below, said["c"].abstain_above) == (0.3, 0.3)
    assert {one.precision for one in said.values()} == {"fp32"}
    assert (found.verdict, found.logit, found.model.name) == ("fake", 1.0, "a")
    assert found.agreement == "partial"
    assert missing(found) == {}


@pytest.mark.parametrize(
    ("rule", "verdict", "reason"),
    [("chief", "uncertain", "panel"), ("any", "fake", None), ("majority", "uncertain", "panel")],
)
def test_the_rule_makes_one_verdict(
    rule: str, verdict: str, reason: str | None, bench: Bench
) -> None:
    bench.put("a")
    bench.put("b", calibration=CALIBRATED)
    bench.engine.logits = {"a": -3.0, "b": 3.0}
    found = bench.detect("a", "b", panel_rule=PanelRule(rule))
    assert (found.verdict, found.reason, found.agreement) == (verdict, reason, "disagree")
    assert found.panel_verdict is not None
    assert found.panel_verdict.rule == rule
    assert found.prediction < 0.1, "the numbers stay the chief's"


def test_who_has_no_calibration_has_no_vote(bench: Bench) -> None:
    bench.put("a", "b")
    bench.engine.logits = {"a": -3.0, "b": 3.0}
    found = bench.detect("a", "b")
    assert (found.verdict, found.reason, found.agreement) == ("real", None, "disagree")


def test_one_model_alone_is_no_panel(bench: Bench) -> None:
    bench.put("a", "b")
    for found in (bench.detect("b"), bench.service.detect(IMAGE)):
        assert (found.panel, found.agreement, found.panel_verdict) == ("", None, None)
    assert bench.detect("b").model.name == "b"


def test_an_image_is_decoded_once_for_all(bench: Bench) -> None:
    bench.put("a", "b")
    bench.put("c", "d", input=CROP)
    assert len(opinions(bench.detect("a", "c", "b", "d"))) == 4
    assert bench.decoder.wanted == [[PixelsWanted(56), CROP.pixels]]
    sides = {one.names: one.shapes[0][1] for one in bench.engine.detectors}
    assert sides == {("a",): 56, ("b",): 56, ("c",): 40, ("d",): 40}


def test_members_of_one_encoder_share_the_pass(bench: Bench) -> None:
    bench.put("a", "b", encoder="one")
    bench.put("c")
    bench.engine.logits = {"a": 1.0, "b": 2.0, "c": 3.0}
    found = bench.detect("a", "b", "c", views=2)
    assert {name: one.logit for name, one in opinions(found).items()} == {
        "a": 1.0625,
        "b": 2.0625,
        "c": 3.0625,
    }
    assert found.logits == (1.0, 1.125)
    shared, own = bench.engine.detectors
    assert (shared.names, shared.shapes) == (("a", "b"), [(1, 56, 2)])
    assert own.shapes == [(1, 56, 2)]
    seconds = [one.seconds for one in opinions(found).values()]
    assert seconds[0] == seconds[1], "each has half of the pass"
    assert sum(seconds) <= found.processing_time


def test_a_member_with_fewer_views_averages_those(bench: Bench) -> None:
    bench.put("a")
    bench.put("b", permutations=(tuple(range(16)),))
    bench.put("c", architecture="ufd", permutations=(), encoder="the encoder of a", input=CROP)
    found = bench.detect("a", "b", "c", views=4)
    assert found.views == 4
    assert [len(one.logits) for one in opinions(found).values()] == [4, 0, 0]
    assert {one.names[0]: one.shapes[0][2] for one in bench.engine.detectors} == {
        "a": 4,
        "b": 1,
        "c": 1,
    }


def test_a_member_that_fails_on_an_image_is_missing_for_it(bench: Bench) -> None:
    bench.put("a", "b", "c", "d")
    bench.engine.logits = {
        "b": DetectorFailed("It cannot.", "Try another."),
        "c": math.nan,
        "d": ZeroDivisionError("of a plug-in"),
    }
    found = bench.detect("a", "b", "c", "d")
    assert list(opinions(found)) == ["a"]
    assert missing(found) == {
        "b": "detector_failed",
        "c": "score_undefined",
        "d": "detector_failed",
    }
    bench.engine.logits = {}
    assert missing(bench.detect("a", "b", "c", "d")) == {}


def test_the_chiefs_failure_is_the_images(bench: Bench) -> None:
    bench.put("a", "b")
    for error, kind in ((math.nan, ScoreUndefined), (DetectorFailed("no"), DetectorFailed)):
        bench.engine.logits = {"a": error}
        with pytest.raises(kind):
            bench.detect("a", "b")


def test_a_score_that_is_no_number_names_the_model_and_its_architecture(bench: Bench) -> None:
    bench.put("a", "b")
    bench.put("c", architecture="odd", package="d3-odd")
    bench.engine.logits = {"b": math.nan, "c": math.nan}
    told = {one.model: one.error for one in bench.detect("a", "b", "c").missing}
    assert told["c"].startswith("The model 'c' (architecture 'odd' of the package d3-odd) gave")
    assert told["b"].startswith("The model 'b' (architecture 'd3') gave")
    assert all(one.endswith("finite number. Use another model.") for one in told.values())


def test_an_answer_of_another_shape_is_that_members_failure(bench: Bench) -> None:
    bench.put("a", "b")
    bench.detect("a", "b")
    detector = bench.engine.detectors[1]
    detector.score = lambda pixels, views: np.zeros((len(pixels), 3 * views))  # type: ignore[method-assign]
    found = bench.detect("a", "b")
    assert missing(found) == {"b": "detector_failed"}


def test_what_carries_nothing_stays_uncertain_by_every_rule(bench: Bench) -> None:
    bench.put("a", "b", calibration=CALIBRATED)
    bench.engine.logits = {"a": 3.0, "b": 3.0}
    small = png(noise(20, 20, 1))
    for rule in PanelRule:
        found = bench.service.detect(small, panel=["a", "b"], panel_rule=rule)
        assert (found.verdict, found.reason) == ("uncertain", "too_small")


def test_many_images_are_judged_in_order_by_all(bench: Bench) -> None:
    bench.put("a", "b", "c")
    images = [png(noise(48, 48, seed)) for seed in range(9)]
    images[4] = b"no image"
    found = list(bench.service.detect_many(images, panel=["a", "b"], errors="return", batch_size=3))
    assert [isinstance(one, Detection) for one in found] == [at != 4 for at in range(9)]
    assert all(len(opinions(one)) == 2 for one in found if isinstance(one, Detection))
    with pytest.raises(ModelNotFound):
        bench.service.detect_many(images, panel=["nobody", "a"])


def test_a_text_names_a_panel_too(bench: Bench) -> None:
    bench.put("a", "b")
    assert [one.model.name for one in bench.service.detect(IMAGE, panel="b, a").opinions] == [
        *("b", "a")
    ]
    with pytest.raises(RequestInvalid, match="Name 'b' alone"):
        bench.service.detect(IMAGE, panel=["a", "b@2"])


@pytest.mark.parametrize("panel", [[], ["a", "a"], "a,a", list("abcdefghi")])
def test_a_panel_that_makes_no_sense_is_refused_with_a_sentence(panel: Any, bench: Bench) -> None:
    with pytest.raises(RequestInvalid, match="1 to 8 different models"):
        bench.service.detect(IMAGE, panel=panel)


def test_known_logits_are_not_scored_again_for_any_member(bench: Bench) -> None:
    bench.put("a", "b", encoder="one")
    bench.put("c")
    bench.judge = ImageJudge(bench.clock, SingleFlight(MemoryResultCache(10, 10_000)))
    first, again = bench.detect("a", "b", "c"), bench.detect("a", "c", "b", threshold=0.7)
    assert [len(one.shapes) for one in bench.engine.detectors] == [1, 1]
    assert first.logit == again.logit
    assert bench.detect("c", "a").model.name == "c"
    assert [len(one.shapes) for one in bench.engine.detectors] == [1, 1]


def asked(bench: Bench, *names: str, lane: Lane = Lane.BULK, **more: Any) -> Future[Judged]:
    """An image on its way through the judge."""
    with bench.host.panel(names, load=True) as panel:
        question = Question.of(panel)
    deadline = more.get("deadline")
    slots = question.reserve(lane, deadline=deadline)
    decode: Callable[[], DecodedImage] = partial(question.decode, bench.decoder, IMAGE)
    submit = partial(bench.pool.submit, lane=lane)
    return bench.judge.judge(Job(question, "image", decode, submit, slots, lane, deadline))


@pytest.mark.parametrize("begun", range(4))
def test_who_is_cancelled_leaves_no_queue_a_slot(begun: int, bench: Bench) -> None:
    bench.put("a", "b", "c")
    bench.engine.may_score.clear()
    judging = asked(bench, "a", "b", "c")
    for _ in range(begun):
        assert bench.engine.scoring.acquire(timeout=SECONDS)
    judging.cancel()
    bench.engine.may_score.set()
    wait_until(bench.all_slots_are_free)


def test_an_image_that_is_none_gives_every_slot_back(bench: Bench) -> None:
    bench.put("a", "b")
    with bench.host.panel(["a", "b"], load=True) as panel:
        question = Question.of(panel)
    slots = question.reserve(Lane.BULK, 3)

    def fail() -> DecodedImage:
        raise DeadlineExceeded("too late")

    submit = partial(bench.pool.submit, lane=Lane.BULK)
    for _ in range(3):
        judging = bench.judge.judge(Job(question, "image", fail, submit, slots, Lane.BULK))
        assert isinstance(judging.exception(SECONDS), DeadlineExceeded)
    assert bench.all_slots_are_free()


def test_a_full_queue_of_a_member_refuses_and_nothing_stays_reserved(bench: Bench) -> None:
    bench.put("a", "b", "c")
    bench.bounds = Bounds(linger=0, images=4)
    with bench.host.panel(["a", "b", "c"], load=True) as panel:
        question = Question.of(panel)
    taken = panel.others[1].queue.reserve(4, 0, 1)
    with pytest.raises(Overloaded):
        question.reserve(Lane.INTERACTIVE, 2)
    taken.release(4)
    assert bench.all_slots_are_free()


def test_a_member_whose_queue_is_closed_is_missing(bench: Bench) -> None:
    bench.put("a", "b")
    bench.detect("a", "b")
    bench.queues[1].close()
    assert missing(bench.detect("a", "b")) == {"b": "model_not_loaded"}
    with pytest.raises(ModelNotLoaded):
        bench.detect("b", "a")


def test_what_must_be_said_of_a_member_is_said(bench: Bench) -> None:
    bench.put("a", notice="A demo.")
    bench.put("b", notice="Another demo.")
    bench.put("c", notice="A demo.")
    assert bench.detect("a", "b", "c").notice == "a and c: A demo. b: Another demo."
    assert bench.detect("a").notice == "A demo."
