"""Jobs under faults: killed workers, stores that go away, and what is left behind by all that."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from d3.adapters.filesystem import FolderSpool
from d3.adapters.pillow.isolated import IsolatedDecoder
from d3.adapters.sql import Database, SqlJobLedger
from d3.container import Container
from d3.domain.errors import CommitInDoubt, DetectorFailed, StorageUnavailable
from d3.domain.jobs import ItemPlace, JobState, NewJob, new_job_name
from d3.domain.services.jobs.runner import JobRunner
from d3.domain.services.jobs.service import JobRequest
from d3.settings import Settings
from d3.testing import FakeClock
from tests.homes import Home, S3Bucket
from tests.integration.test_jobs import shards_of
from tests.service.conftest import Service, painted, running
from tests.service.test_jobs import JOBS, begun, finished, job_of, paintings, spooled
from tests.serving import clean_environment, d3_serve, wait_until
from tests.support.engines import FakeEngine

KILLS = int(os.environ.get("D3TEST_KILLS", "0"))
SEED = int(os.environ.get("D3TEST_HOSTILE_SEED", "0"))
on_servers = pytest.mark.on_servers


def rows(home: Home) -> list[tuple[str, str]]:
    """The name and the request of every result."""
    with home.database() as database, database.reading() as connection:
        asked = sa.text("SELECT image_name, request_id FROM inference_results")
        return [(str(one[0]), str(one[1])) for one in connection.execute(asked)]


@on_servers
def test_killed_at_random_moments_a_job_is_judged_once(home: Home, tmp_path: Path) -> None:
    chance, count, location = random.Random(SEED), 400, ""
    environ = home.environ | {"D3_CACHE_ENTRIES": "0", "D3_BATCH_SIZE": "4"}
    files = [("files", (f"{n}.png", painted(n % 256))) for n in range(count)]
    for _ in range(KILLS or (1 if isinstance(home.store, S3Bucket) else 2)):
        with d3_serve(tmp_path, **environ) as served:
            url = served.url()
            if not location:
                headers = {"X-Request-Id": "the-job"}
                answer = httpx.post(f"{url}{JOBS}", files=files, headers=headers, timeout=60)
                assert answer.status_code == 202, answer.text
                location = answer.headers["location"]
            before = waiting(f"{url}{location}")
            wait_until(partial(has_gone_on, f"{url}{location}", before), 60)
            time.sleep(chance.uniform(0, 0.3))
            assert served.stop(signal.SIGKILL) == -signal.SIGKILL
    with d3_serve(tmp_path, **environ) as served:
        wait_until(partial(has_gone_on, f"{served.url()}{location}", 1), 90)
        over = httpx.get(f"{served.url()}{location}", timeout=60).json()["job"]
    assert (over["state"], over["counts"]["error"]) == ("done", 0)
    assert sorted(rows(home)) == sorted((f"{n}.png", "the-job") for n in range(count))
    assert not spooled(home)


def waiting(job: str) -> int:
    """How many images of a job are not through."""
    left: int = httpx.get(job, timeout=60).json()["job"]["counts"]["waiting"]
    return left


def has_gone_on(job: str, before: int) -> bool:
    """Whether fewer images wait than before, or none does."""
    return waiting(job) < max(before, 1)


def test_what_dies_while_it_is_received_is_swept(home: Home, tmp_path: Path) -> None:
    script = tmp_path / "dies.py"
    script.write_text(
        "import os, signal, d3\n"
        "from d3.container import Container\n"
        "container = Container(settings=d3.Settings.from_environment())\n"
        "received = container.jobs().receive(4_000_000)\n"
        "for number in range(200):\n"
        "    received.begin(f'{number}.png')\n"
        "    received.add(bytes(20_000))\n"
        "    received.end()\n"
        "    received.flush()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environ = clean_environment(**home.environ)
    subprocess.run([sys.executable, script], env=environ, check=False)
    assert spooled(home)
    with home.database() as database:
        ledger = SqlJobLedger(database)
        assert ledger.totals().spooled_bytes == 4_000_000
        with swept(home, ledger, after=timedelta(minutes=59)):
            assert spooled(home), "somebody may still be sending it"
        with swept(home, ledger, after=timedelta(minutes=62)):
            assert not spooled(home)
        assert ledger.totals().spooled_bytes == 0


class swept(ExitStack):  # noqa: N801  reads as a word: with swept(...)
    """Has a runner sweep once, so much later than now."""

    def __init__(self, home: Home, ledger: SqlJobLedger, after: timedelta) -> None:
        super().__init__()
        container = Container(settings=home.settings())
        self.callback(container.database().close)
        later = FakeClock((container.clock().now() + after).timestamp())
        runner = JobRunner(
            list,
            lambda: ledger,
            container.spool,
            container.host(),
            later,
            timedelta(hours=1),
        )
        runner.look()
        runner.sweep()


def test_an_old_job_is_forgotten_with_its_files_even_if_it_never_ran(home: Home) -> None:
    container = Container(settings=home.settings())
    jobs = container.jobs()
    received = jobs.receive()
    received.begin("a.png")
    received.add(painted(1))
    received.end()
    jobs.start_received(received, JobRequest(), [], lambda job: job.name.encode())
    assert spooled(home)
    with home.database() as database:
        ledger = SqlJobLedger(database)
        with swept(home, ledger, after=timedelta(days=6)):
            assert ledger.newest()[0].state is JobState.RUNNING
            assert spooled(home)
        with swept(home, ledger, after=timedelta(days=8)):
            assert ledger.newest() == []
            assert not spooled(home)
    container.history_writer().close()
    container.database().close()


def test_files_that_were_lost_are_errors_of_their_items(home: Home, tmp_path: Path) -> None:
    engine = FakeEngine()
    with running(home, engine) as service:
        service.http.post("/api/model/unload")
        name = begun(service, paintings(3))
        if isinstance(home.store, S3Bucket):
            for key in spooled(home):
                home.store.client.remove_object(home.store.name, key)
        else:
            for file in (home.path / "spool" / name).iterdir():
                file.unlink()
        service.http.post("/api/model/load")
        over = finished(service, name)
        assert {one["code"] for one in over["results"]} == {"image_not_found"}
        assert over["job"]["state"] == "done"


def test_a_folder_that_another_machine_has_is_left_to_it(home: Home, tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.may_load.set()
    with running(home, engine, spool=str(tmp_path / "one")) as service:
        service.http.post("/api/model/unload")
        name = begun(service, paintings(2))
    with running(home, spool=str(tmp_path / "two")) as other:
        links = begun(other, paintings(2))
        finished(other, links)
        assert job_of(other, name)["job"]["counts"]["waiting"] == 2
    with running(home, spool=str(tmp_path / "one")) as again:
        assert finished(again, name)["job"]["counts"]["waiting"] == 0


def test_what_a_dead_worker_had_begun_is_decoded_in_child_processes(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    isolated: list[str] = []
    decode = IsolatedDecoder.decode

    def noted(self: IsolatedDecoder, *arguments: Any) -> Any:
        isolated.append("one")
        return decode(self, *arguments)

    monkeypatch.setattr(IsolatedDecoder, "decode", noted)
    with running(home) as service, home.database() as database:
        finished(service, begun(service, paintings(2)))
        assert isolated == []
        service.http.post("/api/model/unload")
        name = begun(service, paintings(3, 10))
        ledger, container = SqlJobLedger(database), Container(settings=home.settings())
        owner, now = f"{socket.gethostname()}:{ended.pid}:dead", container.clock().now()
        spools, until = [container.spool().id], now + timedelta(hours=1)
        assert ledger.claim(owner, {ItemPlace.SPOOL}, spools, now, until)
        service.http.post("/api/model/load")
        assert finished(service, name)["job"]["counts"]["error"] == 0
        assert len(isolated) == 3
        assert service.rows() == 5


@pytest.mark.parametrize("error", [StorageUnavailable, CommitInDoubt])
def test_a_ledger_that_goes_away_costs_no_result_and_gives_none_twice(
    home: Home, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    store, calls = SqlJobLedger.store, []

    def failing(self: SqlJobLedger, *arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) in {1, 2, 4}:
            if error is CommitInDoubt:
                store(self, *arguments, **named)  # it was committed, and nobody was told
            raise error("It is away.", "Wait.")
        return store(self, *arguments, **named)

    monkeypatch.setattr(SqlJobLedger, "store", failing)
    with running(home) as service:
        over = finished(service, begun(service, paintings(150)))
        assert over["job"]["counts"]["waiting"] == 0
        assert service.rows() == 150


def test_a_detector_that_fails_for_a_while_costs_no_image(home: Home) -> None:
    engine = FakeEngine()
    with running(home, engine, cache_entries=0) as service:
        detector = engine.detectors[-1]
        score, left = detector.score, [6]

        def failing(pixels: Any, views: int) -> Any:
            if left[0]:
                left[0] -= 1
                raise DetectorFailed("It fails.")
            return score(pixels, views)

        detector.score = failing  # type: ignore[method-assign]
        name = begun(service, paintings(3))
        wait_until(lambda: bool(job_of(service, name)["job"]["trouble"]))
        over = finished(service, name)
        assert over["job"]["counts"]["error"] == 0
        assert service.rows() == 3


@pytest.fixture
def replicas(home: Home, tmp_path: Path) -> Iterator[list[Service]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(running(one, batch_size=4, cache_entries=0))
            for one in (home, home.replica(tmp_path / "another machine"))
        ]


@on_servers
def test_replicas_share_a_job_and_each_image_has_one_result(
    replicas: list[Service], home: Home
) -> None:
    first, second = replicas
    name = begun(first, [(f"{n}.png", painted(n % 256)) for n in range(750)])
    assert finished(second, name)["job"]["state"] == "done"
    assert first.rows() == second.rows() == 750
    assert len({one for one, _ in rows(home)}) == 750
    if home.environ.get("MINIO_ENDPOINT"):  # files that both can see
        for one in replicas:
            assert one.engine.detectors[-1].batches


def test_a_spool_that_cannot_be_written_refuses_a_job(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("no folder")
    with running(home, spool=str(file / "spool")) as service:
        sent = [("files", one) for one in paintings(1)]
        answer = service.http.post(JOBS, files=sent)
        assert answer.status_code == 503
        assert answer.json()["code"] == "storage_failed"
        assert service.http.get(JOBS).json()["count"] == 0


def test_a_client_that_leaves_while_it_sends_leaves_nothing(home: Home) -> None:
    with running(home) as service:

        def pieces() -> Iterator[bytes]:
            said = 'Content-Disposition: form-data; name="files"; filename="a"'
            yield f"--x\r\n{said}\r\n\r\n".encode()
            for _ in range(40):
                yield bytes(100_000)
            raise OSError("gone")

        kind = {"content-type": "multipart/form-data; boundary=x"}
        with pytest.raises(OSError, match="gone"):
            service.http.post(JOBS, content=pieces(), headers=kind)
        with home.database() as database:
            ledger = SqlJobLedger(database)
            wait_until(lambda: ledger.totals().spooled_bytes == 0)
        assert not spooled(home)


def test_a_database_of_another_replica_may_hold_the_row(database: Database) -> None:
    """A job whose spool nobody sees any more is forgotten a day after it expired."""
    ledger, now = SqlJobLedger(database), FakeClock()
    new = NewJob(
        name=new_job_name(),
        created_at=now.now(),
        expires_at=now.now() + timedelta(days=7),
        spool="folder:gone",
    )
    ledger.start(ledger.begin(new), new, shards_of(2), now.now())
    host = Container(settings=Settings()).host()
    spool = FolderSpool(Path("/nowhere"))
    runner = JobRunner(list, lambda: ledger, lambda: spool, host, now, timedelta(hours=1))
    for days, left in ((6.9, 1), (0.2, 1), (1, 0)):
        now.advance(days * 86400)
        runner.sweep()
        assert len(ledger.newest()) == left
