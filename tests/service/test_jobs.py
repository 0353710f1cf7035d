"""Jobs: many images sent at once, judged in the background, each with one result in the history."""

from __future__ import annotations

from typing import Any

import httpx

from tests.service.conftest import Service, painted
from tests.serving import wait_until

JOBS = "/api/jobs"


def start_job(
    service: Service, files: list[tuple[str, bytes]], headers: Any = None, **fields: Any
) -> httpx.Response:
    """Send a job of files."""
    sent = [("files", one) for one in files]
    return service.http.post(JOBS, files=sent, data=fields, headers=headers)


def job_of(service: Service, name: str, headers: Any = None, **asked: Any) -> dict[str, Any]:
    answer = service.http.get(f"{JOBS}/{name}", params=asked, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def finished(service: Service, name: str, headers: Any = None) -> dict[str, Any]:
    """The job once it is over, with its first results."""
    wait_until(lambda: job_of(service, name, headers)["job"]["finished_at"] is not None, seconds=30)
    return job_of(service, name, headers)


def test_a_job_is_judged_and_its_results_are_in_the_history(service: Service, image: bytes) -> None:
    answer = start_job(
        service,
        [("a.png", image), ("b.png", painted(3)), ("c.png", b"no image"), ("d.png", b"")],
        external_id=["x1", "x2", "x3", "x4"],
        threshold="0.25",
    )
    assert answer.status_code == 202, answer.text
    job = answer.json()["job"]
    assert answer.headers["location"] == f"{JOBS}/{job['id']}"
    assert job["counts"]["items"] == 4
    assert (job["state"], job["threshold"], job["callback_secret"]) == ("running", 0.25, None)
    over = finished(service, job["id"])
    assert over["job"]["state"] == "done"
    assert over["job"]["counts"]["waiting"] == 0
    assert over["job"]["counts"]["error"] == 2
    first, _second, third, fourth = over["results"]
    assert [one["external_id"] for one in over["results"]] == ["x1", "x2", "x3", "x4"]
    assert [one["number"] for one in over["results"]] == [1, 2, 3, 4]
    assert [one["state"] for one in over["results"]] == ["judged", "judged", "error", "error"]
    assert (third["code"], fourth["code"]) == ("not_an_image", "empty_file")
    assert third["result"] is None
    assert third["inference_id"] is None
    kept = service.http.get(f"/api/inference/result/{first['inference_id']}").json()["result"]
    assert kept == first["result"]
    assert (kept["image_name"], kept["threshold"]) == ("a.png", 0.25)
    assert service.rows() == 2
