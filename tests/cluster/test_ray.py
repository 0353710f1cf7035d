"""Scans on a real two-node Ray cluster, on PostgreSQL and S3: kills of workers, nodes, drivers."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from d3 import Client
from d3.adapters.sql import Database, SqlScanLedger
from d3.domain.errors import ScanNotFound
from d3.evaluation.scan_files import rows_of
from d3.testing.clusters import Cluster, kill_group, two_nodes
from d3.testing.servers import PostgresqlServer
from d3.testing.stores import S3Server
from tests.pictures import paint
from tests.serving import clean_environment, d3_serve, wait_until

pytestmark = pytest.mark.xdist_group("ray")
IMAGES = int(os.environ.get("D3TEST_RAY_IMAGES", "400"))
KILLS = int(os.environ.get("D3TEST_RAY_KILLS", "0"))
SEED = int(os.environ.get("D3TEST_HOSTILE_SEED", "0"))
VIEWS = "16"
VICTIMS = ["worker", "node", "driver"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with (
        tempfile.TemporaryDirectory(prefix="d3-ray-", ignore_cleanup_errors=True) as folder,
        two_nodes(Path(folder)) as cluster,
    ):
        yield cluster


@pytest.fixture
def environ(
    postgresql_server: PostgresqlServer, second_s3: S3Server, tmp_path: Path
) -> Iterator[dict[str, str]]:
    """Settings that every node can use: PostgreSQL and S3."""
    with postgresql_server.database() as url:
        yield clean_environment(
            D3_HOME=str(tmp_path / "home"),
            D3_DATABASE_URL=url,
            MINIO_ENDPOINT=second_s3.endpoint,
            MINIO_ACCESS_KEY=second_s3.key,
            MINIO_SECRET_KEY=second_s3.secret,
            MINIO_BUCKET_NAME=f"d3-{uuid.uuid4().hex}",
        )


@pytest.fixture
def start(
    cluster: Cluster, environ: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., Run]]:
    """Starts ``d3``; whatever still runs ends with the test."""
    done = subprocess.run(
        [sys.executable, "-m", "d3", "db", "upgrade"], env=environ, cwd=tmp_path, check=False
    )
    assert done.returncode == 0
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: object) -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "d3", *map(str, arguments)],
                cwd=tmp_path,
                env=environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        return started[-1]

    yield start
    for one in started:
        kill_group(one)
        for stream in (one.stdout, one.stderr):
            assert stream is not None
            stream.close()


Run = subprocess.Popen[bytes]


@pytest.fixture
def fill(second_s3: S3Server, tmp_path: Path) -> Callable[[int], str]:
    """Makes a prefix with so many pictures, one of them damaged, and a file that is none."""

    def fill(images: int) -> str:
        name, client = f"images-{uuid.uuid4().hex}", second_s3.client()
        client.make_bucket(name)
        files = paint(tmp_path / "pictures", images - 1)
        broken, notes = tmp_path / "pictures/broken.png", tmp_path / "pictures/notes.txt"
        broken.write_bytes(files[0].read_bytes()[:90])
        notes.write_text("no image")
        for file in (*files, broken, notes):
            client.fput_object(name, f"in/{file.relative_to(tmp_path / 'pictures')}", str(file))
        return f"s3://{name}/in/"

    return fill


class Ledger:
    """How the scan ``s`` stands, looked at from outside."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self._ledger = SqlScanLedger(self.database)

    def rows(self) -> int:
        try:
            return self._ledger.get("s").counts.rows
        except ScanNotFound:
            return 0

    def uris(self) -> list[str]:
        return [one.uri for one in rows_of(self._ledger, self._ledger.get("s").id)]

    def wait_for(self, rows: int, process: Run) -> None:
        until = time.monotonic() + 180
        while self.rows() < rows and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert process.poll() is None, process.communicate()[1].decode()


@pytest.fixture
def ledger(environ: dict[str, str]) -> Iterator[Ledger]:
    ledger = Ledger(environ["D3_DATABASE_URL"])
    yield ledger
    ledger.database.close()


def finish(process: Run) -> dict[str, object]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err.decode()
    told: dict[str, object] = json.loads(out)
    return told


def assert_one_row_each(ledger: Ledger, told: dict[str, object], bucket: str) -> None:
    assert (told["state"], told["error"], told["passed_over"]) == ("done", 1, 1)
    uris = ledger.uris()
    assert len(uris) == len(set(uris)) == IMAGES
    expected = {f"{bucket}{'abc'[n % 3]}/{n:05}.png" for n in range(IMAGES - 1)}
    assert set(uris) == expected | {f"{bucket}broken.png"}


def test_workers_nodes_and_drivers_are_killed_and_each_image_has_one_row(
    cluster: Cluster, start: Callable[..., Run], ledger: Ledger, fill: Callable[[int], str]
) -> None:
    bucket = fill(IMAGES)
    command = ("scan", bucket, "--scan-id", "s", "--views", VIEWS, "--no-report", "--json")
    command = (*command, "--ray", cluster.address)
    chance = random.Random(SEED)
    victims = chance.choices(VICTIMS, k=KILLS) if KILLS else VICTIMS
    driver = start(*command)
    for number, victim in enumerate(victims, start=1):
        ledger.wait_for(IMAGES * number // (len(victims) + 3), driver)
        if victim == "worker":
            killed = chance.choice(cluster.workers())
            os.kill(killed, signal.SIGKILL)
        elif victim == "node":
            cluster.kill_node()
            cluster.add_node()
        else:
            driver.send_signal(signal.SIGKILL)
            assert driver.wait() == -signal.SIGKILL
            driver = start(*command)
        before = ledger.rows()
        assert before < IMAGES
        ledger.wait_for(before + 1, driver)
    assert_one_row_each(ledger, finish(driver), bucket)
    assert_one_row_each(ledger, finish(start(*command)), bucket)


def test_a_cluster_that_is_not_there_is_said(start: Callable[..., Run], tmp_path: Path) -> None:
    paint(tmp_path / "few", 3)
    refused = start("scan", tmp_path / "few", "--ray", "127.0.0.1:1", "--no-report")
    _, err = refused.communicate(timeout=120)
    assert refused.returncode == 2
    assert "No Ray cluster answers at '127.0.0.1:1'" in err.decode()
    assert "Traceback" not in err.decode()


def test_sqlite_is_refused_where_there_are_several_machines(
    cluster: Cluster, start: Callable[..., Run], environ: dict[str, str], tmp_path: Path
) -> None:
    paint(tmp_path / "few", 3)
    del environ["D3_DATABASE_URL"]
    refused = start("scan", tmp_path / "few", "--ray", cluster.address, "--no-report")
    _, err = refused.communicate(timeout=120)
    assert refused.returncode == 2
    assert "SQLite serves one machine, and the Ray cluster has 2" in err.decode()
    assert "PostgreSQL" in err.decode()


def test_the_service_has_its_scans_done_by_the_cluster(
    cluster: Cluster,
    start: Callable[..., Run],
    environ: dict[str, str],
    fill: Callable[[int], str],
    tmp_path: Path,
) -> None:
    del start  # which made the tables
    ours = {name: value for name, value in environ.items() if name.startswith(("D3_", "MINIO_"))}
    with d3_serve(tmp_path, **ours, D3_RAY_ADDRESS=cluster.address) as served:
        url = served.url()
        with Client(url, (tmp_path / "home/api.key").read_text().strip()) as client:
            client.start_scan(fill(30), scan_id="s")
            wait_until(lambda: bool(cluster.workers()), 60)
            wait_until(lambda: client.scan("s").state == "done", 120)
            found = [one.uri for one in client.scan_results("s")]
            assert len(found) == len(set(found)) == 30
        assert served.stop() == 0
