"""What surrounds every answer: health, metrics, ids, timings, CORS, logs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.metadata import version

import pytest

from tests.service.conftest import Service, painted
from tests.serving import assert_problem, wait_until


def test_health_says_how_the_service_is(service: Service) -> None:
    expected = {
        "status": "healthy",
        "model_loaded": True,
        "device": "cpu",
        "version": version("d3-deepfake"),
    }
    assert service.http.get("/health").json() == expected
    assert service.http.get("/health/live").json() == expected
    assert service.http.get("/health/ready").json() == {"ready": True, "missing": []}


def test_ready_says_when_the_database_is_away(service: Service) -> None:
    def broken() -> None:
        from d3.domain.errors import StorageUnavailable

        raise StorageUnavailable("The database is away.")

    service.application.d3.history.check_writable = broken
    answer = service.http.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["missing"] == ["database: The database is away."]


def test_a_request_id_comes_back_or_is_made(service: Service, image: bytes) -> None:
    given = service.http.get("/health", headers={"X-Request-Id": "my-1.id_2"})
    assert given.headers["x-request-id"] == "my-1.id_2"
    made = [service.http.get("/health").headers["x-request-id"] for _ in range(2)]
    assert len(set(made)) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)
    for strange in ("a b", "x" * 65, "<script>"):
        answer = service.http.get("/health", headers={"X-Request-Id": strange})
        assert answer.headers["x-request-id"] != strange
    refused = service.http.get("/nowhere", headers={"X-Request-Id": "me"})
    assert assert_problem(refused, 404, "not_found")["request_id"] == "me"
    files = {"file": ("a.png", image)}
    answer = service.http.post(
        "/api/inference/predict", files=files, headers={"X-Request-Id": "row-1"}
    )
    place = f"/api/inference/result/{answer.json()['inference_id']}"
    assert service.http.get(place).json()["result"]["request_id"] == "row-1"


def test_server_timing_tells_where_the_time_went(service: Service, image: bytes) -> None:
    parts = service.predict(image).headers["server-timing"].split(", ")
    timing = {part.split(";dur=")[0]: float(part.split(";dur=")[1]) for part in parts}
    assert list(timing) == ["total", "queue", "decode", "model"]
    assert all(duration >= 0 for duration in timing.values())
    assert timing["decode"] + timing["model"] <= timing["total"]
    assert service.http.get("/health").headers["server-timing"].startswith("total;dur=")


@pytest.mark.one_process
def test_metrics_count_what_happened(service: Service, image: bytes) -> None:
    service.predict(image)
    service.predict(image)
    service.predict(b"no image")
    service.http.get("/api/inference/result/999")
    service.http.get("/nowhere/1")
    answer = service.http.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = set(answer.text.splitlines())
    route = 'method="POST",route="/api/inference/predict"'
    assert f'd3_http_requests_total{{{route},status="200"}} 2.0' in lines
    assert f'd3_http_requests_total{{{route},status="415"}} 1.0' in lines
    by_id = 'method="GET",route="/api/inference/result/{result_id}",status="404"'
    assert f"d3_http_requests_total{{{by_id}}} 1.0" in lines
    unknown = 'method="GET",route="unknown",status="404"'
    assert f"d3_http_requests_total{{{unknown}}} 1.0" in lines
    assert 'd3_cache_lookups_total{found="yes"} 1.0' in lines
    assert 'd3_cache_lookups_total{found="no"} 1.0' in lines
    assert 'd3_images_total{outcome="not_an_image"} 1.0' in lines
    assert "d3_model_loaded 1.0" in lines
    assert 'd3_stage_seconds_count{stage="model"} 1.0' in lines


def test_strange_methods_and_addresses_make_no_new_series(service: Service) -> None:
    for n, method in enumerate(("PROPFIND", "MKCOL", "PURGE")):
        assert service.http.request(method, f"/nowhere/{n}").status_code == 404
    text = service.metrics()
    assert 'method="other",route="unknown",status="404"} 3.0' in text
    assert "PROPFIND" not in text
    assert "nowhere" not in text


def test_an_unknown_method_is_told_which_are_known(service: Service) -> None:
    refused = service.http.put("/api/inference/result/7")
    assert_problem(refused, 405, "method_not_allowed")
    assert {"GET", "DELETE"} <= set(refused.headers["allow"].split(", "))


def test_no_other_origin_may_call_unless_it_is_set(start: Callable[..., Service]) -> None:
    origin = {"Origin": "https://app.example"}
    preflight = origin | {"Access-Control-Request-Method": "POST"}
    closed = start()
    assert "access-control-allow-origin" not in closed.http.get("/health", headers=origin).headers
    refused = closed.http.options("/api/inference/predict", headers=preflight)
    assert "access-control-allow-origin" not in refused.headers
    opened = start(cors_origins=("https://app.example",))
    granted = opened.http.options("/api/inference/predict", headers=preflight)
    assert granted.headers["access-control-allow-origin"] == "https://app.example"
    other = opened.http.get("/health", headers={"Origin": "https://evil.example"})
    assert other.headers.get("access-control-allow-origin") != "https://evil.example"


def test_every_request_leaves_a_record_probes_aside(service: Service, image: bytes) -> None:
    import sqlalchemy as sa

    from d3.adapters.sql.tables import RequestLogRow

    service.http.get("/health")
    service.http.get("/nowhere", headers={"X-Request-Id": "r-1"})
    service.predict(image)
    database = service.application.d3._container.database()

    def records() -> list[tuple[str, int]]:
        with database.engine.connect() as connection:
            query = sa.select(RequestLogRow.endpoint, RequestLogRow.status_code)
            return [(endpoint, status) for endpoint, status in connection.execute(query)]

    wait_until(lambda: len(records()) >= 2, 10)
    assert records() == [("/nowhere", 404), ("/api/inference/predict", 200)]


def test_an_unexpected_error_is_logged_in_full_and_answered_without_a_word_of_it(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the secret inside")

    service.application.d3.history.statistics = broken
    answer = service.http.get("/api/inference/stats")
    assert "secret" not in json.dumps(assert_problem(answer, 500, "internal_error"))
    assert "the secret inside" in caplog.text


def test_a_file_name_that_forges_log_lines_stays_on_one(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "d3.http")
    service.http.post(
        "/api/inference/predict", files={"file": ("a\nlevel=ERROR forged", painted(4))}
    )
    assert "forged" not in caplog.text
