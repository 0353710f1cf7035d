"""Webhooks through the API: asked for, signed, sent, and shown to their owners alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from d3.domain.access import UNRESTRICTED
from d3.domain.drift import Drift, DriftReport, Level
from d3.domain.errors import UserExists
from d3.domain.history import VerdictCounts
from d3.domain.scoring import Share
from d3.domain.services.event_watch import EventWatch
from d3.domain.webhooks import EventType, NewWebhook
from d3.testing.fakes import FakeClock
from tests.homes import Home
from tests.service.conftest import Service, painted
from tests.serving import d3_serve, wait_until
from tests.support.receivers import LOOPBACK, Receiver, receiver, status


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@pytest.fixture
def service(start: Callable[..., Service]) -> Service:
    return start(webhook_allow=LOOPBACK)


def add(service: Service, url: str, *events: str, **more: object) -> tuple[int, str]:
    asked = {"url": url, "events": list(events) or ["result.created"]} | more
    made = service.http.post("/api/webhooks", json=asked)
    assert made.status_code == 200, made.text
    return made.json()["webhook"]["id"], made.json()["secret"]


def test_a_result_is_told_with_a_signature_that_the_library_accepts(service, there, image) -> None:
    _, secret = add(service, there.at())
    judged = service.predict(image).json()
    (message,) = there.wait()
    event = message.verified(secret)
    assert event["type"] == "result.created"
    assert event["data"]["id"] == judged["inference_id"]
    assert event["data"]["verdict"] == judged["result"]["verdict"]
    kept = service.http.get(f"/api/inference/result/{judged['inference_id']}").json()["result"]
    assert event["data"]["created_at"][:19] == kept["created_at"][:19] == event["timestamp"][:19]
    assert event["data"]["image_sha256"] == kept["image_sha256"]
    assert message.headers["content-type"] == "application/json"
    assert message.headers["user-agent"].startswith("d3/")


def test_only_results_with_the_verdicts_asked_for_are_told(service, there, image) -> None:
    add(service, there.at("/real"), verdicts=["real"])
    add(service, there.at("/all"))
    for threshold in (0, 1):
        service.predict(image, threshold=threshold)
    messages = there.wait(3)
    told = sorted((one.path, one.event["data"]["verdict"]) for one in messages)
    assert told == [("/all", "fake"), ("/all", "real"), ("/real", "real")]


def test_a_secret_is_in_no_other_answer_and_in_no_log(service, there, caplog) -> None:
    id_, secret = add(service, there.at("/d3?token=hidden"))
    there.answer = status(410)
    service.http.post(f"/api/webhooks/{id_}/test")
    rotated = service.http.post(f"/api/webhooks/{id_}/rotate").json()
    assert rotated["secret"] not in {secret, ""}
    shown = "".join(
        service.http.get(path).text
        for path in (
            *("/api/webhooks", f"/api/webhooks/{id_}", f"/api/webhooks/{id_}/deliveries"),
            *("/api/webhooks/deliveries", "/api/inference/history.jsonl", "/metrics"),
        )
    )
    for one in (secret, rotated["secret"]):
        assert one not in shown
        assert one not in caplog.text
    assert "hidden" not in caplog.text


def test_a_test_says_at_once_whether_it_was_taken(service, there) -> None:
    id_, secret = add(service, there.at())
    sent = service.http.post(f"/api/webhooks/{id_}/test").json()["delivery"]
    assert (sent["state"], sent["status"], sent["type"]) == ("sent", 204, "webhook.test")
    assert there.messages[0].verified(secret)["data"]["webhook_id"] == id_
    there.answer = status(500)
    sent = service.http.post(f"/api/webhooks/{id_}/test").json()["delivery"]
    assert (sent["state"], sent["attempts"]) == ("dead", 1)
    assert sent["trouble"] == "It answered with status 500."
    assert "sent_at" not in sent
    assert service.application.d3._container.outbox().figures().dead == 0  # it alarms nobody
    shown = service.http.get(f"/api/webhooks/{id_}").json()["webhook"]
    assert (shown["failures"], shown["trouble"]) == (1, sent["trouble"])
    there.answer = status(204)
    again = service.http.post(f"/api/webhooks/deliveries/{sent['id']}/resend")
    assert again.json()["delivery"]["state"] == "waiting"
    assert there.wait(3)[2].id == there.messages[1].id


def test_a_webhook_is_changed_disabled_and_removed(service, there, image) -> None:
    id_, _ = add(service, there.at("/old"), name="old")
    changed = service.http.patch(
        f"/api/webhooks/{id_}", json={"url": there.at("/new"), "name": "new"}
    ).json()["webhook"]
    assert (changed["name"], changed["events"]) == ("new", ["result.created"])
    service.predict(image)
    assert there.wait()[0].path == "/new"
    off = service.http.patch(f"/api/webhooks/{id_}", json={"enabled": False})
    assert off.json()["webhook"]["enabled"] is False
    service.predict(painted(3))
    page = service.http.get(f"/api/webhooks/{id_}/deliveries?limit=1").json()
    assert page["count"] == 1
    beyond = service.http.get(
        f"/api/webhooks/{id_}/deliveries", params={"cursor": page["next_cursor"]}
    )
    assert beyond.json()["count"] == 0
    assert service.http.delete(f"/api/webhooks/{id_}").status_code == 200
    assert service.http.get("/api/webhooks").json()["webhooks"] == []
    for call in (
        service.http.get(f"/api/webhooks/{id_}"),
        service.http.delete(f"/api/webhooks/{id_}"),
        service.http.post(f"/api/webhooks/{id_}/test"),
        service.http.get(f"/api/webhooks/{2**70}"),
        service.http.get("/api/webhooks/x"),
    ):
        assert (call.status_code, call.json()["code"]) == (404, "webhook_not_found")


def test_a_wrong_word_is_answered_with_the_right_ones(service) -> None:
    asked = {"url": "https://a.example/", "events": ["job.begun"]}
    for answer in (
        service.http.post("/api/webhooks", json=asked),
        service.http.post("/api/webhooks", json=asked | {"events": []}),
        service.http.patch("/api/webhooks/1", json={"events": ["job.begun"]}),
    ):
        assert "Choose from drift.alert, job.finished, model.changed" in answer.json()["error"]
    asked = {"url": "https://a.example/", "events": ["result.created"], "verdicts": ["maybe"]}
    said = service.http.post("/api/webhooks", json=asked).json()["error"]
    assert said == "The parameter verdicts[0] is not valid. Choose from fake, real, uncertain."
    said = service.http.get("/api/webhooks/deliveries?only=maybe").json()["error"]
    assert said == "The parameter only is not valid. Choose from waiting, sent, dead."
    for wrong in ({"events": 5}, {"secret": "mine"}, {"name": 5}):
        said = service.http.post("/api/webhooks", json=asked | {"verdicts": []} | wrong)
        assert said.status_code == 400


def test_verdicts_without_results_are_refused(service) -> None:
    asked = {"url": "https://a.example/", "events": ["job.finished"], "verdicts": ["fake"]}
    refused = service.http.post("/api/webhooks", json=asked)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_webhook")
    assert "result.created" in refused.json()["error"]
    id_, _ = add(service, "https://a.example/", verdicts=["fake"])
    change = {"events": ["job.finished"]}
    assert service.http.patch(f"/api/webhooks/{id_}", json=change).status_code == 400
    both = change | {"verdicts": []}
    assert service.http.patch(f"/api/webhooks/{id_}", json=both).status_code == 200


def test_what_is_not_there_is_said_alike_and_for_every_surface(service) -> None:
    for id_ in ("999", "abc", str(2**70)):
        said = service.http.get(f"/api/webhooks/{id_}").json()["error"]
        assert said.startswith("There is no webhook with the id ")
        assert said.endswith(". The list of webhooks shows their ids.")
        said = service.http.post(f"/api/webhooks/deliveries/{id_}/resend").json()["error"]
        assert said.endswith(". The list of deliveries shows those of the last days.")


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"url": "http://127.0.0.2:22/"}, "invalid_webhook"),
        ({"url": "http://169.254.169.254/"}, "invalid_webhook"),
        ({"url": "https://ada:secret@a.example/"}, "invalid_webhook"),
        ({"url": "file:///etc/passwd"}, "invalid_webhook"),
        ({"events": ["job.begun"]}, "invalid_parameter"),
        ({"events": []}, "invalid_parameter"),
        ({"url": "https://a.example/" + "a" * 2000}, "invalid_parameter"),
        ({"secret": "mine"}, "invalid_parameter"),
        ({"name": "a\u0000b"}, "invalid_webhook"),
        ({"name": "a\ud800b"}, "invalid_request"),
    ],
)
def test_what_cannot_be_a_webhook_is_refused(service, asked, code) -> None:
    whole = {"url": "https://a.example/", "events": ["job.finished"]} | asked
    body = json.dumps(whole)
    answer = service.http.post(
        "/api/webhooks", content=body, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert "secret@" not in answer.text
    assert service.http.get("/api/webhooks").json()["count"] == 0


def test_everybody_sees_and_changes_their_own_alone(start, there, image) -> None:
    service = start(webhook_allow=LOOPBACK, auth="required")
    accounts = service.application.d3.accounts

    def key(name: str, *scopes: str) -> dict[str, str]:
        with suppress(UserExists):
            accounts.add_user(name)
        return {"X-API-Key": accounts.create_key(name, scopes=scopes).key}

    ada, grace = key("ada", "predict", "read"), key("grace", "predict", "read")
    reader, root = key("ada", "read"), key("root", "admin")
    asked = {"url": there.at("/ada"), "events": ["result.created"]}

    def post(who: dict[str, str], path: str = "", **body: object) -> httpx.Response:
        return service.http.post(f"/api/webhooks{path}", json=body or None, headers=who)

    made = post(ada, **asked).json()["webhook"]
    assert post(reader, **asked).status_code == 403
    assert post(ada, **asked, everyone=True).status_code == 403
    assert post(ada, **asked | {"events": ["model.changed"]}).status_code == 403
    service_wide = {"url": there.at("/root"), "events": ["result.created"], "everyone": True}
    assert post(root, **service_wide).status_code == 200
    path = f"/{made['id']}"
    for who, count in ((ada, 1), (reader, 1), (grace, 0), (root, 2)):
        assert service.http.get("/api/webhooks", headers=who).json()["count"] == count
    for method, where in (
        *(("GET", path), ("PATCH", path), ("DELETE", path), ("POST", f"{path}/rotate")),
        *(("POST", f"{path}/test"), ("GET", f"{path}/deliveries")),
    ):
        body = {"enabled": False} if method == "PATCH" else None
        answer = service.http.request(method, f"/api/webhooks{where}", json=body, headers=grace)
        assert answer.status_code == 404, (method, where)
    patched = service.http.patch(f"/api/webhooks{path}", json={"everyone": True}, headers=ada)
    assert patched.status_code == 403
    for who in (ada, grace):
        service.http.post("/api/inference/predict", files={"file": image}, headers=who)
    messages = there.wait(3)
    assert sorted(one.path for one in messages) == ["/ada", "/root", "/root"]
    (mine,) = service.http.get("/api/webhooks/deliveries", headers=ada).json()["deliveries"]
    assert service.http.get("/api/webhooks/deliveries", headers=grace).json()["count"] == 0
    assert post(grace, f"/deliveries/{mine['id']}/resend").status_code == 404
    assert post(ada, f"/deliveries/{mine['id']}/resend").status_code == 200


def test_a_model_that_changes_is_told_and_the_metrics_count(service, there) -> None:
    add_for_all(service, there, EventType.MODEL_CHANGED)
    watch = EventWatch(
        service.machine.fronts[0].d3._container.outbox(), service.host, lambda: None, FakeClock()
    )
    watch.look()  # the first of all is no change
    known = service.host.loaded()
    assert known is not None
    model = known.manifest

    class Another:
        def loaded(self) -> object:
            return SimpleNamespace(manifest=replace(model, version=model.version + 1))

    watch._host = Another()  # type: ignore[assignment]
    watch.look()
    (message,) = there.wait()
    assert message.event["type"] == "model.changed"
    assert message.event["data"]["model"]["version"] == model.version + 1
    wait_until(lambda: "d3_webhooks_sent_total 1.0" in service.metrics())
    assert "d3_webhooks_dead 0.0" in service.metrics()


def test_a_drift_is_told_when_it_begins(service, there) -> None:
    add_for_all(service, there, EventType.DRIFT_ALERT)
    drifted = Share(0.5, 0.4, 0.6)
    levels = [Level.STABLE, Level.DRIFTED, Level.DRIFTED, Level.UNCLEAR, Level.DRIFTED]
    levels += [Level.WATCH, Level.DRIFTED]
    reports = [a_report(level, drifted) for level in levels]
    no_model = SimpleNamespace(loaded=lambda: None)
    outbox = service.machine.fronts[0].d3._container.outbox()
    for report in reports:
        # Each by a process of its own.
        EventWatch(outbox, no_model, lambda report=report: report, FakeClock()).look()  # type: ignore[arg-type]
    messages = there.wait(2)
    assert [one.event["type"] for one in messages] == ["drift.alert"] * 2
    assert messages[0].event["data"]["psi"] == {"value": 0.5, "low": 0.4, "high": 0.6}


def add_for_all(service: Service, there: Receiver, *events: EventType) -> None:
    """Ask for what only administrators may ask for."""
    webhooks = service.application.d3.webhooks
    webhooks.add(UNRESTRICTED, NewWebhook(url=there.at(), events=events))


def a_report(level: Level, psi: Share) -> DriftReport:
    nothing = VerdictCounts(fake=0, real=0, uncertain=0)
    total = Drift(
        images=500,
        scores=(),
        level=level,
        psi=psi,
        labelled_real=nothing,
        labelled_generated=nothing,
    )
    return DriftReport(
        model_name="m",
        model_version=1,
        calibration="c",
        total=total,
        days=(),
        note="",
        notice="",
    )


def test_a_job_tells_its_callback_and_the_endpoints(service, there, image) -> None:
    id_, secret = add(service, there.at("/all"), "job.finished", "result.created")
    files = [("files", ("a.png", image)), ("files", ("b.png", painted(9)))]
    sent = service.http.post("/api/jobs", files=files, data={"callback": there.at("/this")})
    assert sent.status_code == 202, sent.text
    job = sent.json()["job"]
    messages = there.wait(4)
    (called,) = [one for one in messages if one.path == "/this"]
    event = called.verified(job["callback_secret"])
    assert (event["type"], event["data"]["job"]["id"]) == ("job.finished", job["id"])
    told = [one.verified(secret)["type"] for one in messages if one.path == "/all"]
    assert sorted(told) == ["job.finished", "result.created", "result.created"]
    listed = service.http.get("/api/webhooks/deliveries").json()["deliveries"]
    assert {one["webhook_id"] for one in listed} == {id_, None}
    assert job["callback_secret"] not in json.dumps(listed)
    refused = service.http.post(
        "/api/jobs", files=files, data={"callback": "https://ada:secret@a.example/"}
    )
    assert refused.status_code == 400
    assert "secret" not in refused.text


def test_what_a_front_commits_the_engine_process_sends(
    home: Home, tmp_path: Path, there: Receiver
) -> None:
    environ = home.environ | {"D3_WEBHOOK_ALLOW": "127.0.0.0/8", "D3_WORKERS": "2"}
    with d3_serve(tmp_path, **environ) as served:
        url = served.url()
        asked = {"url": there.at(), "events": ["result.created"]}
        secret = httpx.post(f"{url}/api/webhooks", json=asked).json()["secret"]
        files = {"file": ("a.png", painted(7))}
        judged = httpx.post(f"{url}/api/inference/predict", files=files, timeout=60).json()
        (message,) = there.wait()
        assert message.verified(secret)["data"]["id"] == judged["inference_id"]
