"""A service with a panel: who judges, who is missing, and that the chief alone is enough."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from d3.container import Container
from d3.domain.errors import CheckpointInvalid
from tests.homes import Home
from tests.service.conftest import Service
from tests.serving import assert_problem, wait_until
from tests.support.images import noise, png
from tests.support.panels import PanelEngine, Shelf

PREDICT = "/api/inference/predict"
IMAGE = png(noise(64, 64, 1))
Start = Callable[..., Service]


@pytest.fixture
def engine() -> PanelEngine:
    return PanelEngine()


@pytest.fixture
def serve(home: Home, start: Start, engine: PanelEngine, tmp_path: Path) -> Start:
    """Starts a service whose registry holds the models ``a`` to ``d``."""
    shelf = Shelf(tmp_path, Container(settings=home.settings()).registry())
    for name in "ab":
        shelf.put(name, "one")
    for name in "cd":
        shelf.put(name)
    return lambda *panel: start(engine, panel=panel, follow_seconds=0.05)


def judged(service: Service, **fields: Any) -> dict[str, Any]:
    answer = service.predict(IMAGE, **fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["result"]
    return found


def told(found: dict[str, Any]) -> dict[str, str]:
    """The verdict of each member."""
    return {one["model"]["name"]: one["verdict"] for one in found["opinions"]}


def ready(service: Service) -> tuple[int, list[str]]:
    answer = service.http.get("/health/ready")
    return answer.status_code, answer.json()["missing"]


def test_every_member_of_the_settings_judges_each_image(serve: Start, engine: PanelEngine) -> None:
    engine.logits = {"a": 3.0, "b": -3.0, "c": 3.0}
    service = serve("a", "b", "c")
    wait_until(lambda: ready(service) == (200, []))
    found = judged(service)
    assert told(found) == {"a": "fake", "b": "real", "c": "fake"}
    assert found["agreement"] == "disagree"
    assert sorted(engine.loads) == [("a", "b"), ("c",)]


def test_the_service_is_ready_with_the_chief_alone_and_says_who_is_missing(
    serve: Start, engine: PanelEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "d3.http")
    engine.failures[("c",)] = CheckpointInvalid("The file of c is damaged.", "Import it again.")
    service = serve("a", "b", "c", "nobody")
    wait_until(lambda: len(ready(service)[1]) == 2)
    status, missing = ready(service)
    assert status == 200
    assert missing[0] == "panel: c (The file of c is damaged. Import it again.)"
    assert missing[1].startswith("panel: nobody (There is no model 'nobody'")
    found = judged(service)
    assert list(told(found)) == ["a", "b"]
    assert [(one["model"], one["code"]) for one in found["missing"]] == [
        *(("c", "invalid_checkpoint"), ("nobody", "model_not_found"))
    ]
    refused = service.predict(IMAGE, panel="c,a")
    assert (refused.status_code, refused.json()["code"]) == (503, "model_not_loaded")
    assert refused.json()["error"].startswith("The model 'c' is not loaded. The file of c is dam")
    metrics = service.http.get("/metrics").text.splitlines()
    assert {"d3_panel_loaded 2.0", "d3_panel_missing 2.0"} <= {*metrics}
    assert 'd3_panel_results_total{agreement="agree"} 1.0' in metrics
    del engine.failures[("c",)]
    assert service.http.post("/api/model/load").status_code == 200
    wait_until(lambda: list(told(judged(service))) == ["a", "b", "c"])
    said = [one.getMessage() for one in caplog.records if one.name == "d3.http"]
    for line in (*(f"{name} version 1 is loaded" for name in "abc"), "the panel goes on without c"):
        assert len([one for one in said if one.startswith(line)]) == 1, line
    assert any("without nobody: There is no model 'nobody'" in one for one in said)


def test_a_request_names_a_panel_of_what_is_loaded(serve: Start, engine: PanelEngine) -> None:
    service = serve("a", "b", "c")
    wait_until(lambda: ready(service) == (200, []))
    found = judged(service, panel="c, a,d")
    assert list(told(found)) == ["c", "a"]
    (absent,) = found["missing"]
    assert (absent["model"], absent["code"]) == ("d", "model_not_served")
    assert "D3_PANEL" in absent["error"]
    alone = judged(service, panel="b")
    assert alone["model"]["name"] == "b"
    refused = service.predict(IMAGE, panel="d,a")
    assert refused.status_code == 422
    assert refused.json()["code"] == "model_not_served"
    assert ("d",) not in engine.loads


def test_a_blank_panel_is_the_services_own(serve: Start) -> None:
    service = serve("a", "b")
    for blank in ("", " "):
        assert list(told(judged(service, panel=blank))) == ["a", "b"]
    for named in ("a,,b", "a,b,", " ,a"):
        sentence = assert_problem(service.predict(IMAGE, panel=named), 400)["error"]
        assert "names is empty" in sentence


def test_another_model_in_use_leaves_the_others(serve: Start, engine: PanelEngine) -> None:
    service = serve("a", "b", "c")
    wait_until(lambda: ready(service) == (200, []))
    assert service.http.post("/api/model/load", params={"name": "d"}).status_code == 200
    wait_until(lambda: list(told(judged(service))) == ["d", "b", "c"])
    refused = service.predict(IMAGE, panel="a,b")
    assert refused.status_code == 422
    assert "'a' is not loaded here. Loaded are: 'd', 'b', 'c'." in refused.json()["error"]
    assert service.http.post("/api/model/unload").status_code == 200
    assert ready(service)[0] == 503
    wait_until(lambda: engine.open == [])
