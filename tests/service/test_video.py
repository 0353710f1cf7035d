"""Videos and animations over HTTP: one verdict, kept once, at once or as a job."""

from __future__ import annotations

import json
import re
import sys
from io import BytesIO
from typing import Any

import httpx
import pytest
from PIL import Image

from d3.adapters.video import reader
from d3.domain.clips import MOST_FRAMES
from movies import movie, scene
from tests.service.conftest import Service
from tests.service.test_access import a_key, bearer
from tests.service.test_jobs import finished
from tests.serving import wait_until

VIDEO = "/api/inference/predict-video"


def predict_video(
    service: Service, data: bytes, headers: dict[str, str] | None = None, **fields: Any
) -> httpx.Response:
    files = {"file": ("clip.mp4", data)}
    return service.http.post(VIDEO, files=files, data=fields, headers=headers)


@pytest.fixture(scope="module")
def clip() -> bytes:
    """Six seconds, with a cut after the first half."""
    return movie(6, 10, cuts=(3.0,))


def gif(frames: int = 6) -> bytes:
    target = BytesIO()
    first, *others = (Image.fromarray(scene(number)) for number in range(frames))
    first.save(target, "GIF", save_all=True, append_images=others, duration=200)
    return target.getvalue()


def test_a_short_clip_is_judged_at_once_and_kept_as_one_result(
    service: Service, clip: bytes
) -> None:
    answer = predict_video(service, clip)
    assert answer.status_code == 200, answer.text
    result = answer.json()["result"]
    told = result["clip"]
    assert [one["time"] for one in told["frames"]] == [0, 1, 2, 3, 4, 5]
    assert told["highest_mean"] == result["prediction"]
    assert (told["end"], told["duration"], told["judged_until"]) == ("whole", 6, 5)
    assert "five frames in a row" in told["rule"]
    assert (result["image_format"], result["image_frames"]) == ("MP4", 60)
    assert result["image_width"] == 160
    assert service.rows() == 1
    kept = service.http.get(f"/api/inference/result/{answer.json()['inference_id']}").json()
    assert kept["result"]["clip"] == told
    assert kept["result"]["image_name"] == "clip.mp4"
    (line,) = service.http.get("/api/inference/history.jsonl").text.splitlines()
    assert json.loads(line)["clip"]["frames"] == told["frames"]
    still = service.predict(gif()).json()["result"]
    assert still["clip"] is None


def test_how_often_and_how_many_can_be_said(service: Service, clip: bytes) -> None:
    told = predict_video(service, clip, every="2s", most="3").json()["result"]["clip"]
    assert (told["every"], told["most"], len(told["frames"])) == (2, 3, 3)
    for fields in ({"every": "soon"}, {"most": "0"}, {"most": "x"}, {"most": "101"}, {"evry": "1"}):
        refused = predict_video(service, clip, **fields)
        assert refused.status_code == 400, fields
    assert service.rows() == 1


def test_the_same_key_gives_the_same_answer_and_one_result(service: Service, clip: bytes) -> None:
    key = {"Idempotency-Key": "k1"}
    first = predict_video(service, clip, headers=key)
    again = predict_video(service, clip, headers=key)
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    other = predict_video(service, clip, headers=key, most="3")
    assert other.status_code == 422
    assert service.rows() == 1


def test_a_long_clip_becomes_a_job(service: Service) -> None:
    long = movie(40, 5)
    answer = predict_video(service, long, threshold="0.25")
    assert answer.status_code == 202, answer.text
    job = answer.json()["job"]
    assert answer.headers["location"] == f"/api/jobs/{job['id']}"
    assert job["threshold"] == 0.25
    (item,) = finished(service, job["id"])["results"]
    assert item["state"] == "judged", item
    assert item["result"]["threshold"] == 0.25
    assert len(item["result"]["clip"]["frames"]) == 40
    assert item["name"] == "clip.mp4"
    assert service.rows() == 1


def test_a_short_clip_has_a_verdict_unless_too_few_frames_are_asked_for(service: Service) -> None:
    short = movie(2, 10)
    told = predict_video(service, short).json()["result"]
    assert (len(told["clip"]["frames"]), told["clip"]["every"]) == (5, 0.4)
    assert told["reason"] != "few_frames"
    told = predict_video(service, short, every="1s").json()["result"]
    assert (len(told["clip"]["frames"]), told["reason"]) == (2, "few_frames")


def test_a_long_animation_is_judged_at_once_by_every_frame(service: Service) -> None:
    answer = predict_video(service, gif(70))
    assert answer.status_code == 200, answer.text
    told = answer.json()["result"]["clip"]
    assert (len(told["frames"]), told["every"], told["duration"]) == (70, 0, 14)
    refused = predict_video(service, gif(), callback="https://example.net/hook")
    assert (refused.status_code, "callback" in refused.json()["error"]) == (400, True)


def test_a_still_sent_as_a_video_is_told_where_to_go(service: Service, image: bytes) -> None:
    for still in (image, gif(1)):
        answer = predict_video(service, still)
        assert (answer.status_code, answer.json()["code"]) == (422, "video_invalid")
        assert "/api/inference/predict" in answer.json()["error"]


def test_the_document_and_the_refusals_name_the_same_limits(service: Service, clip: bytes) -> None:
    document = service.http.get("/openapi.json").json()
    form = document["paths"]["/api/inference/predict-video"]["post"]["requestBody"]["content"]
    schema = form["multipart/form-data"]["schema"]
    most = schema["properties"]["most"]["maximum"]
    assert most == MOST_FRAMES
    sent = [("files", ("a.mp4", clip))]
    for asked in ("101", "5000"):
        at_once = predict_video(service, clip, most=asked)
        as_job = service.http.post("/api/jobs", files=sent, data={"most": asked})
        assert at_once.json()["error"] == as_job.json()["error"]
        assert "100 frames at most" in at_once.json()["error"]


def test_items_of_a_job_may_be_clips(service: Service, clip: bytes, image: bytes) -> None:
    sent = [
        ("files", ("a.mp4", clip)),
        ("files", ("b.png", image)),
        ("files", ("c.mp4", clip[:99])),
    ]
    job = service.http.post("/api/jobs", files=sent, data={"every": "2", "most": "2"}).json()["job"]
    refused = service.http.post("/api/jobs", files=sent, data={"most": "101"})
    assert (refused.status_code, "D3_VIDEO_FRAMES" in refused.json()["error"]) == (400, True)
    first, second, third = finished(service, job["id"])["results"]
    assert first["result"]["clip"]["every"] == 2
    assert len(first["result"]["clip"]["frames"]) == 2
    assert second["result"]["clip"] is None
    assert third["code"] == "video_invalid"


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"no video", 422, "video_invalid"),
        (b"", 400, "empty_file"),
        (b"\0\0\0\x18ftypisom" + bytes(99), 422, "video_invalid"),
    ],
)
def test_what_is_no_video_is_refused_in_a_sentence(
    service: Service, data: bytes, status: int, code: str
) -> None:
    answer = predict_video(service, data)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert service.rows() == 0


def test_a_video_sent_as_an_image_is_told_where_to_go(service: Service, clip: bytes) -> None:
    answer = service.predict(clip)
    assert answer.status_code == 415
    assert "video" in answer.json()["error"]
    assert "predict-video" in answer.json()["error"]


def test_a_file_beyond_the_limit_is_refused(start: Any, clip: bytes) -> None:
    service = start(max_video_bytes=1000)
    assert predict_video(service, clip).status_code == 413


def test_without_the_package_it_is_said_and_all_else_works(
    service: Service, clip: bytes, image: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "find_spec", lambda _: None)
    answer = predict_video(service, clip)
    assert (answer.status_code, answer.json()["code"]) == (422, "video_unavailable")
    assert re.search(r"extra 'video'.*, run .*pip install 'av>=", answer.json()["error"])
    assert sys.prefix not in answer.json()["error"]  # callers learn no path of the machine
    assert service.predict(image).status_code == 200
    assert service.predict(gif(), frames="all").status_code == 200


def test_every_frame_of_an_animation(service: Service, image: bytes) -> None:
    answer = service.predict(gif(), frames="all")
    assert answer.status_code == 200, answer.text
    result = answer.json()["result"]
    assert len(result["clip"]["frames"]) == 6
    assert (result["image_format"], result["image_frames"]) == ("GIF", 6)
    assert result["provenance"] is not None
    assert service.predict(image, frames="all").json()["result"]["clip"] is None
    assert service.predict(gif(), frames="some").status_code == 400


def test_too_many_clips_at_once_are_refused(service: Service, clip: bytes) -> None:
    d3 = service.application.d3
    d3._clips_in_work = 8
    refused = predict_video(service, clip)
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    d3._clips_in_work = 0
    assert predict_video(service, clip).status_code == 200


def test_a_sender_who_goes_away_ends_the_decoding(service: Service) -> None:
    big = movie(29, 10, size=(640, 360))
    service.engine.may_score.clear()
    with pytest.raises(httpx.ReadTimeout):
        service.http.post(VIDEO, files={"file": ("a.mp4", big)}, timeout=1.5)
    wait_until(lambda: service.application.d3._clips_in_work == 0, seconds=10)
    service.engine.may_score.set()
    assert service.rows() == 0


def test_a_folder_with_clips_is_scanned_with_them_if_asked(
    start: Any, clip: bytes, image: bytes, tmp_path: Any
) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(clip)
    (folder / "b.png").write_bytes(image)
    (folder / "c.mp4").write_bytes(clip[:50])
    service = start(scan_folder=tmp_path)
    service.http.headers.update(bearer(a_key(service, "root", "admin")))

    def scanned(name: str, **asked: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        body = {"source": str(folder), "id": name} | asked
        assert service.http.post("/api/scans", json=body).is_success
        path = f"/api/scans/{name}"
        wait_until(lambda: service.http.get(path).json()["scan"]["state"] == "done", seconds=60)
        rows = service.http.get(f"{path}/results").json()["results"]
        return service.http.get(path).json()["scan"], rows

    scan, rows = scanned("with", video=True)
    assert scan["video"] is True
    assert [one["error"] for one in rows] == [None, None, "video_invalid"]
    assert len(rows[0]["clip"]["frames"]) == 6
    assert rows[1]["clip"] is None
    scan, rows = scanned("without")
    assert scan["passed_over"] == 2
    assert len(rows) == 1
    refused = service.http.post(
        "/api/scans", json={"source": str(folder), "id": "without", "video": True}
    )
    assert refused.status_code == 409
