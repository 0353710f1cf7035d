"""Database and store behind a proxy: killed, silent, cut short; requests end, and it goes on."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from d3.adapters.sql import Database, upgrade
from d3.adapters.sql.postgres import lift_time_limit
from d3.domain.errors import D3Error, StorageUnavailable
from d3.testing.models import tiny_model
from tests.databases import on_a_port
from tests.faults.proxy import TcpProxy
from tests.homes import Folder, Home
from tests.service.conftest import painted, running
from tests.serving import wait_until
from tests.support.servers import local_postgresql
from tests.support.stores import S3Server

SECONDS = float(os.environ.get("D3TEST_OUTAGE_SECONDS", "1.5"))
FAULTS = {
    "killed": TcpProxy.refuse,
    "cut at once": lambda proxy: proxy.cut_after(1),
    "cut in the middle": lambda proxy: proxy.cut_after(700),
    "cut later": lambda proxy: proxy.cut_after(5_000, step=61),
}


@pytest.fixture(scope="module")
def way() -> Iterator[tuple[TcpProxy, str, Database]]:
    """A PostgreSQL behind a proxy: the proxy, the URL through it, and the database itself."""
    with local_postgresql() as server, server.database() as url, on_a_port(server) as port:
        database = Database(url)
        upgrade(database)
        with TcpProxy(port) as proxy:
            through = sa.make_url(url).set(host="127.0.0.1", port=proxy.port, query={})
            yield proxy, through.render_as_string(hide_password=False), database
        database.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_with_its_database_away_every_request_ends_and_no_row_is_lost(
    model_home: Path, tmp_path: Path, way: tuple[TcpProxy, str, Database], fault: str
) -> None:
    proxy, url, database = way
    home = Home(tmp_path, Folder(model_home / "models"), {"D3_HOME": str(model_home)})
    acknowledged: list[int] = []
    statuses: set[int] = set()
    over = threading.Event()
    with running(home, database_url=url, cache_entries=0) as service:

        def work(worker: int) -> None:
            with httpx.Client(base_url=service.url, timeout=30) as http:
                while not over.is_set():
                    files = {"file": ("a.png", painted(worker))}
                    answer = http.post("/api/inference/predict", files=files)
                    statuses.add(answer.status_code)
                    if answer.status_code == 200:
                        acknowledged.append(answer.json()["inference_id"])
                    else:
                        assert int(answer.headers["retry-after"]) >= 1
                        time.sleep(0.05)

        with ThreadPoolExecutor(4) as pool:
            working = [pool.submit(work, shade) for shade in range(4)]
            try:
                wait_until(lambda: len(acknowledged) > 10)
                FAULTS[fault](proxy)
                # What is cut now and then is asked again on another connection, and may succeed.
                now_and_then, cuts = fault == "cut later", proxy.cuts
                wait_until(lambda: 503 in statuses or (now_and_then and proxy.cuts > cuts + 5))
                live = httpx.get(f"{service.url}/health/live", timeout=5)
                assert live.status_code == 200
                if fault in ("killed", "cut at once"):
                    ready = httpx.get(f"{service.url}/health/ready", timeout=10)
                    assert ready.status_code == 503
                time.sleep(SECONDS)
                proxy.heal()
                before = len(acknowledged)
                wait_until(lambda: len(acknowledged) > before + 10)
                wait_until(lambda: service.http.get("/health/ready").status_code == 200)
            finally:
                over.set()
                proxy.heal()
        for one in working:
            one.result()
    assert statuses == {200, 503} or (now_and_then and statuses == {200})
    with database.reading() as connection:
        kept = set(connection.scalars(sa.text("SELECT id FROM inference_results")))
    assert set(acknowledged) <= kept
    assert len(set(acknowledged)) == len(acknowledged)


def test_a_database_that_goes_silent_is_not_waited_for_without_end(
    way: tuple[TcpProxy, str, Database],
) -> None:
    proxy, url, _ = way
    database = Database(url, statement_seconds=1, connect_seconds=2)
    with database.reading() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1
    proxy.swallow()
    begun = time.monotonic()
    for use in (database.reading, database.writing):
        with pytest.raises(StorageUnavailable), use() as connection:
            connection.execute(sa.text("SELECT 1"))
    assert time.monotonic() - begun < 60
    proxy.heal()
    proxy.reset()
    with database.writing() as connection:
        assert connection.scalar(sa.text("SELECT 2")) == 2
    with database.writing() as connection:
        lift_time_limit(connection)
        connection.execute(sa.text("SELECT pg_sleep(7)"))
    with pytest.raises(StorageUnavailable), database.reading() as connection:
        connection.execute(sa.text("SELECT pg_sleep(7)"))
    database.close()


@pytest.mark.parametrize("fault", ["killed", "cut at once", "cut in the middle", "silent"])
def test_with_its_store_away_an_upload_fails_whole_and_then_succeeds(
    first_s3: S3Server, tmp_path: Path, fault: str
) -> None:
    from d3.adapters.minio import MinioRegistry

    model = tiny_model(tmp_path)
    with TcpProxy(int(first_s3.endpoint.rpartition(":")[2])) as proxy:
        bucket = f"faults-{abs(hash(fault))}-{os.getpid()}"
        place = first_s3.place(bucket, f"127.0.0.1:{proxy.port}")
        registry = MinioRegistry(place, tmp_path / "cache")
        registry.put(model)
        {**FAULTS, "silent": TcpProxy.swallow}[fault](proxy)
        begun = time.monotonic()
        with pytest.raises(D3Error) as caught:
            MinioRegistry(place, tmp_path / "other").put(model)
        assert caught.value.code == "storage_unavailable"
        assert time.monotonic() - begun < 60
        proxy.heal()
        proxy.reset()

        def stored() -> bool:
            again = MinioRegistry(place, tmp_path / "third")
            again.put(model)
            assert again.verify("tiny").files == model.manifest.files
            return True

        assert stored()
        manifests = [
            one
            for one in first_s3.client().list_objects(bucket, recursive=True)
            if "manifest" in str(one.object_name)
        ]
        assert all(one.size for one in manifests)
