"""``d3.Client`` against the real service, and against one that is not well."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import d3
from d3.client import AsyncClient, Client, ServiceError
from d3.testing import tiny_ferretnet
from tests.homes import Home
from tests.service.conftest import Service, painted
from tests.serving import serving
from tests.support.history import NOON, an_entry


@pytest.fixture
def client(service: Service) -> Any:
    with Client(service.url) as client:
        yield client


@pytest.mark.on_servers
def test_an_image_is_judged_and_found_again(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "night.png"
    path.write_bytes(painted(3))
    prediction = client.predict(path, threshold=0.25, views=3)
    assert prediction.result.is_fake is False
    assert (prediction.result.threshold, prediction.result.views) == (0.25, 3)
    kept = client.result(prediction.inference_id)
    assert kept.image_name == "night.png"
    assert kept.prediction == prediction.result.prediction
    assert client.predict(path.read_bytes(), name="day.png").inference_id > kept.id
    client.delete(kept.id)
    with pytest.raises(ServiceError) as gone:
        client.result(kept.id)
    assert (gone.value.status, gone.value.code) == (404, "result_not_found")
    assert gone.value.request_id
    assert isinstance(gone.value, d3.D3Error)


def test_results_are_labelled_and_deleted_in_bulk(client: Client, service: Service) -> None:
    entries = [an_entry(f"IMG_{n}.png") for n in range(1203)]
    ids: list[int] = service.application.d3.writer.submit(entries).result()
    said = client.label(ids[0], "generated", source="agency", note="seen elsewhere")
    assert (said.result_id, said.label, said.source) == (ids[0], "generated", "agency")
    assert client.label_many(ids, "real") == 1203
    assert [one.label for one in client.labels(ids[0])] == ["real", "generated"]
    assert len(list(client.history(label="real", contains="img_"))) == 1203
    assert [one.name for one in client.stats(group="label").groups] == ["real"]  # type: ignore[union-attr]
    assert client.delete_many([10**9, *ids]) == [10**9]
    with pytest.raises(ServiceError, match="no result"):
        client.label(ids[0], "real")


def test_a_batch_keeps_its_order_and_its_bad_files(client: Client) -> None:
    answer = client.predict_batch([painted(1), b"no image", painted(255)])
    assert answer.count == 3
    first, bad, last = answer.results
    assert bad.code == "not_an_image"
    assert first.result
    assert last.result
    assert first.result.prediction < last.result.prediction  # type: ignore[union-attr]


def test_the_history_turns_its_pages_by_itself(client: Client, service: Service) -> None:
    entries = [
        an_entry(f"{n}.png", created_at=NOON + timedelta(seconds=n), is_fake=n % 2 == 0)
        for n in range(1203)
    ]
    service.application.d3.writer.submit(entries).result()
    assert [one.image_name for one in client.history()] == [f"{n}.png" for n in range(1202, -1, -1)]
    some = client.history(is_fake=True, since=NOON + timedelta(seconds=1000), q="1")
    assert [one.image_name for one in some] == [f"{n}.png" for n in range(1202, 999, -2)]
    first = next(client.history(until=NOON + timedelta(seconds=10)))
    assert first.created_at == NOON + timedelta(seconds=9)


@pytest.mark.on_servers
def test_statistics_and_models(client: Client, home: Home, tmp_path: Path) -> None:
    client.predict(painted(3))
    assert client.stats().total_inferences == 1
    assert len(client.stats(bucket="day").series) == 1  # type: ignore[arg-type]
    assert "mine" in client.models().models
    assert client.model().model_name == "mine"
    head = tmp_path / "head.safetensors"
    head.write_bytes(home.head())
    assert client.upload_model(head, "next").version == 1
    network = tiny_ferretnet(tmp_path).paths["network"]
    assert client.upload_model(network, "witness", architecture="ferretnet").version == 1
    client.load_model("next")
    assert client.model().model_name == "next"
    client.unload_model()
    assert client.model().loaded is False
    client.load_model()
    assert client.model().model_name == "mine"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    "address",
    ["", "localhost:5000", "http://", "ftp://d3.example", "http://[::1", "http://a:99999", "/api"],
)
def test_an_address_that_cannot_be_one_is_refused_at_once(kind: Any, address: str) -> None:
    with pytest.raises(d3.errors.RequestInvalid, match=r"Begin it with http:// or https://"):
        kind(address)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("key", ["one\ntwo", "a\0b", "schlüssel"])
def test_a_key_that_cannot_be_one_is_refused_at_once(kind: Any, key: str) -> None:
    with pytest.raises(d3.errors.RequestInvalid, match="It is one line") as refused:
        kind("http://d3.invalid", key)
    assert key not in str(refused.value)


def test_a_keys_file_may_be_read_as_it_is() -> None:
    seen: list[dict[str, str]] = []
    with serving(flaky([], seen), lifespan="off") as url:
        for client in (Client(f" {url}\n", "key\n"), Client(url, "\tkey ")):
            with client:
                client.stats()
    assert [one["authorization"] for one in seen] == ["Bearer key"] * 2


def test_bytes_of_all_kinds_and_open_files_are_sent(
    client: Client, service: Service, tmp_path: Path
) -> None:
    path = tmp_path / "night.png"
    path.write_bytes(painted(3))
    content = path.read_bytes()
    with path.open("rb") as stream:
        sent = [stream, io.BytesIO(content), bytearray(content), memoryview(content)]
        answers = [client.predict(one) for one in sent]
    assert len({one.result.logit for one in answers}) == 1
    kept = [client.result(one.inference_id).image_name for one in answers]
    assert kept == ["night.png", "image", "image", "image"]
    with path.open(encoding="latin-1") as text, pytest.raises(d3.D3Error, match="mode 'rb'"):
        client.predict(text)  # type: ignore[arg-type]
    assert service.rows() == 4


def flaky(
    answers: list[tuple[int, dict[str, str]]], seen: list[dict[str, str]], code: str = "busy"
) -> Any:
    """An ASGI application that gives these answers in turn, then a good one."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        seen.append({name.decode(): value.decode() for name, value in scope["headers"]})
        status, headers = answers.pop(0) if answers else (200, {})
        body: dict[str, Any] = {"success": True, "message": "done"}
        if status != 200:
            body = {"success": False, "error": "Not now.", "code": code, "request_id": "r"}
        if scope["path"].endswith("stats") and status == 200:
            zeros = ["total_inferences", "total_fake", "total_real", "fake_percentage"]
            body["stats"] = dict.fromkeys([*zeros, "avg_processing_time"], 0)
        fields = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    return application


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again_when_it_says(status: int) -> None:
    slept: list[float] = []
    seen: list[dict[str, str]] = []
    busy = [(status, {"Retry-After": "7"}), (status, {}), (status, {"Retry-After": "9999"})]
    with (
        serving(flaky(busy, seen), lifespan="off") as url,
        Client(url, api_key="k", sleep=slept.append) as client,
    ):
        assert client.stats().total_inferences == 0
    assert len(seen) == 4
    assert slept[0] == 7
    assert 0 < slept[1] < 1
    assert slept[2] == 60
    assert {one["authorization"] for one in seen} == {"Bearer k"}


def test_a_retried_prediction_keeps_its_idempotency_key() -> None:
    seen: list[dict[str, str]] = []
    busy = [(503, {"Retry-After": "0"})] * 2 + [(400, {})]
    with (
        serving(flaky(busy, seen), lifespan="off") as url,
        Client(url) as client,
        pytest.raises(ServiceError) as refused,
    ):
        client.predict(b"x")
    assert (refused.value.status, refused.value.code) == (400, "busy")
    assert str(refused.value) == "Not now."
    keys = [one["idempotency-key"] for one in seen]
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_patience_ends() -> None:
    seen: list[dict[str, str]] = []
    with (
        serving(flaky([(503, {"Retry-After": "0"})] * 9, seen), lifespan="off") as url,
        Client(url, retries=2) as client,
        pytest.raises(ServiceError) as refused,
    ):
        client.model()
    assert refused.value.status == 503
    assert len(seen) == 3


IN_FLIGHT = (409, {"Retry-After": "45"})


def test_a_request_that_is_being_answered_is_asked_for_again() -> None:
    """A service that was killed and started again keeps the request's key for a minute."""
    seen: list[dict[str, str]] = []
    slept: list[float] = []
    with (
        serving(
            flaky([IN_FLIGHT] * 12 + [(400, {})], seen, "request_in_flight"), lifespan="off"
        ) as url,
        Client(url, sleep=slept.append) as client,
        pytest.raises(ServiceError) as refused,
    ):
        client.predict(b"x")
    assert refused.value.status == 400
    assert len(seen) == 13
    assert len({one["idempotency-key"] for one in seen}) == 1
    assert all(0 < pause < 5 for pause in slept)


def test_patience_with_a_request_that_is_being_answered_ends() -> None:
    seen: list[dict[str, str]] = []
    slept: list[float] = []
    with (
        serving(flaky([IN_FLIGHT] * 99, seen, "request_in_flight"), lifespan="off") as url,
        Client(url, sleep=slept.append) as client,
        pytest.raises(ServiceError) as refused,
    ):
        client.predict(b"x")
    assert refused.value.code == "request_in_flight"
    assert 60 < sum(slept) < 100


def test_another_conflict_is_not_asked_again() -> None:
    seen: list[dict[str, str]] = []
    with (
        serving(flaky([IN_FLIGHT] * 2, seen, "model_busy"), lifespan="off") as url,
        Client(url) as client,
        pytest.raises(ServiceError) as refused,
    ):
        client.load_model()
    assert refused.value.code == "model_busy"
    assert len(seen) == 1


def test_a_service_on_this_machine_is_not_asked_through_a_proxy(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    port = service.url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost"):
        with Client(f"http://{host}:{port}", retries=0) as client:
            assert client.model().loaded
    with Client("http://d3.invalid:5000", retries=0) as client, pytest.raises(ServiceError):
        client.model()


@pytest.mark.parametrize(
    ("proxy", "way_out"), [("socks5://127.0.0.1:9", "httpx[socks]"), ("nonsense://", "HOST:PORT")]
)
def test_a_proxy_that_cannot_be_used_is_told(
    proxy: str, way_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(d3.D3Error, match="ALL_PROXY") as refused:
        Client("http://d3.example:5000")
    assert way_out in str(refused.value)


def test_no_answer_is_an_error_with_a_way_out() -> None:
    slept: list[float] = []
    client = Client("http://127.0.0.1:9", retries=2, sleep=slept.append)
    with client, pytest.raises(ServiceError, match="Is d3 serve running there") as refused:
        client.stats()
    assert (refused.value.status, refused.value.code) == (0, "no_answer")
    assert len(slept) == 2


def test_another_kind_of_server_is_told_apart() -> None:
    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"<html>nothing here"})

    with (
        serving(page, lifespan="off") as url,
        Client(url) as client,
        pytest.raises(ServiceError, match="Is this the address of d3 serve") as refused,
    ):
        client.stats()
    assert refused.value.code == "unexpected_answer"


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import d3", {"httpx", "torch", "litestar", "PIL"}),
        ("import d3.client", {"torch", "litestar", "sqlalchemy", "PIL"}),
        ("from d3 import Client", {"torch", "litestar", "sqlalchemy"}),
    ],
)
def test_importing_loads_no_more_than_it_must(code: str, absent: set[str]) -> None:
    show = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    assert not absent & set(done.stdout.split())


FORKED = """
import os, sys, d3
client = d3.Client(sys.argv[1])
client.stats()
if os.fork() == 0:
    client.stats()
    client.close()
    os._exit(0)
assert os.wait()[1] == 0
client.stats()
"""


def test_a_forked_process_has_connections_of_its_own(service: Service) -> None:
    """On one connection, two processes would read each other's answers."""
    ports: list[int] = []

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            ports.append(scope["client"][1])
        await service.application(scope, receive, send)

    with serving(watched, lifespan="off") as url:
        command = [sys.executable, "-W", "ignore", "-c", FORKED, url]
        subprocess.run(command, check=True, timeout=60)
    parent, child, again = ports
    assert parent == again != child
