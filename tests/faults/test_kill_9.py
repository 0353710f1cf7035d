"""``kill -9`` at random moments under load: what was acknowledged is there, and nothing twice."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

import d3
from tests.homes import Home
from tests.service.conftest import painted
from tests.serving import d3_serve, wait_until

KILLS = int(os.environ.get("D3TEST_KILLS", "3"))
SEED = int(os.environ.get("D3TEST_HOSTILE_SEED", "0"))


@dataclass
class Promises:
    """What clients were told.

    Attributes:
        sent: every idempotency key that was sent.
        acknowledged: the id that was answered to a key.
        uploaded: models that were said to be stored.
    """

    sent: set[str] = field(default_factory=set)
    acknowledged: dict[str, int] = field(default_factory=dict)
    uploaded: set[str] = field(default_factory=set)


@dataclass
class Clients:
    """Those of one life of the service; they end with it."""

    url: str
    life: int
    head: bytes
    promises: Promises
    over: threading.Event = field(default_factory=threading.Event)

    def predict(self, worker: int) -> None:
        """Have images judged, each under a key of its own."""
        for number in range(10**6):
            if self.over.is_set():
                return
            key = f"{self.life}-{worker}-{number}"
            self.promises.sent.add(key)
            try:
                answer = ask(self.url, key)
            except httpx.TransportError:
                return
            assert answer.status_code == 200, answer.text
            self.promises.acknowledged[key] = answer.json()["inference_id"]

    def upload(self) -> None:
        """Upload a model again and again."""
        while not self.over.is_set():
            form, files = {"name": f"model-{self.life}"}, {"file": self.head}
            try:
                answer = httpx.post(
                    f"{self.url}/api/model/upload", files=files, data=form, timeout=60
                )
            except httpx.TransportError:
                return
            assert answer.status_code == 200, answer.text
            self.promises.uploaded.add(answer.json()["model_name"])


def ask(url: str, key: str) -> httpx.Response:
    """Judge an image under an idempotency key, which is the request's id as well."""
    return httpx.post(
        f"{url}/api/inference/predict",
        files={"file": ("a.png", painted(sum(map(ord, key)) % 256))},
        headers={"Idempotency-Key": key, "X-Request-Id": key},
        timeout=60,
    )


@pytest.mark.full
def test_killed_at_random_moments_it_keeps_its_word(home: Home, tmp_path: Path) -> None:
    chance, promises, head = random.Random(SEED), Promises(), home.head()
    for life in range(KILLS):
        with d3_serve(tmp_path, **home.environ, D3_CACHE_ENTRIES="0") as served:
            clients = Clients(served.url(), life, head, promises)
            before = len(promises.acknowledged)
            with ThreadPoolExecutor(5) as pool:
                working = [pool.submit(clients.predict, worker) for worker in range(4)]
                working.append(pool.submit(clients.upload))
                while len(promises.acknowledged) == before and not working[0].done():
                    time.sleep(0.01)
                time.sleep(chance.uniform(0.05, 1.0))
                assert served.stop(signal.SIGKILL) == -signal.SIGKILL
                clients.over.set()
            for one in working:
                one.result()
    assert len(promises.acknowledged) >= KILLS
    with d3_serve(tmp_path, **home.environ, D3_CACHE_ENTRIES="0") as served:
        ask_again(served.url(), promises)
    assert_rows(home, promises)
    with d3.D3(home.settings()) as detector:
        names = {one.manifest.name for one in detector.models.list()}
        assert promises.uploaded <= names
        for name in names:
            detector.models.verify(name)


@pytest.mark.full
def test_any_process_killed_at_random_moments_costs_nobody_an_answer(
    home: Home, tmp_path: Path
) -> None:
    """Of several workers, under load: who insists is answered, and there is no error but 503."""
    chance, promises, over = random.Random(SEED), Promises(), threading.Event()
    environ = home.environ | {"D3_CACHE_ENTRIES": "0"}
    with d3_serve(tmp_path, "--port", "0", "--workers", "2", **environ) as served:
        url = served.url()
        with ThreadPoolExecutor(4) as pool:
            working = [pool.submit(insist, url, worker, promises, over) for worker in range(4)]
            for _ in range(KILLS):
                name = chance.choice(["front-1", "front-2", "engine-0"])
                killed, answered = served.pid(name), len(promises.acknowledged)
                os.kill(killed, signal.SIGKILL)
                wait_until(lambda: served.pid(name) != killed)  # noqa: B023  used at once
                wait_until(lambda: len(promises.acknowledged) > answered + 4)  # noqa: B023
                time.sleep(chance.uniform(0.05, 1.0))
            over.set()
            for one in working:
                one.result()
        ask_again(url, promises)
        assert served.stop() == 0
    assert_rows(home, promises)
    assert served.text.count("died (signal 9) and is replaced") == KILLS


def insist(url: str, worker: int, promises: Promises, over: threading.Event) -> None:
    """Have images judged; ask again where a process died meanwhile."""
    number = 0
    while not over.is_set():
        key = f"{worker}-{number}"
        promises.sent.add(key)
        try:
            answer = ask(url, key)
        except httpx.TransportError:
            continue
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            time.sleep(0.05)
            continue
        if answer.status_code == 200:
            promises.acknowledged[key] = answer.json()["inference_id"]
        else:  # who died while answering holds the key until its lease is over
            assert answer.status_code == 409, answer.text
        number += 1


def ask_again(url: str, promises: Promises) -> None:
    """Send again what was in doubt, and some of what was answered: it gets the same answer."""
    doubtful = promises.sent - promises.acknowledged.keys()
    for key in [*doubtful, *list(promises.acknowledged)[-10:]]:
        answer = ask(url, key)
        if key in promises.acknowledged:
            assert answer.json()["inference_id"] == promises.acknowledged[key]
        else:  # who died while answering holds the key until its lease is over
            assert answer.status_code in (200, 409), answer.text
    assert httpx.get(f"{url}/health/ready").status_code == 200


def assert_rows(home: Home, promises: Promises) -> None:
    """Every acknowledged row is there, and no key has two."""
    with home.database() as database, database.reading() as connection:
        if database.is_sqlite:
            assert connection.execute(sa.text("PRAGMA integrity_check")).all() == [("ok",)]
        found = connection.execute(sa.text("SELECT id, request_id FROM inference_results")).all()
    rows = {row.request_id: row.id for row in found}
    assert {key: rows.get(key) for key in promises.acknowledged} == promises.acknowledged
    assert max(Counter(row.request_id for row in found).values()) == 1
