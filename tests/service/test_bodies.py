"""One image as the body itself or in JSON, and the API under its version."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from d3.entrypoints.http import create_app
from tests.homes import Home, Homes
from tests.service.conftest import Service, painted, running
from tests.serving import assert_problem, serving
from tests.wire import exchange

PREDICT, EXPLAIN = "/api/inference/predict", "/api/inference/explain"
IMAGE = painted(200)
IN_BASE64 = base64.b64encode(IMAGE).decode()
RAW = {"Content-Type": "image/png"}


def as_a_form(image: bytes, name: str, **fields: Any) -> dict[str, Any]:
    return {"files": {"file": (name, image)}, "data": fields}


def as_it_is(image: bytes, name: str, **fields: Any) -> dict[str, Any]:
    return {"content": image, "headers": RAW, "params": fields | {"name": name}}


def in_json(image: bytes, name: str, **fields: Any) -> dict[str, Any]:
    return {"json": {"image_base64": base64.b64encode(image).decode(), "name": name} | fields}


def json_of(body: bytes) -> dict[str, Any]:
    return {"content": body, "headers": {"Content-Type": "application/json"}}


Way = Callable[..., dict[str, Any]]
WAYS = [as_a_form, as_it_is, in_json]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_judged_alike(service: Service, way: Way) -> None:
    answer = service.http.post(
        PREDICT, **way(IMAGE, "night.png", threshold=0.25, views=3, explain=False, stability=True)
    )
    assert answer.status_code == 200, answer.text
    result = answer.json()["result"]
    assert (result["threshold"], result["views"]) == (0.25, 3)
    assert set(result["stability"]) == {"jpeg", "scaled", "cropped", "mirrored"}
    place = f"/api/inference/result/{answer.json()['inference_id']}"
    assert service.http.get(place).json()["result"]["image_name"] == "night.png"


@pytest.mark.parametrize(
    "kind", ["image/png", "IMAGE/JPEG", "image/x; a=b", "application/octet-stream"]
)
def test_the_file_itself_needs_no_more_than_its_kind(service: Service, kind: str) -> None:
    answer = service.http.post(PREDICT, content=IMAGE, headers={"Content-Type": kind})
    assert answer.status_code == 200, answer.text
    (kept,) = service.http.get("/api/inference/history").json()["results"]
    assert kept["image_name"] == "image"


@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("second", WAYS)
def test_a_key_stands_for_one_request_however_it_is_sent(
    service: Service, first: Way, second: Way
) -> None:
    def ask(way: Way, address: str, **fields: Any) -> Any:
        said = way(IMAGE, "a.png", **fields)
        said["headers"] = said.get("headers", {}) | {"Idempotency-Key": "k-1"}
        return service.http.post(address, **said)

    begun = ask(first, PREDICT, views=2).json()
    again = ask(second, "/api/v1/inference/predict", views=2)
    assert again.json() == begun
    assert again.headers["idempotency-replayed"] == "true"
    assert service.rows() == 1
    assert_problem(ask(second, PREDICT, views=3), 422, "idempotency_key_reused")


def test_every_way_is_explained(home: Home, pack: Path) -> None:
    image = (pack / "images/rgb_224.png").read_bytes()
    with serving(create_app(home.settings())) as url, httpx.Client(base_url=url) as http:
        judged = [http.post(PREDICT, **way(image, "a.png", explain=True)).json() for way in WAYS]
        drawn = [http.post(EXPLAIN, **way(image, "a.png", views=1)).json() for way in WAYS]
    maps = [np.array(one["explanation"]["values"]) for one in (*judged, *drawn)]
    assert all(one == pytest.approx(maps[0], abs=1e-3) for one in maps)


@pytest.fixture(scope="module")
def small(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("small")
    with homes(folder / "home") as home, running(home, max_image_bytes=100_000) as service:
        yield service
        assert service.rows() == 0


@pytest.mark.parametrize(
    ("sent", "status", "code", "says"),
    [
        ({"json": {}}, 400, "file_missing", "in base64 as `image_base64`"),
        ({"json": {"image_base64": None, "url": None}}, 400, "file_missing", "JSON holds no image"),
        ({"json": {"url": ""}}, 400, "file_missing", "JSON holds no image"),
        (
            {"json": {"image_base64": IN_BASE64, "url": "https://example.com/a.png"}},
            400,
            "invalid_form",
            "Both an image and a link were sent. Send one of them.",
        ),
        (
            {"files": {"file": IMAGE}, "data": {"url": "https://example.com/a.png"}},
            400,
            "invalid_form",
            "Both an image and a link were sent. Send one of them.",
        ),
        ({"json": {"image_base64": ""}}, 400, "empty_file", ""),
        ({"json": {"image_base64": "?"}}, 400, "invalid_form", "'image_base64' is not base64"),
        (
            {"json": {"image_base64": f"data:image/png;base64,{IN_BASE64}"}},
            400,
            "invalid_form",
            "without 'data:image/jpeg;base64,'",
        ),
        ({"json": {"image_base64": f"{IN_BASE64[:8]}\n{IN_BASE64[8:]}"}}, 400, "invalid_form", ""),
        ({"json": {"image_base64": IN_BASE64 + "é"}}, 400, "invalid_form", "is not base64"),
        ({"json": {"image_base64": 7}}, 400, "invalid_form", "'image_base64' is not a text"),
        ({"json": {"image_base64": "d29yZHM="}}, 415, "not_an_image", ""),
        ({"json": {"file": IN_BASE64}}, 400, "invalid_form", "'file' is not known"),
        ({"json": {"image_base64": IN_BASE64, "treshold": 1}}, 400, "invalid_form", "'threshold'?"),
        (
            {"json": {"image_base64": IN_BASE64, "threshold": "0.5"}},
            400,
            "invalid_form",
            "a number",
        ),
        ({"json": {"image_base64": IN_BASE64, "threshold": 2}}, 400, "invalid_threshold", ""),
        ({"json": {"image_base64": IN_BASE64, "threshold": True}}, 400, "invalid_form", "a number"),
        ({"json": {"image_base64": IN_BASE64, "views": 1.5}}, 400, "invalid_form", "whole number"),
        ({"json": {"image_base64": IN_BASE64, "views": 10**30}}, 400, "invalid_views", ""),
        ({"json": {"image_base64": IN_BASE64, "explain": 1}}, 400, "invalid_form", "true or false"),
        ({"json": {"image_base64": IN_BASE64, "panel": []}}, 400, "invalid_form", "a text"),
        (
            {"json": {"image_base64": IN_BASE64, "name": "a" * 5000}},
            400,
            "invalid_form",
            "too long",
        ),
        ({"json": {"url": "https://example.com/a.png"}}, 403, "links_off", ""),
        (json_of(b'{"url": ' + b'{"a": ' * 10_000), 400, "invalid_form", "'url' is not a text"),
        (json_of(b'{"a": ' * 10_000), 400, "invalid_form", "'a' is not known"),
        (json_of(b'{"views": 1e999}'), 400, "invalid_form", "a whole number"),
        (json_of(b'{"a`b": 1}'), 400, "invalid_form", "'a`b' is not known"),
        ({"json": [1]}, 400, "invalid_form", "not a JSON object"),
        (
            {"content": b"{", "headers": {"Content-Type": "application/json"}},
            400,
            "invalid_form",
            "",
        ),
        (
            {"content": b"", "headers": {"Content-Type": "application/json"}},
            400,
            "invalid_form",
            "",
        ),
        (
            {"content": b'{"\xff":1}', "headers": {"Content-Type": "application/json"}},
            400,
            "invalid_form",
            "",
        ),
        ({"content": b"", "headers": RAW}, 400, "empty_file", ""),
        ({"content": b"words", "headers": RAW}, 415, "not_an_image", ""),
        ({"content": IMAGE[:50], "headers": RAW}, 422, "damaged_image", ""),
        (
            {"content": IMAGE, "headers": {"Content-Type": "text/plain"}},
            415,
            "not_multipart",
            "Content-Type",
        ),
        ({"data": {"url": "x"}}, 415, "not_multipart", "neither a form, nor JSON, nor an image"),
        (
            {"content": IMAGE, "headers": RAW, "params": {"threshold": "x"}},
            400,
            "invalid_threshold",
            "",
        ),
        (
            {"content": IMAGE, "headers": RAW, "params": {"view": "2"}},
            400,
            "invalid_form",
            "'views'?",
        ),
        (
            {"content": IMAGE, "headers": RAW, "params": {"views": ["1", "2"]}},
            400,
            "invalid_form",
            "more than once",
        ),
        (
            {"content": IMAGE, "headers": RAW, "params": {"name": ["a", "b"]}},
            400,
            "invalid_form",
            "more than once",
        ),
        (
            {"content": IMAGE, "headers": RAW | {"Content-Encoding": "gzip"}},
            415,
            "encoding_unsupported",
            "",
        ),
        (
            {"files": {"file": IMAGE}, "data": {"views": "1"}, "params": {"views": "1"}},
            400,
            "invalid_form",
            "more than once",
        ),
        (
            {"files": {"file": IMAGE}, "params": {"name": "a"}},
            400,
            "invalid_form",
            "'name' is not known",
        ),
    ],
)
def test_what_is_wrong_is_told(
    small: Service, sent: dict[str, Any], status: int, code: str, says: str
) -> None:
    problem = assert_problem(small.http.post(PREDICT, **sent), status, code)
    assert says in problem["error"]


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "application/json"])
def test_a_body_over_the_limit_is_refused_before_it_is_read(small: Service, kind: str) -> None:
    head = (
        f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {300_000}\r\n\r\n"
    )
    assert_problem(exchange(small.url, head.encode()), 413, "body_too_large")


@pytest.mark.parametrize("kind", ["image/png", "application/json"])
def test_a_body_without_a_length_is_refused_once_it_is_over_the_limit(
    small: Service, kind: str
) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(8):
            yield b"%x\r\n%s\r\n" % (50_000, b"1" * 50_000)

    head = (
        f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        f"Content-Type: {kind}\r\n\r\n"
    )
    assert_problem(exchange(small.url, head.encode(), chunks()), 413, "body_too_large")


def test_the_largest_image_may_come_in_json_too(small: Service) -> None:
    """Which makes it a third larger; it is refused for what it is, not for its size."""
    full = in_json(b"no image".ljust(100_000), "a.png")
    assert len(json.dumps(full["json"])) > 130_000
    assert_problem(small.http.post(PREDICT, **full), 415, "not_an_image")


def test_the_version_is_the_same_api(start: Callable[..., Service]) -> None:
    service = start(cors_origins=("https://desk.example",), auth="required")
    accounts = service.application.d3.accounts
    accounts.add_user("ada")
    key = {"X-API-Key": accounts.create_key("ada", scopes=("predict", "read")).key}
    assert_problem(service.http.get("/api/v1/inference/stats"), 401, "key_missing")
    asked = service.http.post("/api/v1/inference/predict", files={"file": IMAGE}, headers=key)
    assert asked.status_code == 200
    assert "ratelimit-limit" in asked.headers
    begun = service.http.post("/api/v1/jobs", files={"files": IMAGE}, headers=key)
    assert begun.headers["location"] == f"/api/v1/jobs/{begun.json()['job']['id']}"
    assert service.http.get(begun.headers["location"], headers=key).status_code == 200
    assert_problem(service.http.post("/api/v1/model/unload", headers=key), 403, "forbidden")
    preflight = service.http.options(
        "/api/v1/inference/predict",
        headers={"Origin": "https://desk.example", "Access-Control-Request-Method": "POST"},
    )
    assert preflight.headers["access-control-allow-origin"] == "https://desk.example"
    unknown = service.http.get("/api/v1/inference/stats?bucke=day", headers=key)
    assert_problem(unknown, 400, "invalid_form")
    assert_problem(service.http.get("/api/v1/nowhere", headers=key), 404, "not_found")
    assert_problem(service.http.get("/api/v1", headers=key), 404, "not_found")
    wrong = service.http.put("/api/v1/inference/stats", headers=key)
    assert_problem(wrong, 405, "method_not_allowed")
    assert "GET" in wrong.headers["allow"]
    scraped = (
        service.metrics()
        if service.machine.engine
        else service.http.get("/metrics", headers=key).text
    )
    assert "v1" not in scraped
    assert 'route="/api/inference/predict"' in scraped
