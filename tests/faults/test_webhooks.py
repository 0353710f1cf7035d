"""``kill -9`` between a commit, its webhook and the record of that: nothing lost, doubles alike."""

from __future__ import annotations

import random
import signal
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from tests.faults.test_kill_9 import KILLS, SEED, ask
from tests.homes import Home
from tests.serving import d3_serve
from tests.support.receivers import receiver, status


@pytest.mark.full
@pytest.mark.on_servers
def test_killed_at_random_moments_it_tells_of_every_result(home: Home, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    environ = home.environ | {
        "D3_CACHE_ENTRIES": "0",
        "D3_WORKERS": "1",
        # A lease lasts for a little more than twice this.
        "D3_WEBHOOK_ALLOW": "127.0.0.0/8",
        "D3_WEBHOOK_SECONDS": "1",
    }

    def slowly(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.02)  # so that it is often killed while it waits for an answer
        status(204)(handler)

    with receiver(slowly) as there:
        secret = ""
        for life in range(KILLS):
            with d3_serve(tmp_path, **environ) as served:
                url = served.url()
                if not secret:
                    asked = {"url": there.at(), "events": ["result.created"]}
                    secret = httpx.post(f"{url}/api/webhooks", json=asked).json()["secret"]
                with ThreadPoolExecutor(4) as pool:
                    working = [
                        pool.submit(_judge_until_it_ends, url, f"{life}-{n}") for n in range(4)
                    ]
                    there.wait(len(there.messages) + 5, 60)
                    time.sleep(chance.uniform(0.0, 1.0))
                    assert served.stop(signal.SIGKILL) == -signal.SIGKILL
                for one in working:
                    one.result()
        with home.database() as database, database.reading() as connection:
            rows = set(connection.scalars(sa.text("SELECT id FROM inference_results")))
        with d3_serve(tmp_path, **environ) as served:
            url, deadline = served.url(), time.monotonic() + 60
            waits = {"only": "waiting"}
            while httpx.get(f"{url}/api/webhooks/deliveries", params=waits).json()["count"]:
                assert time.monotonic() < deadline, "something is still waiting"
                time.sleep(0.2)
            assert served.stop() == 0
        told: defaultdict[int, set[str]] = defaultdict(set)
        for message in there.messages:
            told[message.verified(secret)["data"]["id"]].add(message.id)
        assert told.keys() == rows
        assert {len(ids) for ids in told.values()} == {1}
        assert len({id_ for ids in told.values() for id_ in ids}) == len(rows)


def _judge_until_it_ends(url: str, name: str) -> None:
    for number in range(10**6):
        try:
            ask(url, f"{name}-{number}")
        except httpx.TransportError:
            return
