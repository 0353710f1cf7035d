"""``predict`` and ``predict-batch`` through a real socket."""

from __future__ import annotations

import csv
import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import d3
from d3.domain.ports.queue import Lane
from d3.entrypoints.http import create_app
from images import apng_with_a_hidden_picture, encoded, picture
from tests.homes import Home
from tests.pictures import CRASHING_DECODER
from tests.service.conftest import Service, painted
from tests.serving import assert_problem, serving, wait_until
from tests.support.engines import FakeEngine
from tests.support.images import noise, png

PREDICT, BATCH = "/api/inference/predict", "/api/inference/predict-batch"


def test_the_answer_is_the_librarys_and_is_kept_whole(home: Home, pack: Path) -> None:
    """With the real network, no fake in the way."""
    settings = home.settings()
    path = pack / "images/rgb_333x250.webp"
    with d3.D3(settings) as detector:
        expected = detector.detect(path, threshold=0.25, views=4)
    with serving(create_app(settings)) as url, path.open("rb") as stream:
        answer = httpx.post(
            url + PREDICT, files={"file": stream}, data={"threshold": "0.25", "views": "4"}
        ).json()
        kept = httpx.get(f"{url}/api/inference/result/{answer['inference_id']}").json()["result"]
    result = answer["result"]
    assert result["prediction"] == pytest.approx(expected.prediction, abs=1e-6)
    assert result["logit"] == pytest.approx(expected.logit, abs=1e-5)
    assert result["spread"] == pytest.approx(expected.spread, abs=1e-6)
    assert result["verdict"] == expected.verdict.value
    assert (result["threshold"], result["views"]) == (0.25, 4)
    assert result["image_sha256"] == expected.image.sha256
    assert result["model"] == {
        "name": "mine",
        "version": 1,
        "sha256": expected.model.sha256,
    }
    assert (result["engine"], result["precision"], result["cached"]) == ("torch", "fp32", False)
    same = set(result) - {"notice", "calibration_fpr", "calibration_tpr"}
    assert {name: kept[name] for name in same} == {name: result[name] for name in same}
    assert (kept["image_name"], kept["image_format"]) == ("rgb_333x250.webp", "WEBP")
    assert (kept["image_width"], kept["image_height"]) == (333, 250)


def test_an_answer_and_its_row_say_what_is_known_of_the_file(service: Service) -> None:
    cut = encoded(picture(160, 120), "JPEG")[:-2]
    hidden = apng_with_a_hidden_picture(picture(), picture(seed=1))
    pages = encoded(picture(), "TIFF", save_all=True, append_images=[picture(seed=1)])
    answered = {}
    for file in (cut, hidden, pages):
        answer = service.http.post(PREDICT, files={"file": file}).json()
        kept = service.http.get(f"/api/inference/result/{answer['inference_id']}").json()["result"]
        names = [name for name in answer["result"] if name.startswith("image_")]
        assert {name: kept[name] for name in names} == {
            name: answer["result"][name] for name in names
        }
        facts = answer["result"]
        assert (facts["image_note"] is None) is (facts["image_note_text"] is None)
        answered[facts["image_format"]] = facts
    jpeg, apng, tiff = (answered[kind] for kind in ("JPEG", "PNG", "TIFF"))
    assert (jpeg["image_width"], jpeg["image_height"], jpeg["image_bytes"]) == (160, 120, len(cut))
    assert (jpeg["image_note"], apng["image_note"]) == ("cut_short", "two_pictures")
    assert (tiff["image_frames"], tiff["image_note"]) == (2, None)
    lines = service.http.get("/api/inference/history.csv").text
    assert "cut_short" in lines
    assert "The file holds two different images." in lines


@pytest.mark.one_process
def test_a_sound_image_whose_decoder_is_killed_is_503_and_one_that_crashes_it_422(
    start: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CRASHING_DECODER.items():
        monkeypatch.setenv(name, value)
    service = start(isolate_decoding=True)

    def post(width: int, height: int) -> httpx.Response:
        file = encoded(Image.new("RGB", (width, height)), "PNG")
        return service.http.post(PREDICT, files={"file": file})

    killed, crashed, sound = post(53, 61), post(53, 59), post(53, 60)
    assert_problem(killed, 503, "decoding_interrupted")
    assert int(killed.headers["Retry-After"]) >= 1
    assert_problem(crashed, 422, "damaged_image")
    assert sound.status_code == 200
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert_problem(post(53, 61), 503)
    assert_problem(post(53, 60), 503, "decoder_unavailable")


def test_the_threshold_is_the_models_own_unless_sent(home: Home, image: bytes, pack: Path) -> None:
    manifest = "manifests/mine/1.json"
    text = home.store.read(manifest)
    assert b'"threshold": 0.5' in text
    home.store.write(manifest, text.replace(b'"threshold": 0.5', b'"threshold": 0.875'))
    with serving(create_app(home.settings(), engine=FakeEngine())) as url:
        own = httpx.post(url + PREDICT, files={"file": image}).json()["result"]
        sent = httpx.post(url + PREDICT, files={"file": image}, data={"threshold": "0"}).json()
        info = httpx.get(f"{url}/api/model/info").json()["info"]
    assert own["threshold"] == info["threshold"] == 0.875
    assert own["is_fake"] is (own["prediction"] > 0.875)
    assert sent["result"]["threshold"] == 0
    assert sent["result"]["is_fake"] is True


@pytest.mark.on_servers
def test_a_batch_answers_in_order_and_a_bad_file_fails_only_itself(service: Service) -> None:
    sent = [
        ("dark.png", painted(10)),
        ("words.txt", b"not an image"),
        ("bright.webp", painted(250, "WEBP")),
        ("empty.png", b""),
        ("cut.png", painted(9)[:60]),
        ("dark.png", painted(10)),
    ]
    answer = service.http.post(BATCH, files=[("files", one) for one in sent])
    assert answer.status_code == 200
    body = answer.json()
    assert body["success"] is True
    assert body["count"] == 6
    assert [one["filename"] for one in body["results"]] == [name for name, _ in sent]
    codes = [one.get("code") for one in body["results"]]
    assert codes == [None, "not_an_image", None, "empty_file", "damaged_image", None]
    for one in body["results"]:
        parts = {"filename", "error", "code"} if "code" in one else set()
        assert set(one) == (parts or {"filename", "result", "inference_id"})
    first, bright, again = (body["results"][n] for n in (0, 2, 5))
    assert first["result"]["is_fake"] is False
    assert bright["result"]["is_fake"] is True
    assert again["result"]["prediction"] == first["result"]["prediction"]
    ids = [one["inference_id"] for one in (first, bright, again)]
    assert ids == sorted(set(ids))
    assert service.rows() == 3


def test_a_batch_of_bad_files_is_a_success_without_rows(service: Service) -> None:
    answer = service.http.post(BATCH, files=[("files", ("a.txt", b"x")), ("files", ("b", b"y"))])
    assert answer.status_code == 200
    assert [one["code"] for one in answer.json()["results"]] == ["not_an_image"] * 2
    assert service.rows() == 0


@pytest.mark.one_process
def test_clients_that_ask_for_one_image_at_once_cost_one_forward_pass(service: Service) -> None:
    service.engine.may_score.clear()
    with ThreadPoolExecutor(9) as pool:
        before = pool.submit(service.predict, painted(3))
        assert service.engine.scoring.acquire(timeout=20)
        thresholds = [level / 10 for level in range(1, 9)]
        asked = [pool.submit(service.predict, painted(5), threshold=one) for one in thresholds]
        queue = service.host.loaded().queue
        wait_until(lambda: queue.waiting(Lane.INTERACTIVE).images == 8)
        service.engine.may_score.set()
        answers = [one.result().json() for one in asked]
        assert before.result().status_code == 200
    (detector,) = service.engine.detectors
    assert detector.batches == [1, 1]
    assert len({one["result"]["logit"] for one in answers}) == 1
    assert [one["result"]["threshold"] for one in answers] == thresholds
    kept = service.http.get("/api/inference/history").json()["results"]
    assert {one["id"] for one in kept} > {one["inference_id"] for one in answers}
    assert len({one["inference_id"] for one in answers}) == 8


def test_requests_that_come_together_share_a_forward_pass(service: Service) -> None:
    service.engine.may_score.clear()
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(service.predict, painted(0))
        service.engine.scoring.acquire(timeout=20)
        others = [pool.submit(service.predict, painted(shade)) for shade in range(1, 9)]
        queue = service.host.loaded().queue
        # Decoded all, not only reserved.
        wait_until(lambda: queue._policy.lines[Lane.INTERACTIVE].images == 8)
        service.engine.may_score.set()
        answers = [one.result() for one in [first, *others]]
    assert all(answer.status_code == 200 for answer in answers)
    assert service.engine.detectors[0].batches == [1, 8]
    predictions = [answer.json()["result"]["prediction"] for answer in answers]
    assert predictions == sorted(predictions)
    assert service.rows() == 9


class TestCache:
    def test_an_image_that_comes_again_is_answered_from_memory_and_makes_a_row(
        self, service: Service, image: bytes
    ) -> None:
        first = service.predict(image, threshold="0.5").json()
        second = service.predict(image, threshold="0.9").json()
        assert first["result"]["cached"] is False
        assert second["result"]["cached"] is True
        assert second["result"]["logit"] == first["result"]["logit"]
        assert second["result"]["threshold"] == 0.9
        assert second["inference_id"] > first["inference_id"]
        assert service.rows() == 2
        assert service.engine.detectors[0].batches == [1]
        kept = service.http.get(f"/api/inference/result/{second['inference_id']}").json()
        assert kept["result"]["cached"] is True

    def test_other_views_are_another_question(self, service: Service, image: bytes) -> None:
        assert service.predict(image).json()["result"]["cached"] is False
        assert service.predict(image, views="2").json()["result"]["cached"] is False
        assert service.predict(image, views="2").json()["result"]["cached"] is True

    def test_one_setting_turns_it_off(self, start: Callable[..., Service], image: bytes) -> None:
        service = start(cache_entries=0)
        answers = [service.predict(image).json()["result"] for _ in range(2)]
        assert [one["cached"] for one in answers] == [False, False]
        assert service.engine.detectors[0].batches == [1, 1]


FRAMED = np.full((400, 400, 3), 255, np.uint8)
FRAMED[10:-10, 10:-10] = 120
"""Called generated, and not without its white frame, of which cropping takes all."""


class TestStability:
    def test_the_answer_its_row_and_exports_hold_each_probability(self, service: Service) -> None:
        answer = service.predict(png(FRAMED), stability="true").json()
        result = answer["result"]
        assert (result["verdict"], result["reason"]) == ("uncertain", "unstable")
        assert "harmless change" in result["reason_text"]
        assert result["is_fake"] is True
        changed = result["stability"]
        assert list(changed) == ["jpeg", "scaled", "cropped", "mirrored"]
        assert changed["cropped"] < 0.5 < result["prediction"]
        address = f"/api/inference/result/{answer['inference_id']}"
        assert service.http.get(address).json()["result"]["stability"] == changed
        (line,) = csv.DictReader(service.http.get("/api/inference/history.csv").text.splitlines())
        assert json.loads(line["stability_probabilities"]) == changed
        assert sum(service.engine.detectors[0].batches) == 5

    def test_without_it_nothing_more_is_scored(self, service: Service) -> None:
        result = service.predict(png(FRAMED), stability="false").json()["result"]
        assert (result["verdict"], result["stability"]) == ("fake", {})
        assert service.engine.detectors[0].batches == [1]

    def test_a_batch_is_tried_image_by_image(self, service: Service) -> None:
        files = [("files", one) for one in (png(FRAMED), b"no image", png(noise(99, 99)))]
        sent = service.http.post(BATCH, files=files, data={"stability": "true"}).json()["results"]
        assert sent[0]["result"]["reason"] == "unstable"
        assert sent[1]["code"] == "not_an_image"
        assert len(sent[2]["result"]["stability"]) == 4

    def test_logits_of_changes_are_cached(self, service: Service) -> None:
        first = service.predict(png(FRAMED), stability="true").json()["result"]
        again = service.predict(png(FRAMED), stability="true", threshold="0.2").json()["result"]
        assert (first["cached"], again["cached"]) == (False, True)
        assert again["stability"] == first["stability"]
        assert again["verdict"] == "fake"
        assert sum(service.engine.detectors[0].batches) == 5

    def test_what_is_neither_true_nor_false_is_refused(self, service: Service) -> None:
        assert_problem(service.predict(png(FRAMED), stability="perhaps"), 400, "invalid_form")


class TestIdempotencyKey:
    @staticmethod
    def send(service: Service, image: bytes, key: str, call: str = PREDICT, **data: Any) -> Any:
        field = "file" if call == PREDICT else "files"
        files = [(field, ("a.png", image))]
        headers = {"Idempotency-Key": key}
        return service.http.post(call, files=files, data=data, headers=headers)

    @pytest.mark.parametrize("call", [PREDICT, BATCH])
    @pytest.mark.on_servers
    def test_the_same_request_gets_the_same_answer_and_one_row(
        self, service: Service, image: bytes, call: str
    ) -> None:
        first = self.send(service, image, "k-1", call)
        again = self.send(service, image, "k-1", call)
        assert first.status_code == again.status_code == 200
        assert first.content == again.content
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"
        assert service.rows() == 1

    @pytest.mark.parametrize("call", [PREDICT, BATCH])
    def test_the_stored_answer_needs_no_model(
        self, service: Service, image: bytes, call: str
    ) -> None:
        first = self.send(service, image, "k-1", call)
        assert service.http.post("/api/model/unload").status_code == 200
        assert self.send(service, image, "k-1", call).content == first.content
        assert_problem(self.send(service, image, "k-2", call), 503, "model_not_loaded")

    def test_another_body_is_refused(self, service: Service, image: bytes) -> None:
        self.send(service, image, "k-1")
        code = "idempotency_key_reused"
        assert_problem(self.send(service, painted(3), "k-1"), 422, code)
        assert_problem(self.send(service, image, "k-1", threshold="0.1"), 422, code)
        assert_problem(self.send(service, image, "k-1", stability="true"), 422, code)
        assert_problem(self.send(service, image, "k-1", BATCH), 422, code)
        assert service.rows() == 1

    def test_in_flight_it_is_a_conflict_that_says_when_to_come_back(
        self, service: Service, image: bytes
    ) -> None:
        service.engine.may_score.clear()
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(self.send, service, image, "k-1")
            assert service.engine.scoring.acquire(timeout=20)
            meanwhile = self.send(service, image, "k-1")
            service.engine.may_score.set()
            assert first.result().status_code == 200
        assert_problem(meanwhile, 409, "request_in_flight")
        assert int(meanwhile.headers["retry-after"]) >= 1
        assert self.send(service, image, "k-1").content == first.result().content
        assert service.rows() == 1

    def test_a_request_that_failed_frees_its_key(self, service: Service, image: bytes) -> None:
        assert_problem(self.send(service, b"no image", "k-1"), 415, "not_an_image")
        assert self.send(service, image, "k-1").status_code == 200
        service.http.post("/api/model/unload")
        assert_problem(self.send(service, image, "k-2"), 503, "model_not_loaded")
        service.http.post("/api/model/load")
        assert self.send(service, image, "k-2").status_code == 200

    @pytest.mark.on_servers
    def test_many_at_once_make_one_row(self, service: Service, image: bytes) -> None:
        barrier = threading.Barrier(8)

        def send(_: int) -> int:
            barrier.wait()
            status: int = self.send(service, image, "k-1").status_code
            return status

        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(send, range(8)))
        assert set(statuses) <= {200, 409}
        assert 200 in statuses
        assert service.rows() == 1

    @pytest.mark.parametrize("key", ["", "x" * 256, "caf\xe9"])
    def test_a_key_that_cannot_be_used_is_refused(
        self, service: Service, image: bytes, key: str
    ) -> None:
        answer = service.http.post(
            PREDICT,
            files={"file": image},
            headers={"Idempotency-Key": key.encode("latin-1")},  # type: ignore[dict-item]
        )
        assert_problem(answer, 400, "invalid_idempotency_key")
        assert service.rows() == 0
