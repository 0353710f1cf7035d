"""A panel in engine processes: fronts follow all its members, and nothing of one is lost with
another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from d3.adapters.in_process import MemoryResultCache, SystemClock
from d3.adapters.pillow import PillowDecoder
from d3.adapters.remote import RemoteModelHost
from d3.domain.detections import Detection
from d3.domain.errors import CheckpointInvalid, ModelNotServed
from d3.domain.inputs import Fit, InputSpec
from d3.domain.ports.queue import Lane
from d3.domain.services.detection import DetectionService, ImageJudge, SingleFlight
from d3.domain.services.lanes import LanePool
from tests.serving import wait_until
from tests.support.images import noise, png
from tests.support.panels import SECONDS, PanelEngine, Shelf, names_of
from tests.support.remote import EngineProcess, front_of

IMAGE = png(noise(64, 64, 1))
CROP = InputSpec(40, Fit.CROP)
PANEL = ("a", "b", "c")


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an engine process's socket; such paths are short."""
    return tmp_path_factory.mktemp("e") / "e.sock"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """With ``a`` and ``b`` on one encoder, and ``c`` on its own, which takes other pixels."""
    shelf = Shelf(tmp_path)
    shelf.put("a", "one")
    shelf.put("b", "one")
    shelf.put("c", input=CROP)
    return shelf


@pytest.fixture
def closing() -> Iterator[list[RemoteModelHost | EngineProcess]]:
    """Closed in the end, the last first."""
    parts: list[RemoteModelHost | EngineProcess] = []
    yield parts
    for part in reversed(parts):
        part.close()


Start = Callable[..., EngineProcess]
Join = Callable[..., RemoteModelHost]


@pytest.fixture
def start(closing: list[RemoteModelHost | EngineProcess], shelf: Shelf) -> Start:
    def start(engine: PanelEngine, place: Path, **named: object) -> EngineProcess:
        place.unlink(missing_ok=True)
        members = named.pop("members", PANEL)
        more = {"registry": shelf.registry, "members": members} | named
        closing.append(EngineProcess(engine, place, **more))  # type: ignore[arg-type]
        return closing[-1].start()  # type: ignore[return-value]

    return start


@pytest.fixture
def join(closing: list[RemoteModelHost | EngineProcess]) -> Join:
    def join(*places: Path) -> RemoteModelHost:
        closing.append(front_of(*places))
        return closing[-1]  # type: ignore[return-value]

    return join


@pytest.fixture
def detect() -> Iterator[Callable[..., Detection]]:
    """Judges an image as a front does."""
    pool = LanePool(2, 0.2, "test")
    judge = ImageJudge(SystemClock(), SingleFlight())

    def detect(host: RemoteModelHost, *panel: str, **more: object) -> Detection:
        service = DetectionService(host, PillowDecoder(), judge, pool)
        return service.detect(IMAGE, panel=panel or None, **more)  # type: ignore[arg-type]

    yield detect
    pool.shutdown()


def members(host: RemoteModelHost) -> list[str]:
    panel = host.panel_in_use()
    return [] if panel is None else names_of(panel.members)


def said(found: Detection) -> dict[str, float]:
    assert found.panel_verdict is not None
    return {one.model.name: one.logit for one in found.panel_verdict.opinions}


def missing(found: Detection) -> dict[str, str]:
    assert found.panel_verdict is not None
    return {one.model: one.code for one in found.panel_verdict.missing}


def test_a_front_judges_with_every_member(
    start: Start, join: Join, place: Path, detect: Callable[..., Detection]
) -> None:
    engine = PanelEngine()
    engine.logits = {"a": 1.0, "b": 2.0, "c": 3.0}
    start(engine, place)
    host = join(place)
    assert members(host) == ["a", "b", "c"]
    assert said(detect(host)) == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert said(detect(host, "c", "a", views=2)) == {"c": 3.0625, "a": 1.0625}
    assert detect(host, "b").logit == 2.0
    assert missing(detect(host, "a", "nobody")) == {"nobody": "model_not_served"}
    with pytest.raises(ModelNotServed, match="D3_PANEL"):
        detect(host, "nobody", "a")
    shared, own = engine.detectors
    assert {side for _, side, _ in shared.shapes} == {56}
    assert {side for _, side, _ in own.shapes} == {40}


def test_why_a_member_is_missing_is_told_to_the_fronts_and_that_it_came(
    start: Start, join: Join, place: Path, shelf: Shelf, detect: Callable[..., Detection]
) -> None:
    engine = PanelEngine()
    engine.failures[("c",)] = CheckpointInvalid("The file of c is damaged.")
    process = start(engine, place)
    host = join(place)
    found = detect(host)
    assert (list(said(found)), missing(found)) == (["a", "b"], {"c": "invalid_checkpoint"})
    del engine.failures[("c",)]
    process.host.load()
    wait_until(lambda: members(host) == ["a", "b", "c"])
    assert missing(detect(host)) == {}


def test_another_chief_leaves_the_others_queues_as_they_are(
    start: Start, join: Join, place: Path, shelf: Shelf, detect: Callable[..., Detection]
) -> None:
    shelf.put("x")
    engine = PanelEngine()
    start(engine, place)
    first, second = join(place), join(place)
    before = {one.manifest.name: one.queue for one in first.panel_in_use().members}  # type: ignore[union-attr]
    first.load("x")
    assert members(first) == ["x", "b", "c"]
    wait_until(lambda: members(second) == ["x", "b", "c"])
    after = {one.manifest.name: one.queue for one in first.panel_in_use().members}  # type: ignore[union-attr]
    assert after["c"] is before["c"]
    wait_until(lambda: sorted(engine.open) == [("b",), ("c",), ("x",)])
    assert list(said(detect(second))) == ["x", "b", "c"]
    assert first.unload()
    wait_until(lambda: members(second) == [])
    wait_until(lambda: engine.open == [])


def test_an_engine_that_comes_back_with_less_is_used_for_what_it_has(
    start: Start, join: Join, place: Path, detect: Callable[..., Detection]
) -> None:
    first = start(PanelEngine(), place)
    host = join(place)
    assert members(host) == ["a", "b", "c"]
    first.close()
    poorer = PanelEngine()
    poorer.failures[("c",)] = CheckpointInvalid("no")
    start(poorer, place)
    wait_until(lambda: host.panel_in_use() is not None and members(host) == ["a", "b"])
    assert missing(detect(host)) == {"c": "invalid_checkpoint"}


def test_what_an_engine_that_ended_has_not_answered_is_asked_again_of_each_detector(
    start: Start, join: Join, place: Path, detect: Callable[..., Detection]
) -> None:
    engine = PanelEngine()
    first = start(engine, place)
    host = join(place)
    engine.may_score.clear()
    pool = LanePool(2, 0.2, "test")
    judging = pool.submit(partial(detect, host), Lane.INTERACTIVE)
    assert engine.scoring.acquire(timeout=SECONDS)
    assert engine.scoring.acquire(timeout=SECONDS)
    first.server.close()
    first.listener.close()
    start(PanelEngine(), place)
    assert list(said(judging.result(SECONDS))) == ["a", "b", "c"]
    engine.may_score.set()
    pool.shutdown()


def test_two_engine_processes_serve_every_member(
    start: Start, join: Join, place: Path, detect: Callable[..., Detection]
) -> None:
    engines, places = [PanelEngine(), PanelEngine()], [place, place.with_name("f.sock")]
    for engine, one in zip(engines, places, strict=True):
        start(engine, one)
    host = join(*places)
    for one in host.panel_in_use().members:  # type: ignore[union-attr]
        wait_until(lambda one=one: len(one.queue._seats) == 2)
    host.load("c")
    assert members(host) == ["c", "a", "b"]
    for one in host.panel_in_use().members:  # type: ignore[union-attr]
        wait_until(lambda one=one: len(one.queue._seats) == 2)
    assert said(detect(host)) == {"c": 0.0, "a": 0.0, "b": 0.0}


def test_an_image_is_scored_once_for_all_fronts_by_each_detector(
    start: Start, join: Join, place: Path, detect: Callable[..., Detection]
) -> None:
    engine = PanelEngine()
    start(engine, place, flights=SingleFlight(MemoryResultCache(100, 100_000)))
    first, second = join(place), join(place)
    again = [detect(one) for one in (first, second, first)]
    assert len({one.panel_verdict.opinions[1].logit for one in again}) == 1  # type: ignore[union-attr]
    assert [len(one.shapes) for one in engine.detectors] == [1, 1]


def test_slots_are_free_again_in_every_queue(
    start: Start, join: Join, place: Path, detect: Callable[..., Detection]
) -> None:
    engine = PanelEngine()
    process = start(engine, place)
    host = join(place)
    engine.logits = {"c": ZeroDivisionError("of a plug-in")}
    assert missing(detect(host)) == {"c": "detector_failed"}
    there = [one.queue for one in process.host.panel_in_use().members]  # type: ignore[union-attr]
    fronts = [one.queue for one in host.panel_in_use().members]  # type: ignore[union-attr]
    wait_until(
        lambda: not any(queue.waiting(lane).images for queue in there + fronts for lane in Lane)
    )
