"""``kill -9`` at random moments under load: what was acknowledged is there, and nothing twice."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

import d3
from tests.homes import Home
from tests.service.conftest import painted
from tests.serving import d3_serve

pytestmark = pytest.mark.xdist_group("faults")
KILLS = int(os.environ.get("D3TEST_KILLS", "3"))
SEED = int(os.environ.get("D3TEST_HOSTILE_SEED", "0"))


def test_killed_at_random_moments_it_keeps_its_word(home: Home, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    acknowledged: dict[str, int] = {}
    sent: set[str] = set()
    uploaded: list[str] = []
    head = home.head()
    for life in range(KILLS):
        with d3_serve(tmp_path, **home.environ, D3_CACHE_ENTRIES="0") as served:
            url, over = served.url(), threading.Event()

            def predict(worker: int, life: int = life, url: str = url) -> None:
                for number in range(10**6):
                    if over.is_set():
                        return
                    key = f"{life}-{worker}-{number}"
                    sent.add(key)
                    try:
                        answer = ask(url, key)
                    except httpx.TransportError:
                        return
                    assert answer.status_code == 200, answer.text
                    acknowledged[key] = answer.json()["inference_id"]

            def upload(life: int = life, url: str = url) -> None:
                while not over.is_set():
                    form = {"name": f"model-{life}"}
                    try:
                        answer = httpx.post(
                            f"{url}/api/model/upload", files={"file": head}, data=form, timeout=60
                        )
                    except httpx.TransportError:
                        return
                    assert answer.status_code == 200, answer.text
                    uploaded.append(answer.json()["model_name"])

            before = len(acknowledged)
            with ThreadPoolExecutor(5) as pool:
                working = [pool.submit(predict, worker) for worker in range(4)]
                working.append(pool.submit(upload))
                while len(acknowledged) == before:
                    time.sleep(0.01)
                time.sleep(chance.uniform(0.05, 1.0))
                served.stop(signal.SIGKILL)
                over.set()
            for one in working:
                one.result()
    assert len(acknowledged) >= KILLS
    with d3_serve(tmp_path, **home.environ, D3_CACHE_ENTRIES="0") as served:
        url = served.url()
        in_doubt = sent - acknowledged.keys()
        for key in [*in_doubt, *list(acknowledged)[-10:]]:
            answer = ask(url, key)
            # Who died while answering holds the key until its lease is over.
            assert answer.status_code in (200, 409), answer.text
            if key in acknowledged:
                assert answer.json()["inference_id"] == acknowledged[key]
        assert httpx.get(f"{url}/health/ready").status_code == 200
    with home.database() as database, database.reading() as connection:
        found = connection.execute(sa.text("SELECT id, request_id FROM inference_results")).all()
        if database.is_sqlite:
            assert connection.execute(sa.text("PRAGMA integrity_check")).all() == [("ok",)]
    rows = {row.request_id: row.id for row in found}
    assert {key: rows.get(key) for key in acknowledged} == acknowledged
    assert max(Counter(row.request_id for row in found).values()) == 1
    with d3.D3(home.settings()) as detector:
        names = {one.manifest.name for one in detector.models.list()}
        assert set(uploaded) <= names
        for name in names:
            detector.models.verify(name)


def ask(url: str, key: str) -> httpx.Response:
    """Judge an image under an idempotency key, which is the request's id as well."""
    shade = sum(map(ord, key)) % 256
    return httpx.post(
        f"{url}/api/inference/predict",
        files={"file": ("a.png", painted(shade))},
        headers={"Idempotency-Key": key, "X-Request-Id": key},
        timeout=60,
    )
