"""A real two-node Ray cluster, on PostgreSQL and S3, and scans on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from d3.adapters.sql import Database, SqlScanLedger
from d3.domain.errors import ScanNotFound
from d3.evaluation.scans import rows_of
from tests.pictures import CRASHING_DECODER, paint, paint_crashing
from tests.serving import clean_environment
from tests.support.clusters import Cluster, kill_group, two_nodes
from tests.support.servers import PostgresqlServer
from tests.support.stores import S3Server

IMAGES = int(os.environ.get("D3TEST_RAY_IMAGES", "400"))
Run = subprocess.Popen[bytes]


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    """Two nodes, on which what :func:`tests.pictures.paint_crashing` paints ends its worker."""
    with (
        tempfile.TemporaryDirectory(prefix="d3-ray-", ignore_cleanup_errors=True) as folder,
        two_nodes(Path(folder), environ=CRASHING_DECODER) as cluster,
    ):
        yield cluster


@pytest.fixture
def environ(
    postgresql_server: PostgresqlServer, first_s3: S3Server, tmp_path: Path
) -> Iterator[dict[str, str]]:
    """Settings that every node can use: PostgreSQL and S3."""
    with postgresql_server.database() as url:
        yield clean_environment(
            D3_HOME=str(tmp_path / "home"),
            D3_DATABASE_URL=url,
            MINIO_ENDPOINT=first_s3.endpoint,
            MINIO_ACCESS_KEY=first_s3.key,
            MINIO_SECRET_KEY=first_s3.secret,
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


class Filled(NamedTuple):
    """A prefix with pictures.

    Attributes:
        source: the prefix.
        uris: of the images in it.
        errors: how many of them cannot be judged.
    """

    source: str
    uris: frozenset[str]
    errors: int


@pytest.fixture
def fill(first_s3: S3Server, tmp_path: Path) -> Callable[..., Filled]:
    """Makes a prefix with so many pictures, one of them damaged, and a file that is none."""

    def fill(images: int, *, crashing: bool = False) -> Filled:
        name, client = f"images-{uuid.uuid4().hex}", first_s3.client()
        client.make_bucket(name)
        folder = tmp_path / "pictures"
        files = paint(folder, images - 1 - crashing)
        files.append(folder / "broken.png")
        files[-1].write_bytes(files[0].read_bytes()[:90])
        if crashing:
            files.append(folder / "a/crash.png")
            paint_crashing(files[-1])
        notes = folder / "notes.txt"
        notes.write_text("no image")
        for file in (*files, notes):
            client.fput_object(name, f"in/{file.relative_to(folder)}", str(file))
        source = f"s3://{name}/in/"
        uris = frozenset(f"{source}{file.relative_to(folder)}" for file in files)
        return Filled(source, uris, 1 + crashing)

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

    def errors(self) -> dict[str, str | None]:
        """The error of each row, by its URI; two rows of one would be seen."""
        rows = [*rows_of(self._ledger, self._ledger.get("s").id)]
        found = {one.uri: one.error for one in rows}
        assert len(found) == len(rows)
        return found

    def wait_for(self, rows: int, process: Run) -> None:
        until = time.monotonic() + 300
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
    ended: dict[str, object] = json.loads(out)
    return ended


def assert_one_row_each(ledger: Ledger, ended: dict[str, object], filled: Filled) -> None:
    assert (ended["state"], ended["error"], ended["passed_over"]) == (
        "done",
        filled.errors,
        1,
    )
    assert ledger.errors().keys() == filled.uris
