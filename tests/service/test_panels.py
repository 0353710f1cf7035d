"""A panel as a client meets it: opinions in every answer, filters, counts, and who is missing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from d3.adapters.evidence import EvidenceBundles, SigningKeyFile
from d3.client import Client
from d3.container import Container
from d3.domain.evidence import check_case
from d3.domain.panels import Agreement, PanelRule
from d3.domain.scoring import Calibration, Reason
from d3.testing.models import tiny_ferretnet
from tests.homes import Home
from tests.service.conftest import Service
from tests.support.images import noise, png
from tests.support.panels import PanelEngine

HISTORY, STATS, INFO = "/api/inference/history", "/api/inference/stats", "/api/model/info"
PICTURES = [png(noise(64, 64, seed=seed)) for seed in range(3)]
NEWS = Calibration(1.0, 0.0, "news")


@pytest.fixture
def engine() -> PanelEngine:
    engine = PanelEngine()
    engine.logits = {"mine": 2.0, "second": -2.0, "third": 2.0}
    return engine


@pytest.fixture
def service(
    home: Home, start: Callable[..., Service], engine: PanelEngine, tmp_path: Path
) -> Service:
    """The service with a panel of two, whose second is calibrated; a third lies in its registry."""
    registry = Container(settings=home.settings()).registry()
    for name in ("second", "third"):
        model = tiny_ferretnet(tmp_path, name)
        registry.put(replace(model, manifest=replace(model.manifest, calibration=NEWS)))
    return start(engine, panel=("mine", "second"))


def judge(service: Service, number: int = 0, **fields: Any) -> dict[str, Any]:
    answer = service.predict(PICTURES[number], **fields)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()["result"]
    return result


@pytest.mark.on_servers
def test_every_answer_and_export_has_the_opinions(service: Service) -> None:
    result = judge(service)
    assert (result["verdict"], result["reason"]) == ("uncertain", Reason.PANEL)
    assert (result["agreement"], result["panel_rule"]) == ("disagree", "chief")
    chief, second = result["opinions"]
    assert (chief["model"], chief["verdict"]) == (result["model"], "fake")
    assert (second["model"]["name"], second["verdict"], second["reason"]) == (
        "second",
        "real",
        None,
    )
    assert (second["calibration"], second["calibrated"]) == ("news", True)
    assert second["logit"] == -2.0
    assert result["missing"] == []
    kept = service.http.get("/api/inference/result/1").json()["result"]
    (listed,) = service.http.get(HISTORY).json()["results"]
    (line,) = service.http.get(f"{HISTORY}.jsonl").text.splitlines()
    (row,) = csv.DictReader(io.StringIO(service.http.get(f"{HISTORY}.csv").text))
    for name in ("opinions", "missing", "agreement", "panel_rule", "stability"):
        for told in (kept, listed, json.loads(line)):
            assert told[name] == result[name], name
    assert json.loads(row["panel"])["opinions"] == result["opinions"]
    assert (row["agreement"], row["stability_probabilities"]) == ("disagree", "")
    batch = service.http.post(
        "/api/inference/predict-batch", files=[("files", ("a.png", PICTURES[1]))]
    )
    (item,) = batch.json()["results"]
    assert [one["verdict"] for one in item["result"]["opinions"]] == ["fake", "real"]


def test_one_model_has_no_opinions_of_others(service: Service) -> None:
    result = judge(service, panel="mine")
    assert result["verdict"] == "fake"
    assert (result["opinions"], result["missing"], result["stability"]) == ([], [], {})
    assert (result["agreement"], result["panel_rule"]) == (None, None)


@pytest.mark.parametrize(
    ("rule", "verdict"), [("chief", "uncertain"), ("any", "fake"), ("majority", "uncertain")]
)
def test_a_request_names_its_panel_and_rule(service: Service, rule: str, verdict: str) -> None:
    result = judge(service, panel="second, mine", panel_rule=rule)
    assert [one["model"]["name"] for one in result["opinions"]] == ["second", "mine"]
    assert (result["panel_rule"], result["model"]["name"]) == (rule, "second")
    alone = judge(service, panel_rule=rule)
    assert alone["verdict"] == verdict


def test_a_member_that_is_not_loaded_is_missing_and_the_others_go_on(service: Service) -> None:
    result = judge(service, panel="mine,third,nobody")
    assert [one["model"] for one in result["missing"]] == ["third", "nobody"]
    assert all(one["code"] == "model_not_served" for one in result["missing"])
    assert all("is not loaded" in one["error"] for one in result["missing"])
    assert [one["model"]["name"] for one in result["opinions"]] == ["mine"]
    assert (result["panel_rule"], result["agreement"]) == ("chief", None)
    page = service.http.get("/history/1").text
    assert "There is nothing to compare: third and nobody gave no opinion." in page
    refused = service.predict(PICTURES[0], panel="third,mine")
    assert (refused.status_code, refused.json()["code"]) == (422, "model_not_served")
    assert "'third' is not loaded" in refused.json()["error"]


@pytest.mark.parametrize(
    ("panel", "code", "sentence"),
    [
        ("second,mine", "explanation_unavailable", "of a ferretnet cannot be explained"),
        ("mine,second", "explanation_unavailable", "The engine 'fake' cannot explain"),
        ("third,mine", "model_not_served", "'third' is not loaded here"),
    ],
)
def test_a_heat_map_is_of_the_chief_that_is_asked_for_or_there_is_a_sentence(
    service: Service, panel: str, code: str, sentence: str
) -> None:
    refused = service.predict(PICTURES[0], panel=panel, explain="true")
    assert (refused.status_code, refused.json()["code"]) == (422, code)
    assert sentence in refused.json()["error"]
    assert service.http.get(HISTORY).json()["count"] == 0


def test_a_member_that_fails_is_missing(service: Service, engine: PanelEngine) -> None:
    engine.logits["second"] = RuntimeError("boom")
    result = judge(service)
    (missing,) = result["missing"]
    assert missing["model"] == "second"
    assert "boom" not in missing["error"]
    assert result["verdict"] == "fake"


NO_QUESTION: list[tuple[dict[str, Any], str, str]] = [
    ({"panel": "mine,mine"}, "invalid_request", "1 to 8 different models"),
    ({"panel": ",".join(f"m{n}" for n in range(9))}, "invalid_request", "1 to 8 different"),
    ({"panel": "mine,../x"}, "invalid_model_name", "cannot be a model's name"),
    ({"panel": "mine,"}, "invalid_request", "names is empty"),
    ({"panel_rule": "all"}, "invalid_request", "'chief', 'any' or 'majority'"),
    ({"stability": "1"}, "invalid_form", "Send true or false."),
    ({"panels": "mine"}, "invalid_form", "Did you mean 'panel'?"),
    ({"panel": ["mine", "second"]}, "invalid_form", "more than once"),
]


@pytest.mark.parametrize("call", ["predict", "predict-batch"])
def test_a_panel_that_makes_no_sense_is_refused_with_a_sentence(
    service: Service, call: str
) -> None:
    files = [("file" if call == "predict" else "files", ("a.png", PICTURES[0]))]
    for fields, code, sentence in NO_QUESTION:
        answer = service.http.post(f"/api/inference/{call}", files=files, data=fields)
        assert (answer.status_code, answer.json()["code"]) == (400, code), answer.text
        assert sentence in answer.json()["error"]
    assert service.rows() == 0


@pytest.mark.on_servers
def test_another_panel_under_the_same_key_is_another_request(service: Service) -> None:
    def send(**fields: Any) -> Any:
        return service.http.post(
            "/api/inference/predict",
            files={"file": ("a.png", PICTURES[0])},
            data=fields,
            headers={"Idempotency-Key": "k"},
        )

    asked = {"panel": "mine,second", "panel_rule": "any", "stability": "false"}
    first, again = send(**asked), send(**asked)
    assert (first.status_code, again.content) == (200, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    for other in ({"panel": "mine"}, {"panel_rule": "chief"}, {"stability": "true"}):
        refused = send(**asked | other)
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert service.rows() == 1


@pytest.mark.on_servers
def test_the_history_and_the_statistics_know_who_disagreed(
    service: Service, engine: PanelEngine
) -> None:
    judge(service, 0)
    engine.logits["second"] = 3.0
    judge(service, 1)
    judge(service, 2, panel="mine")
    judge(service, 2, panel="mine,third")
    listed = {
        asked: [
            one["id"] for one in service.http.get(f"{HISTORY}?disagree={asked}").json()["results"]
        ]
        for asked in ("true", "false")
    }
    assert listed == {"true": [1], "false": [2]}
    assert len(service.http.get(f"{HISTORY}.csv?disagree=true").text.splitlines()) == 2
    stats = service.http.get(STATS, params={"group": "agreement", "bucket": "day"}).json()["stats"]
    counts = {"agree": 1, "partial": 0, "disagree": 1}
    assert stats["agreement"] == counts
    assert [one["agreement"] for one in stats["series"]] == [counts]
    assert {one["name"]: one["total_inferences"] for one in stats["groups"]} == {
        **dict.fromkeys(("agree", "disagree"), 1),
        None: 2,
    }
    only = service.http.get(STATS, params={"disagree": "true"}).json()["stats"]
    assert (only["total_inferences"], only["agreement"]["disagree"]) == (1, 1)
    wrong = service.http.get(f"{HISTORY}?disagree=perhaps")
    assert wrong.status_code == 400


def test_the_evidence_of_a_panels_verdict_follows_from_its_opinions(
    service: Service, home: Home, tmp_path: Path
) -> None:
    keys = SigningKeyFile(home.path / "signing.pem")
    keys.make()
    judge(service, 0, views=1)
    judge(service, 1, panel_rule="any", stability="true")
    judge(service, 2, panel="second,mine,third", panel_rule="majority")
    for number in (1, 2, 3):
        file = tmp_path / f"{number}.zip"
        file.write_bytes(service.http.get(f"/api/inference/result/{number}/evidence").content)
        case = EvidenceBundles(keys).open(file).case
        check_case(case)
        assert case.format_version == 2
        assert len(case.result.opinions) == 2
        report = service.http.get(f"/history/{number}/report.pdf")
        assert report.content.startswith(b"%PDF")


def test_the_panel_in_use_is_told_and_who_is_missing(
    service: Service, start: Callable[..., Service], engine: PanelEngine
) -> None:
    info = service.http.get(INFO).json()["info"]
    members = [(one["name"], one["version"], one["loaded"]) for one in info["panel"]]
    assert members == [("mine", 1, True), ("second", 1, True)]
    assert info["panel_rule"] == "chief"
    lacking = start(engine, panel=("mine", "nobody"), panel_rule="majority")
    info = lacking.http.get(INFO).json()["info"]
    assert [one["loaded"] for one in info["panel"]] == [True, False]
    assert "nobody" in info["panel"][1]["error"]
    assert info["panel_rule"] == "majority"
    alone = start(engine, panel=("mine",)).http.get(INFO).json()["info"]
    assert (alone["panel"], alone["panel_rule"]) == ([], None)


def test_the_client_asks_for_a_panel_and_reads_its_opinions(service: Service) -> None:
    with Client(service.url) as client:
        result = client.predict(
            PICTURES[0], panel=["mine", "second"], panel_rule="any", stability=True
        ).result
        assert [one.model.name for one in result.opinions] == ["mine", "second"]
        assert (result.panel_rule, result.agreement) == (PanelRule.ANY, Agreement.DISAGREE)
        assert {*result.stability} == {"jpeg", "scaled", "cropped", "mirrored"}
        batch = client.predict_batch([PICTURES[1]], panel="mine,second,third")
        (item,) = batch.results
        assert [one.model for one in item.result.missing] == ["third"]
        assert [one.id for one in client.history(disagree=True)] == [2, 1]
        assert not list(client.history(disagree=False))
        assert client.stats(group="agreement").agreement.disagree == 2
        assert [one.name for one in client.model().panel] == ["mine", "second"]
