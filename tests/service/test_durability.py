"""What was acknowledged outlives the server; what is in flight is answered before it stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from tests.homes import Home
from tests.service.conftest import painted
from tests.serving import d3_serve, wait_until

PREDICTIONS = int(os.environ.get("D3TEST_PREDICTIONS", "60"))


def predict(url: str, shade: int) -> httpx.Response:
    files = {"file": (f"{shade}.png", painted(shade % 256))}
    return httpx.post(f"{url}/api/inference/predict", files=files, timeout=60)


def test_kill_9_in_the_middle_of_predictions_loses_no_acknowledged_row(
    home: Home, tmp_path: Path
) -> None:
    acknowledged: list[tuple[int, float]] = []
    enough = threading.Event()

    def work(shade: int, url: str) -> None:
        if enough.is_set():
            return
        try:
            answer = predict(url, shade)
        except httpx.TransportError:
            return
        if answer.status_code == 200:
            body = answer.json()
            acknowledged.append((body["inference_id"], body["result"]["prediction"]))
        if len(acknowledged) >= PREDICTIONS // 2:
            enough.set()

    with d3_serve(tmp_path, **home.environ, D3_CACHE_ENTRIES="0") as served:
        url = served.url()
        with ThreadPoolExecutor(8) as pool:
            for shade in range(PREDICTIONS):
                pool.submit(work, shade, url)
            assert enough.wait(60)
            assert served.stop(signal.SIGKILL) == -signal.SIGKILL
    assert len(acknowledged) >= PREDICTIONS // 2
    with home.database() as database, database.reading() as connection:
        if database.is_sqlite:
            assert connection.execute(sa.text("PRAGMA integrity_check")).all() == [("ok",)]
        found = connection.execute(sa.text("SELECT id, prediction FROM inference_results"))
        rows = {row.id: row.prediction for row in found}
    assert {id_: rows.get(id_) for id_, _ in acknowledged} == dict(acknowledged)
    with d3_serve(tmp_path, **home.environ) as again:
        url = again.url()
        total = httpx.get(f"{url}/api/inference/history").json()["total"]
        assert total == len(rows)
        assert predict(url, 1).json()["inference_id"] > max(rows)


def begin(url: str, shade: int) -> tuple[socket.socket, bytes]:
    """Begin a prediction; the connection, and what is still to be sent."""
    image = painted(shade)
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        + image
        + b"\r\n--b--\r\n"
    )
    head = (
        f"POST /api/inference/predict HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    address = httpx.URL(url)
    connection = socket.create_connection((address.host, address.port or 80), timeout=60)
    connection.sendall(head.encode() + body[:90])
    return connection, body[90:]


def refuses(url: str) -> bool:
    try:
        httpx.get(f"{url}/health")
    except httpx.TransportError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_stop_answers_what_is_in_flight_and_exits_0(
    home: Home, tmp_path: Path, number: signal.Signals
) -> None:
    with d3_serve(tmp_path, **home.environ) as served:
        url = served.url()
        begun = [begin(url, shade) for shade in range(8)]
        in_flight = "d3_http_requests_in_flight 9.0"  # this one is the ninth
        wait_until(lambda: in_flight in httpx.get(f"{url}/metrics").text)
        served.process.send_signal(number)
        wait_until(lambda: refuses(url))
        answers = []
        for connection, rest in begun:
            connection.sendall(rest)
        for connection, _ in begun:
            with connection:
                answers.append(connection.makefile("rb").read())
        assert served.process.wait(60) == 0
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    with home.database() as database, database.reading() as connection:
        rows = set(connection.scalars(sa.text("SELECT id FROM inference_results")))
        logged = connection.scalar(sa.text("SELECT count(*) FROM request_logs"))
    assert {json.loads(one.partition(b"\r\n\r\n")[2])["inference_id"] for one in answers} == rows
    assert len(rows) == 8
    assert logged >= 8
    assert "Traceback" not in served.text
