"""Nobody is misled: what must be said of a model, and why a verdict is open, in every answer."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import d3
from d3.container import Container
from d3.domain.models import DERIVED_NOTICE, STARTER
from d3.domain.scoring import Reason
from d3.entrypoints.http import create_app
from d3.entrypoints.http.api.schemas import Explanation
from tests.homes import Home
from tests.pictures import paint, scan_all
from tests.service.conftest import Service
from tests.service.test_access import a_key, bearer
from tests.serving import serving
from tests.support.engines import FakeEngine
from tests.support.images import drawn_in_alpha, noise, png, png_rgba

STARTER_FILES = Path(d3.__file__).with_name(STARTER)
WHITE = png(np.full((64, 64, 3), 255, np.uint8))
LACKING = {
    "one_colour": WHITE,
    "too_small": png(np.clip(noise(64, 31), 200, 255)),
    "alpha_only": png_rgba(drawn_in_alpha(64, 64)),
}
PICTURE = png(np.clip(noise(64, 64), 200, 255))


@pytest.fixture
def demo(start: Callable[..., Service]) -> Service:
    """The service with the starter, of which something must be said."""
    return start(model=STARTER)


def notice_of(service: Service) -> str:
    notice: str = service.http.get("/api/model/info").json()["info"]["notice"]
    assert notice
    return notice


@pytest.mark.parametrize("isolated", [False, True])
def test_an_image_that_carries_nothing_has_a_reason_instead_of_a_verdict(
    start: Callable[..., Service], *, isolated: bool
) -> None:
    service = start(isolate_decoding=isolated)
    for reason, image in LACKING.items():
        for cached in (False, True):
            result = service.predict(image).json()["result"]
            assert result["cached"] is cached
            assert (result["verdict"], result["reason"]) == ("uncertain", reason)
            assert result["reason_text"] == Reason(reason).sentence
            assert result["is_fake"] is (result["prediction"] > 0.5)
    result = service.predict(PICTURE).json()["result"]
    assert (result["verdict"], result["reason"], result["reason_text"]) == ("fake", None, None)


def test_reasons_stand_in_rows_exports_batches_and_counts(service: Service) -> None:
    names = [*LACKING, "picture"]
    files = [("files", (name, LACKING.get(name, PICTURE))) for name in names]
    batch = service.http.post("/api/inference/predict-batch", files=files).json()["results"]
    wanted = dict.fromkeys(names) | {name: name for name in LACKING}
    assert {one["filename"]: one["result"]["reason"] for one in batch} == wanted
    rows = service.http.get("/api/inference/history").json()["results"]
    assert {one["image_name"]: one["reason"] for one in rows} == wanted
    assert all((one["reason_text"] is None) == (one["reason"] is None) for one in rows)
    one = service.http.get(f"/api/inference/result/{rows[0]['id']}").json()["result"]
    assert one == rows[0]
    table = service.http.get("/api/inference/history.csv").text
    exported = {one["image_name"]: one for one in csv.DictReader(io.StringIO(table))}
    assert exported["one_colour"]["reason"] == "one_colour"
    assert exported["one_colour"]["reason_text"] == Reason.ONE_COLOUR.sentence
    assert exported["picture"]["reason"] == ""
    lines = service.http.get("/api/inference/history.jsonl").text.splitlines()
    assert {one["image_name"]: one["reason"] for one in map(json.loads, lines)} == wanted
    stats = service.http.get("/api/inference/stats", params={"bucket": "day"}).json()["stats"]
    assert stats["by_verdict"] == {"fake": 1, "real": 0, "uncertain": 3}
    assert stats["total_fake"] + stats["total_real"] == stats["total_inferences"] == 4
    assert stats["total_fake"] == sum(one["is_fake"] for one in rows) > 1
    assert [one["by_verdict"] for one in stats["series"]] == [stats["by_verdict"]]
    open_ones = service.http.get("/api/inference/history", params={"verdict": "uncertain"}).json()
    assert open_ones["total"] == 3
    metrics = service.metrics()
    assert 'd3_images_total{outcome="uncertain"} 3.0' in metrics
    assert 'd3_images_total{outcome="fake"} 1.0' in metrics


def test_the_notice_stands_in_every_answer_row_and_export(demo: Service) -> None:
    said = notice_of(demo)
    answer = demo.predict(PICTURE).json()
    assert answer["result"]["notice"] == said
    batch = demo.http.post("/api/inference/predict-batch", files=[("files", ("b", WHITE))]).json()
    assert [one["result"]["notice"] for one in batch["results"]] == [said]
    rows = demo.http.get("/api/inference/history").json()["results"]
    assert [one["notice"] for one in rows] == [said, said]
    result = demo.http.get(f"/api/inference/result/{answer['inference_id']}").json()["result"]
    assert result["notice"] == said
    table = demo.http.get("/api/inference/history.csv").text
    assert [one["notice"] for one in csv.DictReader(io.StringIO(table))] == [said, said]
    lines = demo.http.get("/api/inference/history.jsonl").text.splitlines()
    assert [json.loads(one)["notice"] for one in lines] == [said, said]
    stats = demo.http.get("/api/inference/stats", params={"bucket": "hour"}).json()["stats"]
    assert (stats["total_inferences"], stats["demo"]) == (2, 2)
    details = demo.http.get("/api/model/list").json()["details"]
    assert {one["name"]: one["notice"] for one in details} == {STARTER: said, "mine": ""}
    with d3.Client(demo.url) as client:
        assert client.predict(PICTURE).result.notice == said
        assert {one.notice for one in client.history()} == {said}
        assert client.stats().by_verdict.uncertain >= 1


def test_a_head_uploaded_onto_the_encoder_has_its_notice_and_rows_outlive_it(
    start: Callable[..., Service],
) -> None:
    service = start(encoder=STARTER, model=STARTER)
    said = DERIVED_NOTICE  # the starter's figures are of its own head and threshold
    files = {"file": ("own.safetensors", (STARTER_FILES / "head.safetensors").read_bytes())}
    sent = service.http.post("/api/model/upload", files=files, data={"name": "own"})
    assert sent.status_code == 200
    service.http.post("/api/model/load", params={"name": "own"})
    assert service.predict(PICTURE).json()["result"]["notice"] == said
    service.http.post("/api/model/load", params={"name": "mine"})
    assert service.predict(PICTURE).json()["result"]["notice"] == ""
    service.application.d3.models.remove("own")
    rows = service.http.get("/api/inference/history").json()["results"]
    assert [(one["model"]["name"], one["notice"]) for one in rows] == [("mine", ""), ("own", said)]
    stats = service.http.get("/api/inference/stats").json()["stats"]
    assert (stats["total_inferences"], stats["demo"]) == (2, 1)


def test_heat_maps_say_it_in_the_picture_itself(home: Home) -> None:
    settings = home.settings(model=STARTER)
    with serving(create_app(settings)) as url, d3.Client(url) as client:
        explanation = client.predict(PICTURE, explain=True).explanation
        said = client.model().notice
    assert isinstance(explanation, Explanation)
    assert explanation.notice == said
    with Image.open(io.BytesIO(base64.b64decode(explanation.overlay))) as overlay:
        overlay.load()
        text = overlay.text  # type: ignore[attr-defined]
    assert text["Notice"] == said
    assert text["Description"] == explanation.meaning
    assert text["Model"].startswith("starter version 1")


def test_scans_say_it_in_the_list_and_beside_every_row(
    demo: Service, home: Home, tmp_path: Path
) -> None:
    said = notice_of(demo)
    paint(tmp_path / "pictures", 3)
    (tmp_path / "pictures/white.png").write_bytes(WHITE)
    container = Container(settings=home.settings(model=STARTER))
    container.engine.override(FakeEngine())
    container.serving.override(True)
    scan_all(container, str(tmp_path / "pictures"), "s")
    admin = bearer(a_key(demo, "root", "admin"))
    (item,) = demo.http.get("/api/scans", headers=admin).json()["scans"]
    assert item["notice"] == said
    assert demo.http.get("/api/scans/s", headers=admin).json()["scan"]["notice"] == said
    rows = demo.http.get("/api/scans/s/results", headers=admin).json()["results"]
    assert {one["notice"] for one in rows} == {said}
    (white,) = [one for one in rows if one["uri"].endswith("white.png")]
    assert (white["verdict"], white["reason"]) == ("uncertain", "one_colour")
    assert white["reason_text"] == Reason.ONE_COLOUR.sentence
