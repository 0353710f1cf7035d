"""``d3 serve --workers 2``: to whoever calls it, three processes are one service.

Each front has a Unix socket here, so that a test says which of them it asks.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from d3.adapters.in_process import SystemClock
from d3.adapters.sql import Database, SqlAccounts
from d3.domain.keys import mint
from d3.domain.services.accounts import AccountService
from tests.homes import Home, Homes
from tests.pictures import paint
from tests.service.conftest import painted
from tests.serving import Served, assert_problem, d3_serve, wait_until

PREDICT, INFO, HISTORY = "/api/inference/predict", "/api/model/info", "/api/inference/history"
LOAD, UNLOAD = "/api/model/load", "/api/model/unload"
SETTINGS = {
    "D3_WORKERS": "2",
    "D3_RATE_PER_ADDRESS": "40/hour",
    "D3_RATE_FAILED_KEYS": "4/hour",
    "D3_FOLLOW_SECONDS": "1",
    "CUDA_DEVICE": "cpu",
    "OMP_NUM_THREADS": "1",
}
_SHADES = itertools.count(1)


@dataclass(frozen=True)
class Workers:
    """The service.

    Attributes:
        served: its supervisor.
        home: where it keeps its things.
        opened: a folder whose images it may scan.
        accounts: makes keys.
        fronts: a client of each front.
    """

    served: Served
    home: Home
    opened: Path
    accounts: AccountService
    fronts: list[httpx.Client]

    def key(self) -> dict[str, str]:
        """The header of a new key that may do everything."""
        name = f"user-{next(_SHADES)}"
        self.accounts.add_user(name)
        key = self.accounts.create_key(name, scopes=["admin"]).key
        return {"Authorization": f"Bearer {key}"}

    def each(self, path: str, key: dict[str, str], method: str = "GET", **sent: Any) -> list[Any]:
        """What each front answers."""
        answers = [one.request(method, path, headers=key, **sent) for one in self.fronts]
        assert [one.status_code for one in answers] == [200, 200], answers[-1].text
        return [one.json() for one in answers]

    def names(self, key: dict[str, str]) -> list[str | None]:
        """The name of the model that each front uses."""
        return [one["info"].get("model_name") for one in self.each(INFO, key)]

    def pid(self, name: str) -> int:
        """The latest process of this name."""
        return int(re.findall(rf"{name} is process (\d+)", self.served.text)[-1])

    def series(self, key: dict[str, str]) -> list[dict[str, float]]:
        """What each front shows in a scrape, the counts of these requests aside."""
        found = []
        for front in self.fronts:
            lines = front.get("/metrics", headers=key).text.splitlines()
            pairs = (one.rpartition(" ") for one in lines if one[:1] not in {"", "#"})
            found.append({name: float(number) for name, _, number in pairs})
            assert len(found[-1]) == sum(one[:1] not in {"", "#"} for one in lines)
        return found


@pytest.fixture(scope="module")
def workers(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """A service that each test leaves with the model ``mine``."""
    folder = tmp_path_factory.mktemp("workers")
    opened = folder / "opened"
    opened.mkdir()
    with ExitStack() as stack:
        home = stack.enter_context(homes(folder / "home"))
        database = Database(home.settings().database)
        stack.callback(database.close)
        accounts = AccountService(SqlAccounts(database), SystemClock())
        accounts.first_key()  # without one it does not start where others may reach it
        sockets = folder / "sockets"
        environ = SETTINGS | home.environ | {"D3_SCAN_FOLDER": str(opened)}
        served = stack.enter_context(d3_serve(folder, "--uds", str(sockets), **environ))
        served.url()
        fronts = [
            stack.enter_context(
                httpx.Client(
                    base_url="http://d3",
                    timeout=60,
                    transport=httpx.HTTPTransport(uds=str(sockets / f"front-{number}.sock")),
                )
            )
            for number in (1, 2)
        ]
        yield Workers(served, home, opened, accounts, fronts)
        assert served.stop() == 0, served.text


def image() -> dict[str, Any]:
    """An image that nobody has sent before."""
    return {"file": ("a.png", painted(next(_SHADES)))}


def test_both_are_ready_and_use_the_same_model(workers: Workers) -> None:
    key = workers.key()
    one, other = workers.each(INFO, key)
    assert one == other
    assert one["info"]["model_name"] == "mine"
    assert workers.each("/health/ready", {}) == [{"ready": True, "missing": []}] * 2


def test_a_limit_on_requests_is_exact(workers: Workers) -> None:
    key = workers.key() | {"X-Forwarded-For": "203.0.113.6"}
    asked = [workers.fronts[n % 2].get(HISTORY, headers=key).status_code for n in range(45)]
    assert asked == [200] * 40 + [429] * 5


def test_a_limit_on_refused_keys_is_exact_for_each_address_that_the_proxy_tells(
    workers: Workers,
) -> None:
    def guess(number: int, address: str) -> int:
        headers = {"Authorization": f"Bearer {mint().key}", "X-Forwarded-For": address}
        return workers.fronts[number % 2].get(HISTORY, headers=headers).status_code

    assert [guess(n, "203.0.113.7") for n in range(6)] == [401] * 4 + [429] * 2
    assert guess(0, "203.0.113.8") == 401


def test_a_load_and_an_unload_by_one_change_both(workers: Workers) -> None:
    key = workers.key()
    one, other = workers.fronts
    assert one.post(LOAD, data={"name": "starter"}, headers=key).status_code == 200
    wait_until(lambda: workers.names(key) == ["starter"] * 2)
    assert other.post(UNLOAD, headers=key).status_code == 200
    wait_until(lambda: [f.get("/health/ready").status_code for f in workers.fronts] == [503] * 2)
    refused = one.post(PREDICT, files=image(), headers=key)
    assert_problem(refused, 503, "model_not_loaded")
    assert other.post(LOAD, data={"name": "mine"}, headers=key).status_code == 200
    wait_until(lambda: workers.names(key) == ["mine"] * 2)
    assert workers.each(INFO, key)[0] == workers.each(INFO, key)[1]


def test_a_new_default_model_reaches_both(workers: Workers) -> None:
    key = workers.key()
    for name in ("starter", "mine"):
        workers.home.store.write("active", f"{name}\n".encode())
        wait_until(lambda name=name: workers.names(key) == [name] * 2)  # type: ignore[misc]


def test_a_request_sent_to_both_with_one_idempotency_key_counts_once(workers: Workers) -> None:
    key = workers.key()
    sent = image()
    answers = [
        one.post(PREDICT, files=sent, headers=key | {"Idempotency-Key": "once"})
        for one in workers.fronts
    ]
    assert answers[0].json() == answers[1].json()
    assert [one["total"] for one in workers.each(HISTORY, key)] == [
        workers.fronts[0].get(HISTORY, headers=key).json()["total"]
    ] * 2


def test_an_image_sent_to_both_at_once_costs_one_forward_pass(workers: Workers) -> None:
    key = workers.key()
    before = workers.series(key)[0]["d3_batch_images_sum"]
    sent = image()
    with ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(one.post, PREDICT, files=sent, headers=key) for one in workers.fronts * 4
        ]
        answers = [one.result().json() for one in asked]
    assert len({one["result"]["logit"] for one in answers}) == 1
    assert len({one["inference_id"] for one in answers}) == 8
    assert [one["result"]["cached"] for one in answers].count(False) <= 8
    for series in workers.series(key):
        assert series["d3_batch_images_sum"] == before + 1


def test_a_heat_map_is_the_same_from_both(workers: Workers) -> None:
    key = workers.key()
    sent = image()
    one, other = (
        front.post("/api/inference/explain", files=sent, headers=key) for front in workers.fronts
    )
    assert one.status_code == other.status_code == 200
    assert one.json()["explanation"] == other.json()["explanation"]


def test_a_scrape_of_either_shows_the_sums(workers: Workers) -> None:
    key = workers.key()
    name = f'd3_http_requests_total{{method="POST",route="{PREDICT}",status="200"}}'
    before = [one.get(name, 0.0) for one in workers.series(key)]
    assert before[0] == before[1]
    for front, times in zip(workers.fronts, (2, 3), strict=True):
        for _ in range(times):
            assert front.post(PREDICT, files=image(), headers=key).status_code == 200
    one, other = workers.series(key)
    assert one[name] == other[name] == before[0] + 5
    assert one["d3_model_loaded"] == 1
    assert one["d3_result_cache_up"] == 1
    assert "d3_drift_images" in one
    assert one['d3_queue_images{lane="interactive"}'] == 0
    assert set(one) == set(other)


def test_each_request_has_an_id_of_its_own_and_is_logged_once(workers: Workers) -> None:
    key = workers.key()
    ids = [
        front.get(HISTORY, headers=key).headers["x-request-id"]
        for front in workers.fronts
        for _ in range(3)
    ]
    assert len(set(ids)) == 6

    def logged() -> dict[str, str]:
        lines = [json.loads(one) for one in workers.served.text.splitlines() if one[:1] == "{"]
        found = [one for one in lines if one.get("request_id") in ids]
        assert len({one["request_id"] for one in found}) == len(found)
        return {one["request_id"]: one["process"] for one in found}

    wait_until(lambda: len(logged()) == 6)
    assert [logged()[one] for one in ids] == ["front-1"] * 3 + ["front-2"] * 3
    every = [json.loads(one) for one in workers.served.text.splitlines() if one[:1] == "{"]
    assert all("process" in one for one in every)

    def recorded() -> int:
        with workers.home.database() as database, database.reading() as connection:
            return int(
                connection.exec_driver_sql(
                    "SELECT count(*) FROM request_logs WHERE request_id IN "
                    f"({','.join(repr(one) for one in ids)})"
                ).scalar_one()
            )

    wait_until(lambda: recorded() == 6)


def test_a_scan_that_one_begins_is_run_once_and_shown_by_both(workers: Workers) -> None:
    key = workers.key()
    paint(workers.opened, 3)
    begun = workers.fronts[1].post(
        "/api/scans", json={"source": str(workers.opened), "id": "one"}, headers=key
    )
    assert begun.status_code in {200, 201, 202}, begun.text
    wait_until(
        lambda: (
            workers.fronts[0].get("/api/scans/one", headers=key).json()["scan"]["state"] == "done"
        ),
        120,
    )
    one, other = workers.each("/api/scans/one", key)
    assert one == other


def test_an_engine_that_is_killed_comes_back_with_the_model_that_it_had(workers: Workers) -> None:
    key = workers.key()
    assert workers.fronts[0].post(LOAD, data={"name": "starter"}, headers=key).status_code == 200
    os.kill(workers.pid("engine-0"), signal.SIGKILL)
    for front in workers.fronts:
        answer = front.post(PREDICT, files=image(), headers=key)
        assert answer.status_code == 200 or "retry-after" in answer.headers
    wait_until(lambda: [f.get("/health/ready").status_code for f in workers.fronts] == [200] * 2)
    assert workers.names(key) == ["starter"] * 2
    for front in workers.fronts:
        assert front.post(PREDICT, files=image(), headers=key).status_code == 200
    assert workers.fronts[1].post(LOAD, data={"name": "mine"}, headers=key).status_code == 200
    wait_until(lambda: workers.names(key) == ["mine"] * 2)


def test_a_front_that_is_killed_is_replaced_and_its_counts_are_kept(workers: Workers) -> None:
    key = workers.key()
    name = f'd3_http_requests_total{{method="POST",route="{PREDICT}",status="200"}}'
    assert workers.fronts[0].post(PREDICT, files=image(), headers=key).status_code == 200
    before, old = workers.series(key)[1][name], workers.pid("front-1")
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: workers.pid("front-1") != old)
    again = httpx.HTTPTransport(
        uds=str(workers.fronts[0]._transport._pool._uds)  # type: ignore[attr-defined]
    )
    with httpx.Client(base_url="http://d3", timeout=60, transport=again) as front:
        assert front.post(PREDICT, files=image(), headers=key).status_code == 200
    assert workers.series(key)[1][name] == before + 1
