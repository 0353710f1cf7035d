"""``d3 serve --workers``, really: an engine that dies, is stuck, or has no model."""

from __future__ import annotations

import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from d3.container import Container
from d3.entrypoints.serving.engine import EngineService
from d3.entrypoints.serving.listening import listen_at
from tests.homes import Home
from tests.service.conftest import painted
from tests.serving import assert_problem, client, d3_serve, is_there, wait_until

WORKERS = ("--port", "0", "--workers", "2")


def environ_of(home: Home, **changes: str) -> dict[str, str]:
    """Its settings, for a busy machine on which an engine takes long to start."""
    patient = {"OMP_NUM_THREADS": "1", "D3_CACHE_ENTRIES": "0", "D3_REQUEST_SECONDS": "120"}
    return home.environ | patient | changes


def judged(url: str) -> httpx.Response:
    return httpx.post(f"{url}/api/inference/predict", files={"file": painted(1)}, timeout=150)


def test_what_an_engine_has_not_answered_its_successor_does(home: Home, tmp_path: Path) -> None:
    with (
        d3_serve(tmp_path, *WORKERS, **environ_of(home)) as served,
        ThreadPoolExecutor(1) as pool,
    ):
        url = served.url()
        for is_noticed in (True, False):
            engine = served.pid("engine-0")
            os.kill(engine, signal.SIGSTOP)
            asked = pool.submit(judged, url)
            time.sleep(0.5)
            assert not asked.done()
            if is_noticed:
                os.kill(engine, signal.SIGKILL)
            assert asked.result().status_code == 200, asked.result().text
            wait_until(lambda: served.pid("engine-0") != engine, 120)  # noqa: B023  used at once
        assert "engine-0 does not answer and is killed" in served.text
        assert served.stop() == 0
    assert "Traceback" not in served.text


@pytest.mark.parametrize("told", [(), ("engine-0", "front-1", "front-2")])
def test_told_to_stop_fronts_answer_before_the_engine_ends(
    home: Home, tmp_path: Path, told: tuple[str, ...]
) -> None:
    """The supervisor alone is told, or every process as systemd does."""
    with (
        d3_serve(tmp_path, *WORKERS, **environ_of(home)) as served,
        ThreadPoolExecutor(1) as pool,
    ):
        url, engine = served.url(), served.pid("engine-0")
        os.kill(engine, signal.SIGSTOP)
        asked = pool.submit(judged, url)
        time.sleep(0.5)
        for pid in (served.process.pid, *map(served.pid, told)):
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.5)
        assert not asked.done()
        os.kill(engine, signal.SIGCONT)
        assert asked.result().status_code == 200, asked.result().text
        assert served.process.wait(60) == 0
    assert "Traceback" not in served.text
    assert "died" not in served.text


def test_of_a_killed_supervisor_the_fronts_answer_before_the_engine_ends(
    home: Home, tmp_path: Path
) -> None:
    with (
        d3_serve(tmp_path, *WORKERS, **environ_of(home)) as served,
        ThreadPoolExecutor(1) as pool,
    ):
        url, engine = served.url(), served.pid("engine-0")
        os.kill(engine, signal.SIGSTOP)
        asked = pool.submit(judged, url)
        time.sleep(0.5)
        served.stop(signal.SIGKILL)
        time.sleep(0.5)
        assert not asked.done()
        os.kill(engine, signal.SIGCONT)
        assert asked.result().status_code == 200, asked.result().text
        wait_until(lambda: not is_there(engine))
    assert "Traceback" not in served.text


def test_without_a_model_fronts_say_so_and_recover(home: Home, tmp_path: Path) -> None:
    environ = environ_of(home, D3_MODEL="mine", D3_FOLLOW_SECONDS="1")
    key, content = max(
        ((name, home.store.read(name)) for name in home.store.names()), key=lambda one: len(one[1])
    )
    home.damage_encoder()
    with d3_serve(tmp_path, *WORKERS, **environ) as served, client(served.url()) as http:
        for _ in range(8):  # whichever front answers
            ready = http.get("/health/ready", headers={"Connection": "close"})
            assert ready.status_code == 503
            assert "model: none is loaded" in ready.json()["missing"][0]
            asked = http.post("/api/inference/predict", files={"file": painted(1)})
            assert_problem(asked, 503, "model_not_loaded")
        home.store.write(key, content)
        wait_until(lambda: http.get("/health/ready").status_code == 200, 120)
        for _ in range(8):
            asked = http.post(
                "/api/inference/predict",
                files={"file": painted(1)},
                headers={"Connection": "close"},
            )
            assert asked.status_code == 200, asked.text
        assert served.stop() == 0


def test_a_front_that_dies_with_the_engine_is_back_before_it(home: Home, tmp_path: Path) -> None:
    with d3_serve(tmp_path, *WORKERS, **environ_of(home)) as served:
        url, old = served.url(), {name: served.pid(name) for name in ("engine-0", "front-1")}
        os.kill(old["engine-0"], signal.SIGSTOP)  # for five seconds nobody notices
        os.kill(old["front-1"], signal.SIGKILL)
        for _ in range(20):
            assert httpx.get(f"{url}/health/live").status_code == 200
        assert served.pid("engine-0") == old["engine-0"]
        assert served.pid("front-1") != old["front-1"]
        wait_until(lambda: served.pid("engine-0") != old["engine-0"], 120)
        assert served.stop() == 0


def test_an_engine_that_ends_leaves_its_socket_and_its_model_to_the_next_one(home: Home) -> None:
    path = home.path / "engine-0.sock"
    with listen_at(path, "") as kept:
        for _ in range(2):
            service = EngineService(Container(settings=home.settings(model="mine")), 0)
            service.start(kept.dup())
            model = service._host.loaded()
            assert service.stop()
            assert model is not None
            assert model.manifest.name == "mine"
            with socket.socket(socket.AF_UNIX) as waiting:
                waiting.connect(str(path))
                kept.accept()[0].close()


def test_on_a_unix_socket_callers_need_a_key_and_count_by_their_proxys_word(
    home: Home, tmp_path: Path
) -> None:
    path = tmp_path / "sockets" / "front-1.sock"
    environ = environ_of(home, D3_RATE_PER_ADDRESS="1/hour")
    with d3_serve(tmp_path, "--uds", "sockets", **environ) as served:
        assert served.process.wait(60) == 2
        assert "Create one: d3 keys init" in served.text
    container = Container(settings=home.settings())
    key = container.account_service().first_key().key
    container.database().close()
    with d3_serve(tmp_path, "--uds", "sockets", **environ) as served:
        assert served.url() == f"unix:{path}"
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as http:
            url, sent = "http://localhost/api/model/info", {"X-API-Key": key}
            assert_problem(http.get(url), 401)
            for caller in ("203.0.113.7", "203.0.113.8"):
                sent["X-Forwarded-For"] = caller
                assert http.get(url, headers=sent).status_code == 200
                assert http.get(url, headers=sent).status_code == 429
        assert served.stop() == 0
    assert not path.exists()
