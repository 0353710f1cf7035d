"""Strangers attack a real server: each attack gets its answer, leaves nothing, and harms nobody."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.homes import Home, Homes
from tests.hostile.attacks import FORM_LINE, LIMITS, PREDICT, Attack, attacks
from tests.serving import Served, assert_problem, d3_serve, wait_until
from tests.wire import exchange

ALL = attacks()


@dataclass
class Target:
    """A ``d3 serve`` under attack.

    Attributes:
        served: its process.
        url: its address.
        http: a client for it.
        home: all that it knows.
        scratch: where its temporary files lie.
        marker: what a checkpoint that executes would make.
    """

    served: Served
    url: str
    http: httpx.Client
    home: Home
    scratch: Path
    marker: Path

    def send(self, attack: Attack) -> httpx.Response:
        """Send an attack as it is."""
        if attack.raw is not None:
            address = httpx.URL(self.url)
            return exchange(self.url, attack.raw(f"{address.host}:{address.port}".encode()))
        return self.http.request(
            attack.method, attack.path, content=attack.make(), headers=attack.headers
        )

    def rows(self) -> int:
        """How many results there are."""
        total: int = self.http.get("/api/inference/history?limit=1").json()["total"]
        return total

    def descriptors(self) -> int:
        """How many files and sockets it holds open."""
        return len(list(Path(f"/proc/{self.served.process.pid}/fd").iterdir()))

    def judge(self, file: Path) -> float:
        """The logit of a good image."""
        answer = self.http.post(PREDICT, files={"file": (file.name, file.read_bytes())})
        assert answer.status_code == 200, answer.text
        logit: float = answer.json()["result"]["logit"]
        return logit


@pytest.fixture(scope="module")
def target(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("hostile")
    scratch, marker = folder / "scratch", folder / "executed"
    scratch.mkdir()
    limits = {name: str(value) for name, value in LIMITS.items()}
    with homes(folder / "home") as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("D3TEST_EXECUTED", str(marker))
        environ = home.environ | limits | {"TMPDIR": str(scratch), "D3_CACHE_ENTRIES": "0"}
        environ["D3_DATABASE_POOL_SIZE"] = "2"  # one more, whenever it is opened, is within SPARE
        with d3_serve(folder, **environ) as served:
            url = served.url()
            with httpx.Client(base_url=url, timeout=60) as http:
                target = Target(served, url, http, home, scratch, marker)
                with ThreadPoolExecutor(16) as pool:  # so that every pool is as full as it gets
                    assert all(pool.map(lambda _: target.rows() == 0, range(64)))
                yield target


@pytest.fixture
def watched(target: Target) -> Iterator[Target]:
    """The target, in which no file and no descriptor is more in the end."""
    files, descriptors = target.home.files(), target.descriptors()
    yield target
    assert target.home.files() <= files
    assert list(target.scratch.iterdir()) == []
    assert not target.marker.exists()
    wait_until(lambda: target.descriptors() <= descriptors + SPARE, 10)
    assert target.served.process.poll() is None


SPARE = 2
"""Descriptors that may come and go: a connection of a pool, the client's own."""


def assert_answered(attack: Attack, answer: httpx.Response) -> None:
    """The answer is the one that the attack is to get."""
    if attack.code is not None:
        assert_problem(answer, attack.status, attack.code)
    else:
        assert answer.status_code == attack.status, answer.text


def test_there_are_many_attacks_and_each_has_a_name() -> None:
    assert len({one.name + one.path.partition("?")[0] for one in ALL}) == len(ALL) >= 60


def test_the_same_seed_makes_the_same_bytes() -> None:
    for one, again in zip(ALL, attacks(), strict=True):
        assert one.make() == again.make(), one.name


@pytest.mark.parametrize("attack", ALL, ids=lambda one: one.name)
def test_an_attack_gets_its_answer_and_leaves_nothing(watched: Target, attack: Attack) -> None:
    before = watched.rows()
    assert_answered(attack, watched.send(attack))
    assert watched.rows() == before + attack.judged
    assert "Traceback" not in watched.served.text


def test_strangers_who_hold_connections_keep_nobody_out(watched: Target, pack: Path) -> None:
    """Heads and bodies that do not end, refusals that are not read, exports nobody reads."""
    address = httpx.URL(watched.url)
    named = b"Host: localhost\r\n"
    body = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\n"
    form = FORM_LINE + b"Content-Length: 100000000\r\n\r\n" + bytes(100_000)
    held = (
        b"GET / HT",
        b"POST /sign-in HTTP/1.1\r\n" + named + body,
        b"GET /api/inference/stats HTTP/1.1\r\n" + named + body,
        b"POST /nowhere HTTP/1.1\r\n" + named + form,
        b"POST /api/inference/predict HTTP/1.1\r\n" + named + form,
        b"POST /api/scans HTTP/1.1\r\n" + named + form,
        b"GET /api/inference/history.jsonl HTTP/1.1\r\n" + named + b"\r\n",
    )
    good, before = min((pack / "images").iterdir()), watched.descriptors()
    with ExitStack() as stack:
        for number in range(40 * len(held)):
            connection = stack.enter_context(socket.create_connection((address.host, address.port)))
            connection.sendall(held[number % len(held)])
        for _ in range(5):
            watched.judge(good)
            assert watched.http.get("/health/ready").status_code == 200
    wait_until(lambda: watched.descriptors() <= before + SPARE, 60)


def test_attacks_do_not_change_anybody_elses_score(watched: Target, pack: Path) -> None:
    good = sorted((pack / "images").iterdir())
    alone = [watched.judge(file) for file in good]
    before, over = watched.rows(), threading.Event()
    answered: list[tuple[int, float]] = []

    def work() -> None:
        while not over.is_set():
            for number, file in enumerate(good):
                answered.append((number, watched.judge(file)))

    with ThreadPoolExecutor(6) as pool:
        workers = [pool.submit(work) for _ in range(2)]
        try:
            sent = list(pool.map(watched.send, ALL))
        finally:
            over.set()
        for worker in workers:
            worker.result()
    for attack, answer in zip(ALL, sent, strict=True):
        assert_answered(attack, answer)
    assert len(answered) > len(good)
    assert [logit for _, logit in answered] == pytest.approx(
        [alone[n] for n, _ in answered], abs=1e-4
    )
    assert watched.rows() == before + len(answered) + sum(one.judged for one in ALL)
    assert "Traceback" not in watched.served.text
