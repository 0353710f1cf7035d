"""The model's life through a real socket: load, unload, list, info, upload, swap."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from d3.container import Container
from d3.domain.errors import DeviceOutOfMemory
from d3.domain.services.prediction import PredictionRequest, Upload
from d3.testing import tiny_ferretnet
from tests.homes import Home
from tests.service.conftest import Service, painted
from tests.serving import assert_problem, wait_until
from tests.support.engines import FakeEngine

INFO, LIST = "/api/model/info", "/api/model/list"
LOAD, UNLOAD, UPLOAD = "/api/model/load", "/api/model/unload", "/api/model/upload"


def upload(service: Service, content: bytes, filename: str = "head.pth", **data: Any) -> Any:
    return service.http.post(UPLOAD, files={"file": (filename, content)}, data=data)


@pytest.fixture
def head(home: Home) -> bytes:
    return home.head()


def test_info_describes_what_is_loaded(service: Service) -> None:
    answer = service.http.get(INFO).json()
    listed = service.http.get(LIST).json()["details"]
    (mine,) = [one for one in listed if one["name"] == "mine"]
    assert answer["success"] is True
    assert answer["info"] == {
        "loaded": True,
        "model_name": "mine",
        "architecture": "CLIP:ViT-64x2/14",
        "device": "cpu",
        "precision": "fp32",
        "version": 1,
        "sha256": mine["sha256"],
        "threshold": 0.5,
        "engine": "fake",
        "notice": "",
        "panel": [],
        "panel_rule": None,
    }
    assert mine["active"] is True


def test_unloaded_predictions_say_what_to_do_until_it_is_loaded_again(
    service: Service, image: bytes
) -> None:
    assert service.http.post(UNLOAD).json()["message"] == "Model unloaded successfully"
    assert service.http.post(UNLOAD).json() == {"success": True, "message": "No model was loaded"}
    assert service.engine.detectors[0].closed
    info = service.http.get(INFO).json()["info"]
    assert (info["loaded"], info["model_name"]) == (False, None)
    refused = service.predict(image)
    assert "/api/model/load" in assert_problem(refused, 503, "model_not_loaded")["error"]
    assert int(refused.headers["retry-after"]) >= 1
    assert service.http.get("/health").json()["model_loaded"] is False
    loaded = service.http.post(LOAD).json()
    assert loaded["message"] == "Model loaded successfully"
    assert (loaded["model_name"], loaded["version"]) == ("mine", 1)
    assert service.predict(image).status_code == 200


@pytest.mark.on_servers
def test_an_uploaded_head_becomes_a_model_and_then_its_second_version(
    service: Service, head: bytes, pack: Path
) -> None:
    first = upload(service, (pack / "classifier.pth").read_bytes(), name="classifier.pth")
    assert first.status_code == 200, first.text
    body = first.json()
    assert (body["success"], body["model_name"], body["version"]) == (True, "classifier.pth", 1)
    assert len(body["sha256"]) == 64
    second = upload(service, head, name="classifier.pth").json()
    assert second["version"] == 2
    listed = service.http.get(LIST).json()
    assert listed["count"] == len(listed["models"]) == len(listed["details"])
    assert listed["models"] == [one["name"] for one in listed["details"]]
    assert {"classifier.pth", "mine"} <= set(listed["models"])
    (details,) = [one for one in listed["details"] if one["name"] == "classifier.pth"]
    assert (details["version"], details["sha256"]) == (2, second["sha256"])
    assert service.http.get(INFO).json()["info"]["model_name"] == "mine"
    loaded = service.http.post(LOAD, params={"name": "classifier.pth"}).json()
    assert (loaded["model_name"], loaded["version"]) == ("classifier.pth", 2)
    result = service.predict(painted(1)).json()["result"]
    assert result["model"]["name"] == "classifier.pth"


def test_the_files_own_name_serves_where_none_is_sent(service: Service, head: bytes) -> None:
    assert upload(service, head, "dir/up.pth").json()["model_name"] == "up.pth"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "invalid_checkpoint"),
        (b"not a checkpoint", "invalid_checkpoint"),
        (b"PK\x03\x04" + bytes(64), "invalid_checkpoint"),
    ],
)
def test_a_file_that_is_no_head_is_refused_and_nothing_is_stored(
    service: Service, home: Home, content: bytes, code: str
) -> None:
    before = home.store.names()
    problem = assert_problem(upload(service, content, "weights.pth", name="bad"), 422, code)
    assert "'weights.pth'" in problem["error"]  # and not the file that the upload was kept in
    assert home.store.names() == before


def test_a_head_that_fits_no_encoder_here_is_told_which_would(
    service: Service, home: Home, tmp_path: Path
) -> None:
    import torch

    from d3.network import DiscrepancyHead

    torch.save(DiscrepancyHead(128).state_dict(), tmp_path / "wide.pth")
    before = home.store.names()
    answer = upload(service, (tmp_path / "wide.pth").read_bytes(), name="wide")
    assert "width 128" in assert_problem(answer, 422, "invalid_checkpoint")["error"]
    assert home.store.names() == before


@pytest.mark.on_servers
def test_the_file_of_another_architecture_is_uploaded_listed_loaded_and_judges(
    service: Service, image: bytes, tmp_path: Path
) -> None:
    content = tiny_ferretnet(tmp_path).paths["network"].read_bytes()
    body = upload(service, content, "net.pth", name="witness", architecture="ferretnet").json()
    assert (body["model_name"], body["version"]) == ("witness", 1)
    (details,) = [
        one for one in service.http.get(LIST).json()["details"] if one["name"] == "witness"
    ]
    assert (details["architecture"], details["package"]) == ("ferretnet", "")
    assert details["trouble"] is None
    assert details["sha256"] == body["sha256"]
    assert service.http.post(LOAD, params={"name": "witness"}).status_code == 200
    assert service.http.get(INFO).json()["info"]["architecture"] == "ferretnet"
    assert service.predict(image).json()["result"]["model"]["name"] == "witness"


@pytest.mark.parametrize(
    ("architecture", "code", "words"),
    [
        ("nonesuch", "architecture_unavailable", "'nonesuch' is not installed"),
        ("ferretnet", "invalid_checkpoint", "'head.pth'"),
        ("ufd", "invalid_checkpoint", "'head.pth'"),
    ],
)
def test_a_file_that_is_not_of_its_architecture_is_refused(
    service: Service, home: Home, architecture: str, code: str, words: str
) -> None:
    before = home.store.names()
    answer = upload(service, home.head(), name="bad", architecture=architecture)
    assert words in assert_problem(answer, 422, code)["error"]
    assert home.store.names() == before


def test_a_model_whose_package_is_not_installed_is_listed_with_what_to_install(
    service: Service, home: Home, tmp_path: Path
) -> None:
    model = tiny_ferretnet(tmp_path, "theirs")
    foreign = replace(model.manifest, architecture="theirs", package="d3-theirs")
    Container(settings=home.settings()).registry().put(replace(model, manifest=foreign))
    (details,) = [
        one for one in service.http.get(LIST).json()["details"] if one["name"] == "theirs"
    ]
    assert "The package 'd3-theirs' provides it" in details["trouble"]


def test_the_starters_name_is_taken(service: Service, head: bytes) -> None:
    assert_problem(upload(service, head, name="starter"), 409, "model_protected")


def test_of_two_loads_at_once_exactly_one_is_refused(service: Service) -> None:
    service.engine.may_load.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(service.http.post, LOAD)
        assert service.engine.loading.acquire(timeout=20)  # the one at the start
        assert service.engine.loading.acquire(timeout=20)
        refused = service.http.post(LOAD)
        service.engine.may_load.set()
        assert first.result().status_code == 200
    assert_problem(refused, 409, "load_in_progress")
    assert int(refused.headers["retry-after"]) >= 1
    assert service.http.post(LOAD).status_code == 200


def test_a_prediction_in_flight_keeps_the_model_it_began_with(
    service: Service, head: bytes
) -> None:
    upload(service, head, name="next")
    service.engine.may_score.clear()
    with ThreadPoolExecutor(2) as pool:
        before = pool.submit(service.predict, painted(1))
        assert service.engine.scoring.acquire(timeout=20)
        loaded = service.http.post(LOAD, params={"name": "next"})
        assert loaded.status_code == 200
        after = pool.submit(service.predict, painted(2))
        assert service.engine.scoring.acquire(timeout=20)
        old, new = service.engine.detectors
        assert not old.closed
        service.engine.may_score.set()
        models = [one.result().json()["result"]["model"]["name"] for one in (before, after)]
    assert models == ["mine", "next"]
    assert old.closed
    assert not new.closed


def test_who_stops_waiting_does_not_take_the_model_from_the_work(service: Service) -> None:
    service.engine.may_score.clear()
    waiting = service.application.d3.prediction.predict(
        PredictionRequest(uploads=[Upload("a.png", painted(1))], answer=lambda *_: b"")
    )
    assert service.engine.scoring.acquire(timeout=20)
    assert waiting.cancel()
    with ThreadPoolExecutor(1) as pool:
        unloading = pool.submit(service.http.post, UNLOAD)
        wait_until(lambda: service.host.loaded() is None)
        (detector,) = service.engine.detectors
        assert not detector.closed
        service.engine.may_score.set()
        assert unloading.result().status_code == 200
    wait_until(lambda: detector.closed)


def test_the_old_model_serves_while_the_new_one_loads_and_after_it_failed(
    service: Service, image: bytes
) -> None:
    service.engine.may_load.clear()
    service.engine.failure = DeviceOutOfMemory(
        "cpu does not have enough memory for the model 'mine'.", "Free it."
    )
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(service.http.post, LOAD)
        assert service.engine.loading.acquire(timeout=20)
        assert service.engine.loading.acquire(timeout=20)
        assert service.predict(image).status_code == 200
        service.engine.may_load.set()
    assert_problem(loading.result(), 503, "out_of_memory")
    assert service.predict(painted(7)).status_code == 200


def test_a_model_that_is_not_there_is_404(service: Service) -> None:
    assert_problem(service.http.post(LOAD, params={"name": "nobody"}), 404, "model_not_found")


def test_without_a_model_the_service_starts_and_says_what_is_missing(
    start: Callable[..., Service], image: bytes
) -> None:
    service = start(model="not-there")
    ready = service.http.get("/health/ready")
    assert ready.status_code == 503
    assert ready.json()["ready"] is False
    assert any("model" in one and "/api/model/load" in one for one in ready.json()["missing"])
    refused = service.predict(image)
    assert_problem(refused, 503, "model_not_loaded")
    assert int(refused.headers["retry-after"]) >= 1
    assert service.http.get("/health").status_code == 200
    assert service.http.get("/api/inference/history").json()["total"] == 0
    assert service.http.post(LOAD, params={"name": "mine"}).status_code == 200
    assert service.http.get("/health/ready").json() == {"ready": True, "missing": []}
    assert service.predict(image).status_code == 200


@pytest.mark.on_servers
def test_a_damaged_model_is_never_loaded(start: Callable[..., Service], home: Home) -> None:
    home.damage_encoder()
    service = start(FakeEngine())
    assert_problem(service.http.post(LOAD), 503, "model_damaged")
    assert service.engine.detectors == []


def test_uploading_does_not_hold_up_predictions(
    service: Service, head: bytes, image: bytes
) -> None:
    """A slow sender keeps its own connection, nobody else's."""

    def slowly() -> Any:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="s.pth"\r\n\r\n'
        yield head[: len(head) // 2]
        assert service.predict(image).status_code == 200
        yield head[len(head) // 2 :] + b"\r\n--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = httpx.post(service.url + UPLOAD, content=slowly(), headers=headers, timeout=30)
    assert answer.json()["model_name"] == "s.pth"
