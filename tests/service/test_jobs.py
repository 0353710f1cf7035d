"""Jobs: many images sent at once, judged in the background, each with one result in the history."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from d3.domain.scans import S3_SCHEME
from tests.homes import Home, S3Bucket
from tests.service.conftest import Service, painted, running
from tests.service.test_access import a_key, bearer
from tests.serving import assert_problem, wait_until
from tests.sites import Answering, web_server
from tests.support.engines import FakeEngine
from tests.support.receivers import LOOPBACK, receiver
from tests.support.stores import S3Server

JOBS = "/api/jobs"
on_servers = pytest.mark.on_servers


def start_job(
    service: Service, files: list[tuple[str, bytes]], headers: Any = None, **fields: Any
) -> httpx.Response:
    """Send a job of files."""
    sent = [("files", one) for one in files]
    return service.http.post(JOBS, files=sent, data=fields, headers=headers)


def begun(service: Service, files: list[tuple[str, bytes]], **fields: Any) -> str:
    """The id of a new job of files."""
    answer = start_job(service, files, **fields)
    assert answer.status_code == 202, answer.text
    name: str = answer.json()["job"]["id"]
    return name


def paintings(count: int, first: int = 1) -> list[tuple[str, bytes]]:
    """So many different images."""
    return [(f"{n}.png", painted(n % 256)) for n in range(first, first + count)]


def job_of(service: Service, name: str, headers: Any = None, **asked: Any) -> dict[str, Any]:
    """A job and its results."""
    answer = service.http.get(f"{JOBS}/{name}", params=asked, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def finished(service: Service, name: str) -> dict[str, Any]:
    """The job once it is over, with its first results."""
    wait_until(lambda: job_of(service, name)["job"]["finished_at"] is not None)
    return job_of(service, name)


def spooled(home: Home) -> set[str]:
    """What lies in the spool."""
    if isinstance(home.store, S3Bucket):
        return {one for one in home.store.names() if one.startswith("spool/")}
    folder = home.path / "spool"
    return {str(one.relative_to(folder)) for one in folder.rglob("*") if one.name != "id"}


@on_servers
def test_a_job_is_judged_and_its_results_are_in_the_history(
    service: Service, home: Home, image: bytes
) -> None:
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
    first, _, third, fourth = over["results"]
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
    wait_until(lambda: not spooled(home))


@on_servers
def test_results_come_by_cursor_in_the_order_sent(service: Service) -> None:
    name = begun(service, paintings(250))
    assert finished(service, name)["job"]["counts"]["items"] == 250
    numbers, cursor = [], None
    while True:
        page = job_of(service, name, limit=100, **({"cursor": cursor} if cursor else {}))
        assert page["count"] == len(page["results"]) <= 100
        numbers += [one["number"] for one in page["results"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert numbers == [*range(1, 251)]
    assert service.rows() == 250


def test_a_job_takes_what_predict_takes(service: Service) -> None:
    fields = {"threshold": "0.9", "views": "2", "stability": "true"}
    results = finished(service, begun(service, paintings(1), **fields))["results"]
    alone = service.predict(painted(1), **fields).json()["result"]
    ours = results[0]["result"]
    for one in ("prediction", "verdict", "threshold", "views", "stability", "image_sha256"):
        assert ours[one] == alone[one]


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"threshold": "2"}, 400, "invalid_threshold"),
        ({"views": "17"}, 400, "invalid_views"),
        ({"panel": "mine,other"}, 202, None),
        ({"panel": "other"}, 422, "model_not_served"),
        ({"panel_rule": "x"}, 400, "invalid_request"),
        ({"external_id": ["a", "b"]}, 400, "invalid_request"),
        ({"external_id": ["a" * 256]}, 400, "invalid_request"),
        ({"external_id": ["a\nb"]}, 400, "invalid_request"),
        ({"callback": "ftp://x"}, 400, "invalid_webhook"),
        ({"callback": "http://10.0.0.1/x"}, 400, "invalid_webhook"),
        ({"callback": "https://" + "x" * 3000}, 400, "invalid_webhook"),
        ({"every": "0"}, 400, "invalid_form"),
        ({"every": "nan"}, 400, "invalid_request"),
        ({"most": "1.5"}, 400, "invalid_form"),
        ({"unknown": "1"}, 400, "invalid_form"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused_and_leaves_nothing(
    service: Service, home: Home, fields: dict[str, Any], status: int, code: str | None
) -> None:
    answer = start_job(service, paintings(1), **fields)
    if code is not None:
        assert_problem(answer, status, code)
        assert service.http.get(JOBS).json()["jobs"] == []
        assert not spooled(home)
    else:
        assert answer.status_code == status


def test_a_body_that_is_no_job_is_refused(service: Service, home: Home) -> None:
    empty = service.http.post(JOBS, files={"other": (None, "x")})
    assert_problem(empty, 400)
    file = {"file": ("a.png", painted(1))}
    wrong = assert_problem(service.http.post(JOBS, files=file), 400, "invalid_form")
    assert "files" in wrong["error"]
    ids = start_job(service, paintings(1), external_id=["a", "b"])
    said = "The number of fields `external_id` is 2, that of files 1."
    assert said in assert_problem(ids, 400, "invalid_request")["error"]
    text = service.http.post(JOBS, content=b"x", headers={"content-type": "text/plain"})
    assert "nor JSON" in assert_problem(text, 415, "not_multipart")["error"]
    item = '{"items": [{"url": "https://a/b"}]'
    for body, word in (
        ("{", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("{}", "'items' is not a list of one item or more"),
        ('{"items": []}', "'items' is not a list of one item or more"),
        ('{"items": ' + 100_000 * "[", "not a JSON object"),
        ('{"more": 1}', "'more' is not known"),
        (item + ', "threshold": 2}', "'threshold' is not a number between 0 and 1"),
        (item + ', "views": 0}', "'views' is not a whole number from 1 to 16"),
        (item + ', "stability": "yes"}', "'stability' is not true or false"),
        (item + ', "panel_rule": "x"}', "'panel_rule' is not one of"),
        (item + ', "most": 1e9}', "'most' is not a whole number from 1 to 10000"),
    ):
        kind = {"content-type": "application/json"}
        refused = service.http.post(JOBS, content=body, headers=kind)
        assert word in assert_problem(refused, 400, "invalid_form")["error"]
    assert not spooled(home)
    assert service.http.get(JOBS).json()["count"] == 0


def test_too_many_and_too_large_files_are_refused_or_each_wrong(
    start: Callable[..., Service], home: Home
) -> None:
    service = start(max_job_items=3, max_image_bytes=1000, max_job_bytes=20_000)
    many = start_job(service, paintings(4))
    assert_problem(many, 413)
    assert_problem(start_job(service, [("a", b"x" * 200_000)]), 413)
    assert not spooled(home)
    files = [("large.png", painted(1) + b"x" * 1000), ("b.png", painted(2))]
    over = finished(service, begun(service, files, external_id=["l", "b"]))
    assert [(one["external_id"], one["code"]) for one in over["results"]] == [
        ("l", "image_too_large"),
        ("b", None),
    ]
    only_bad = finished(service, begun(service, files[:1]))
    assert (only_bad["job"]["state"], only_bad["job"]["counts"]["error"]) == ("done", 1)
    wait_until(lambda: not spooled(home))


def test_a_job_waits_while_no_model_is_loaded_and_says_so(service: Service) -> None:
    service.http.post("/api/model/unload")
    name = begun(service, paintings(2))
    wait_until(lambda: "No model" in (job_of(service, name)["job"]["trouble"] or ""))
    assert job_of(service, name)["job"]["counts"]["waiting"] == 2
    service.http.post("/api/model/load")
    over = finished(service, name)
    assert over["job"]["trouble"] is None
    assert over["job"]["counts"]["waiting"] == 0


def test_a_small_job_does_not_wait_for_a_large_one(start: Callable[..., Service]) -> None:
    engine = FakeEngine()
    engine.may_score.clear()
    service = start(engine, batch_size=4, cache_entries=0)
    large = begun(service, [(f"{n}.png", painted(n % 200)) for n in range(1500)])
    assert engine.scoring.acquire(timeout=10)
    small = begun(service, paintings(5, 240))
    engine.may_score.set()
    finished(service, small)
    assert job_of(service, large)["job"]["counts"]["waiting"] > 0
    assert finished(service, large)["job"]["counts"]["waiting"] == 0
    assert service.rows() == 1505


def test_whoever_waits_for_one_image_goes_before_a_job(start: Callable[..., Service]) -> None:
    engine = FakeEngine()
    engine.may_score.clear()
    service = start(engine, batch_size=4, cache_entries=0)
    large = begun(service, [(f"{n}.png", painted(n % 200)) for n in range(1000)])
    assert engine.scoring.acquire(timeout=10)
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(service.predict(painted(250))))
    asking.start()
    queue = service.host.queues()[0]
    wait_until(lambda: "interactive" in str(queue.waiting) or bool(engine.detectors))
    engine.may_score.set()
    asking.join()
    assert answers[0].status_code == 200
    assert job_of(service, large)["job"]["counts"]["waiting"] > 0
    service.http.delete(f"{JOBS}/{large}")


def test_a_job_is_cancelled_while_it_is_judged(start: Callable[..., Service], home: Home) -> None:
    engine = FakeEngine()
    engine.may_score.clear()
    service = start(engine, batch_size=4, cache_entries=0)
    name = begun(service, [(f"{n}.png", painted(n % 200)) for n in range(600)])
    assert engine.scoring.acquire(timeout=10)
    engine.may_score.set()
    wait_until(lambda: job_of(service, name)["job"]["counts"]["waiting"] < 600)
    engine.may_score.clear()
    answer = service.http.delete(f"{JOBS}/{name}").json()["job"]
    engine.may_score.set()
    counts = answer["counts"]
    assert (answer["state"], counts["waiting"]) == ("cancelled", 0)
    assert answer["finished_at"] is not None
    through = counts["fake"] + counts["real"] + counts["uncertain"]
    assert through + counts["cancelled"] == 600
    wait_until(lambda: "d3_job_worker_up 0.0" in service.metrics())
    assert service.rows() == through > 0
    assert job_of(service, name)["job"] == answer
    results = job_of(service, name, limit=500)["results"]
    assert {one["state"] for one in results} == {"judged", "cancelled"}
    wait_until(lambda: not spooled(home))
    assert service.http.delete(f"{JOBS}/{name}").json()["job"] == answer


def test_what_is_cancelled_is_not_judged_though_its_worker_has_all_of_it(
    start: Callable[..., Service], home: Home
) -> None:
    engine = FakeEngine()
    engine.may_score.clear()
    service = start(engine, batch_size=4, cache_entries=0)
    name = begun(service, paintings(20))
    assert engine.scoring.acquire(timeout=10)
    wait_until(lambda: "d3_job_worker_up 1.0" in service.metrics())
    service.http.delete(f"{JOBS}/{name}")
    wait_until(lambda: "d3_job_worker_up 0.0" in service.metrics())
    engine.may_score.set()
    wait_until(lambda: not spooled(home))
    finished(service, begun(service, paintings(1, 100)))
    assert sum(engine.detectors[-1].batches) < 20
    assert service.rows() == 1


def test_a_job_that_is_done_stays_done(service: Service) -> None:
    name = begun(service, paintings(1))
    finished(service, name)
    assert service.http.delete(f"{JOBS}/{name}").json()["job"]["state"] == "done"


def test_a_result_that_is_deleted_is_gone_from_its_job(service: Service) -> None:
    over = finished(service, begun(service, paintings(2)))
    name, first = over["job"]["id"], over["results"][0]["inference_id"]
    service.http.delete(f"/api/inference/result/{first}")
    left, other = job_of(service, name)["results"]
    assert (left["result"], left["inference_id"], left["state"]) == (None, first, "judged")
    assert other["result"] is not None


def test_ones_own_jobs_are_ones_own(service: Service) -> None:
    ada, eve = (bearer(a_key(service, one, "predict")) for one in ("ada", "eve"))
    reads, eve_reads = (bearer(a_key(service, one, "read")) for one in ("ada", "eve"))
    admin = bearer(a_key(service, "root", "admin"))
    answer = start_job(service, paintings(1), headers=ada)
    path = answer.headers["location"]
    wait_until(lambda: service.http.get(path, headers=reads).json()["job"]["state"] == "done")
    for headers in (ada, eve):  # no scope
        assert_problem(service.http.get(path, headers=headers), 403, "forbidden")
    assert_problem(start_job(service, paintings(1), headers=reads), 403, "forbidden")
    assert_problem(service.http.delete(path, headers=reads), 403, "forbidden")
    assert_problem(service.http.delete(path, headers=eve), 404, "job_not_found")
    assert_problem(service.http.get(path, headers=eve_reads), 404, "job_not_found")
    for headers, number in ((reads, 1), (eve_reads, 0), (admin, 1)):
        assert service.http.get(JOBS, headers=headers).json()["count"] == number
    assert service.http.get(path, headers=admin).status_code == 200
    assert_problem(service.http.get(f"{JOBS}/{'0' * 16}"), 404, "job_not_found")


@on_servers
def test_a_key_begins_one_job_however_often_it_is_sent(service: Service, home: Home) -> None:
    key = {"Idempotency-Key": "once"}
    fields = {"callback": "https://example.net/x", "threshold": "0.5"}
    first = start_job(service, paintings(3), headers=key, **fields)
    again = start_job(service, paintings(3), headers=key, **fields)
    assert first.status_code == again.status_code == 202
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert first.json()["job"]["callback_secret"].startswith("whsec_")
    name = first.json()["job"]["id"]
    assert finished(service, name)["job"]["callback_secret"] is None
    for changed in ({"files": paintings(2)}, {"threshold": "0.6"}, {"external_id": list("abc")}):
        files = changed.pop("files", paintings(3))
        sent = start_job(service, files, headers=key, **(fields | changed))
        assert_problem(sent, 422, "idempotency_key_reused")
    assert service.http.get(JOBS).json()["count"] == 1
    assert service.rows() == 3
    wait_until(lambda: not spooled(home))


def test_a_spool_that_is_full_takes_nothing(start: Callable[..., Service], home: Home) -> None:
    engine = FakeEngine()
    engine.may_score.clear()
    service = start(engine, spool_bytes=100_000)
    large = [(f"{n}.bin", bytes(30_000)) for n in range(4)]
    refused = start_job(service, large)
    assert "retry-after" not in refused.headers, "it never fits"
    assert "whole spool" in assert_problem(refused, 413, "body_too_large")["error"]

    def chunks() -> Iterator[bytes]:  # without a length: it is full on the way
        for number in range(60):
            head = (
                f'--x\r\nContent-Disposition: form-data; name="files"; filename="{number}"\r\n\r\n'
            )
            yield head.encode() + bytes(30_000) + b"\r\n"
        yield b"--x--\r\n"

    kind = {"content-type": "multipart/form-data; boundary=x"}
    endless = service.http.post(JOBS, content=chunks(), headers=kind)
    assert_problem(endless, 413, "body_too_large")
    assert not spooled(home)
    waits = begun(service, [("a.png", painted(1) + bytes(20_000))])
    assert engine.scoring.acquire(timeout=10)
    refused = start_job(service, large[:3])
    assert int(refused.headers["retry-after"]) >= 1
    assert_problem(refused, 503, "spool_full")
    engine.may_score.set()
    finished(service, waits)
    assert service.http.get(JOBS).json()["count"] == 1
    name = begun(service, large[:2])
    assert finished(service, name)["job"]["counts"]["error"] == 2
    assert finished(service, begun(service, large[:2]))["job"]["counts"]["error"] == 2


@pytest.fixture
def site() -> Iterator[str]:
    """A web server of this machine with images, and what is wrong with some."""

    class Handler(Answering):
        def answer(self) -> None:
            shade = self.path.rstrip(".png").rpartition("/")[2]
            self.send_response(200 if shade.isdecimal() else 404)
            self.end_headers()
            if shade.isdecimal():
                self.wfile.write(painted(int(shade)))

    with web_server(Handler) as port:
        yield f"http://127.0.0.1:{port}"


def test_links_are_fetched_when_their_turn_comes(start: Callable[..., Service], site: str) -> None:
    service = start(fetch_links=True, fetch_allow=("127.0.0.0/8",))
    items = [
        {"url": f"{site}/a/1.png", "external_id": "one"},
        {"url": f"{site}/gone.png"},
        {"url": f"{site}/2.png", "name": "two"},
        {"url": "http://10.0.0.1/3.png"},
    ]
    answer = service.http.post(JOBS, json={"items": items, "threshold": 0.25})
    assert answer.status_code == 202, answer.text
    over = finished(service, answer.json()["job"]["id"])
    assert [one["name"] for one in over["results"]] == ["1.png", "gone.png", "two", "3.png"]
    assert [one["code"] for one in over["results"]] == [
        None,
        "link_unavailable",
        None,
        "link_unavailable",
    ]
    assert over["results"][0]["external_id"] == "one"
    assert over["results"][0]["result"]["threshold"] == 0.25
    assert over["job"]["state"] == "done"


def fetched(service: Service, *items: Any) -> dict[str, Any]:
    """A job of such items once it is over, with its results."""
    answer = service.http.post(JOBS, json={"items": items})
    assert answer.status_code == 202, answer.text
    return finished(service, answer.json()["job"]["id"])


def test_a_bad_item_is_an_error_of_its_own(start: Callable[..., Service], site: str) -> None:
    service = start(fetch_links=True, fetch_allow=("127.0.0.0/8",))
    bad: list[tuple[Any, str, str]] = [
        ({"url": "file:///etc/passwd", "external_id": "x"}, "invalid_link", "link is not one"),
        ({"url": "http://[/"}, "invalid_link", "link is not one"),
        ({}, "invalid_request", "no source, or two"),
        ({"url": "https://a/b", "s3": "s3://aaa/b"}, "invalid_request", "no source, or two"),
        ({"url": 1}, "invalid_form", "'url' is not a link"),
        ({"uri": "https://a/b"}, "invalid_form", "Did you mean 'url'"),
        ("https://a/b", "invalid_form", "not a JSON object"),
        ({"url": "https://a/b", "external_id": "x" * 300}, "invalid_form", "'external_id' is not"),
        ({"url": "https://a/b", "external_id": "a\nb"}, "invalid_request", "control characters"),
    ]
    over = fetched(service, {"url": f"{site}/1.png"}, *(one for one, _, _ in bad))
    assert over["job"]["counts"]["error"] == len(bad)
    first, *others = over["results"]
    assert first["state"] == "judged"
    for one, (_, code, word) in zip(others, bad, strict=True):
        assert (one["state"], one["code"]) == ("error", code)
        assert word in one["error"]
    assert (others[0]["name"], others[0]["external_id"]) == ("passwd", "x")
    assert fetched(service, {}, {})["job"]["state"] == "done"


def test_a_key_tells_bad_items_apart(service: Service) -> None:
    def post(item: Any) -> httpx.Response:
        return service.http.post(JOBS, json={"items": [item]}, headers={"Idempotency-Key": "k"})

    first = post({"url": "file:///a"})
    assert post({"url": "file:///a"}).json() == first.json()
    assert_problem(post({"url": "file:///b"}), 422, "idempotency_key_reused")


def test_links_and_objects_are_refused_where_they_are_off(service: Service) -> None:
    over = fetched(service, {"url": "https://example.net/a.png"}, {"s3": "s3://bucket/a.png"})
    link, s3 = over["results"]
    assert link["code"] == "links_off"
    assert s3["code"] in {"invalid_request", "source_refused"}
    assert over["job"]["state"] == "done"


def test_slow_links_delay_no_files(start: Callable[..., Service]) -> None:
    may_end = threading.Event()

    class Handler(Answering):
        def answer(self) -> None:
            may_end.wait(20)
            self.send_response(404)
            self.end_headers()

    with web_server(Handler) as port:
        service = start(fetch_links=True, fetch_allow=("127.0.0.0/8",))
        items = [{"url": f"http://127.0.0.1:{port}/{n}.png"} for n in range(200)]
        slow = service.http.post(JOBS, json={"items": items}).json()["job"]["id"]
        finished(service, begun(service, paintings(3)))
        assert job_of(service, slow)["job"]["counts"]["waiting"] == 200
        service.http.delete(f"{JOBS}/{slow}")
        may_end.set()


def test_objects_are_judged_below_allowed_prefixes_alone(
    homes: Any, first_s3: S3Server, tmp_path: Path
) -> None:
    bucket = S3Bucket(first_s3.client(), f"jobs-{time.time_ns()}")
    bucket.client.make_bucket(bucket.name)
    for key in ("in/1.png", "inner/2.png", "other/3.png"):
        bucket.write(key, painted(7))
    allowed = f"{S3_SCHEME}{bucket.name}/in/"
    with homes(tmp_path / "more") as home:
        place = {
            "minio_endpoint": first_s3.endpoint,
            "minio_access_key": first_s3.key,
            "minio_secret_key": first_s3.secret,
        }
        with running(home, **place, job_sources=(allowed,)) as service:
            outside = ("inner/2.png", "other/3.png", "in/../other/3.png", "in/")
            refused = fetched(service, *({"s3": f"{S3_SCHEME}{bucket.name}/{k}"} for k in outside))
            assert {one["code"] for one in refused["results"]} == {"source_refused"}
            items = [{"s3": f"{allowed}{one}"} for one in ("1.png", "gone.png")]
            name = service.http.post(JOBS, json={"items": items}).json()["job"]["id"]
            over = finished(service, name)
    assert [one["code"] for one in over["results"]] == [None, "image_not_found"]
    assert over["results"][0]["name"] == "1.png"


@on_servers
def test_a_callback_is_told_once_when_the_job_is_over(start: Callable[..., Service]) -> None:
    with receiver() as there:
        service = start(webhook_allow=LOOPBACK)
        answer = start_job(service, paintings(3), callback=there.at("/done")).json()["job"]
        assert answer["callback"] == there.at("/done")
        (message,) = there.wait()
        said = message.verified(answer["callback_secret"])
        assert said["type"] == "job.finished"
        assert (said["data"]["job"]["id"], said["data"]["job"]["state"]) == (answer["id"], "done")
        assert said["data"]["job"]["counts"] == finished(service, answer["id"])["job"]["counts"]
        assert message.path == "/done"
        # What is told is committed: who asks at once sees all results.
        assert len(job_of(service, answer["id"])["results"]) == 3
    assert len(there.messages) == 1


def test_the_page_begins_a_job_and_is_told(
    start: Callable[..., Service],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs/jobs.md").read_text(encoding="utf-8")
    code = page.partition("<!-- job -->\n```python\n")[2].partition("```")[0]
    assert f"```python\n{code}```" in (root / "README.md").read_text(encoding="utf-8")
    (tmp_path / "photos").mkdir()
    for name, image in paintings(3):
        (tmp_path / "photos" / name).write_bytes(image)
    monkeypatch.chdir(tmp_path)
    with receiver() as there:
        service = start(webhook_allow=LOOPBACK)
        code = code.replace("http://localhost:5000", service.url)
        code = code.replace("https://example.net/d3", there.at())
        found: dict[str, Any] = {}
        exec(code, found)
        (message,) = there.wait()
        found["told"](message.body, message.headers)
    said = capsys.readouterr().out
    assert said.startswith("job.finished {'items': 3, 'waiting': 0,")


def test_each_result_of_a_job_is_told_to_those_who_ask(start: Callable[..., Service]) -> None:
    with receiver() as there:
        service = start(webhook_allow=LOOPBACK)
        ada = bearer(a_key(service, "ada", "predict", "read"))
        asked = {"url": there.at(), "events": ["result.created", "job.finished"]}
        made = service.http.post("/api/webhooks", json=asked, headers=ada)
        assert made.status_code < 300, made.text
        assert start_job(service, paintings(3), headers=ada).status_code == 202
        told = [one.event for one in there.wait(4)]
        begun(service, paintings(1))  # somebody else's
        assert sorted(one["type"] for one in told) == ["job.finished", *["result.created"] * 3]


def test_a_job_that_is_being_sent_takes_nobody_the_memory_for_bodies(
    start: Callable[..., Service],
) -> None:
    service = start(body_bytes=1_000_000)
    sent, go_on = threading.Event(), threading.Event()

    def pieces() -> Iterator[bytes]:
        said = 'Content-Disposition: form-data; name="files"; filename="a"'
        yield f"--x\r\n{said}\r\n\r\n".encode()
        for _ in range(50):
            yield bytes(100_000)
        sent.set()
        go_on.wait(20)
        yield b"\r\n--x--\r\n"

    kind = {"content-type": "multipart/form-data; boundary=x"}
    answers: list[httpx.Response] = []

    def send() -> None:
        answers.append(httpx.post(f"{service.url}{JOBS}", content=pieces(), headers=kind))

    sending = threading.Thread(target=send)
    sending.start()
    assert sent.wait(20)
    assert service.predict(painted(1)).status_code == 200
    go_on.set()
    sending.join()
    assert answers[0].status_code == 202


def test_the_metrics_say_what_waits(service: Service) -> None:
    service.http.post("/api/model/unload")
    image = painted(1)
    name = begun(service, [("a.png", image), ("b.png", image), ("c.png", b"no image")])
    wait_until(lambda: "d3_job_items_waiting 3.0" in service.metrics())
    assert f"d3_spool_bytes {2 * len(image) + 8}.0" in service.metrics()
    assert "d3_jobs_running 1.0" in service.metrics()
    service.http.post("/api/model/load")
    finished(service, name)
    wait_until(lambda: "d3_jobs_running 0.0" in service.metrics())
    assert "d3_spool_bytes 0.0" in service.metrics()
    counts = job_of(service, name)["job"]["counts"]
    judged = {one: float(counts[one]) for one in ("fake", "real", "uncertain") if counts[one]}
    for outcome, number in (judged | {"not_an_image": 1.0}).items():
        assert f'd3_images_total{{outcome="{outcome}"}} {number}' in service.metrics()
