"""``explain=true`` through a real socket."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import httpx
import numpy as np
import pytest
from msgspec import UNSET
from PIL import Image

import d3
from d3.entrypoints.http import create_app
from tests.homes import Home
from tests.service.conftest import Service
from tests.serving import assert_problem, serving

PREDICT = "/api/inference/predict"


def test_the_heat_map_comes_on_request_and_is_the_librarys(home: Home, pack: Path) -> None:
    settings = home.settings()
    path = pack / "images/rgb_333x250.webp"
    with d3.D3(settings) as detector:
        expected = detector.explain(path, views=2)
    application = create_app(settings)
    with serving(application) as url, d3.Client(url) as client:
        plain = client.predict(path, views=2)
        explained = client.predict(path, views=2, explain=True)
        kept = httpx.get(f"{url}/api/inference/result/{explained.inference_id}").json()
        key = {"Idempotency-Key": "once"}
        httpx.post(url + PREDICT, files={"file": path.read_bytes()}, headers=key)
        other = httpx.post(
            url + PREDICT, files={"file": path.read_bytes()}, data={"explain": "true"}, headers=key
        )
        wrong = httpx.post(
            url + PREDICT, files={"file": path.read_bytes()}, data={"explain": "perhaps"}
        )
        sent = {"files": {"file": path.read_bytes()}, "data": {"explain": "true"}}
        drawn = httpx.post(url + PREDICT, headers={"Idempotency-Key": "drawn"}, **sent)
        application.d3.explaining.begin = None  # a replay draws nothing again
        replayed = httpx.post(url + PREDICT, headers={"Idempotency-Key": "drawn"}, **sent)
    assert drawn.json()["explanation"]["values"]
    assert replayed.content == drawn.content
    assert plain.explanation is UNSET
    assert explained.result.logit == pytest.approx(plain.result.logit)
    assert np.array(explained.explanation.values) == pytest.approx(expected.values, abs=1e-3)
    overlay = Image.open(io.BytesIO(base64.b64decode(explained.explanation.overlay)))
    assert (overlay.format, overlay.size) == ("PNG", (333, 250))
    assert "not proof" in explained.explanation.meaning
    assert "explanation" not in kept["result"]
    assert_problem(other, 422, "idempotency_key_reused")
    assert_problem(wrong, 400, "invalid_form")


def test_a_heat_map_alone_keeps_no_row(home: Home, pack: Path) -> None:
    path = pack / "images/rgb_333x250.webp"
    with serving(create_app(home.settings())) as url, d3.Client(url) as client:
        explained = client.predict(path, views=2, explain=True)
        files, place = {"file": path.read_bytes()}, f"{url}/api/inference/explain"
        alone = httpx.post(place, files=files, data={"views": 2}, timeout=30).json()
        rows = httpx.get(f"{url}/api/inference/history").json()["total"]
        bad = httpx.post(place, files={"file": b"Dear reader"})
        many = httpx.post(place, files=files, data={"views": 99})
        missing = httpx.post(place, data={"views": 1}, files={"other": b""})
    assert explained.explanation is not UNSET
    assert alone["explanation"]["values"] == explained.explanation.values
    assert rows == 1
    assert_problem(bad, 415, "not_an_image")
    assert_problem(many, 400)
    assert_problem(missing, 400)


def test_an_engine_that_cannot_explain_answers_422_and_keeps_no_row(
    service: Service, image: bytes
) -> None:
    answer = service.http.post(PREDICT, files={"file": image}, data={"explain": "true"})
    assert_problem(answer, 422, "explanation_unavailable")
    answer = service.http.post("/api/inference/explain", files={"file": image})
    assert_problem(answer, 422, "explanation_unavailable")
    assert service.http.get("/api/inference/history").json()["total"] == 0
