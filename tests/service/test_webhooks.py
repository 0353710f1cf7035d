"""Webhooks through the API: asked for, signed, sent, and shown to their owners alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.service.conftest import Service
from tests.support.receivers import LOOPBACK, Receiver, receiver


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
