"""Scans on a Ray cluster whose stores fail, are slow or away, whose images crash the decoder."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import cast

import pytest
import sqlalchemy as sa

from d3 import Client
from tests.cluster.conftest import Filled, Ledger, Run
from tests.databases import on_a_port
from tests.faults.proxy import TcpProxy
from tests.serving import d3_serve, wait_until
from tests.support.clusters import Cluster
from tests.support.faults import Answer, Fault, FaultyProxy, cut_short, replayed, slow, sound
from tests.support.servers import LocalPostgresql, PostgresqlServer
from tests.support.stores import S3Server

SECONDS = float(os.environ.get("D3TEST_OUTAGE_SECONDS", "3"))
IMAGES = 400
REFUSED = "b/00007.png"
HITS = 30


def but_for_one(fault: Fault) -> Fault:
    """A fault, and one object that is never given."""
    refuse = replayed(500, "InternalError")

    def both(method: str, path: str, answer: Answer) -> Answer:
        return (refuse if path.endswith(REFUSED) else fault)(method, path, answer)

    return both


@pytest.fixture
def proxies(
    environ: dict[str, str], first_s3: S3Server, postgresql_server: PostgresqlServer
) -> Iterator[tuple[FaultyProxy, TcpProxy]]:
    """Proxies before S3 and PostgreSQL; what is started from now on goes through them."""
    url = sa.make_url(environ["D3_DATABASE_URL"])
    local = cast("LocalPostgresql", postgresql_server)
    with (
        FaultyProxy(first_s3.endpoint) as store,
        on_a_port(local) if url.port is None else nullcontext(url.port) as port,
        TcpProxy(port) as database,
    ):
        through = url.set(host="127.0.0.1", port=database.port, query={})
        environ["D3_DATABASE_URL"] = through.render_as_string(hide_password=False)
        environ["MINIO_ENDPOINT"] = store.address
        environ["D3_BATCH_SIZE"] = "4"  # so that not all is read ahead when the faults come
        yield store, database


def test_one_row_for_each_image_whatever_the_stores_do_and_two_commands_at_once(
    start: Callable[..., Run],
    cluster: Cluster,
    ledger: Ledger,
    fill: Callable[..., Filled],
    proxies: tuple[FaultyProxy, TcpProxy],
) -> None:
    store, database = proxies
    filled = fill(IMAGES, crashing=True)
    store.fault = but_for_one(sound)
    command = ("scan", filled.source, "--scan-id", "s", "--views", "16", "--no-report", "--json")
    drivers = [start(*command, "--ray", cluster.address) for _ in range(2)]
    ledger.wait_for(1, drivers[0])
    for fault in (replayed(503, "SlowDown"), slow(0.5), cut_short(after=100)):
        asked = len(store.requests)
        store.fault = but_for_one(fault)
        wait_until(lambda asked=asked: len(store.requests) > asked + HITS, 120)  # type: ignore[misc]
        store.fault = but_for_one(sound)
        ledger.wait_for(ledger.rows() + 1, drivers[0])
    for away in (TcpProxy.refuse, lambda proxy: proxy.cut_after(700)):
        away(database)
        time.sleep(SECONDS)
        database.heal()
        assert ledger.rows() < IMAGES
        ledger.wait_for(ledger.rows() + 1, drivers[0])
    for driver in drivers:
        out, err = driver.communicate(timeout=300)
        assert driver.returncode == 0, err.decode()
        reported = json.loads(out)
        assert (reported["state"], reported["error"], reported["passed_over"]) == ("done", 3, 1)
        assert "waiting for a store: The database cannot be reached." in err.decode()
        assert "3 could not be judged" in err.decode()
    errors = ledger.errors()
    assert errors.keys() == filled.uris
    assert {uri.removeprefix(filled.source): error for uri, error in errors.items() if error} == {
        "broken.png": "damaged_image",
        "a/crash.png": "damaged_image",
        REFUSED: "image_unreadable",
    }


@pytest.mark.usefixtures("start")  # which makes the tables
def test_a_scan_of_the_service_is_cancelled_goes_on_and_outlives_kill_9_of_the_server(
    cluster: Cluster,
    environ: dict[str, str],
    ledger: Ledger,
    fill: Callable[..., Filled],
    tmp_path: Path,
) -> None:
    filled = fill(600)  # three shards: both workers are at one when it is cancelled
    ours = {name: value for name, value in environ.items() if name.startswith(("D3_", "MINIO_"))}
    ours["D3_RAY_ADDRESS"] = cluster.address
    with d3_serve(tmp_path, **ours) as served:
        url = served.url()
        with Client(url, (tmp_path / "home/api.key").read_text().strip()) as client:
            client.start_scan(filled.source, scan_id="s", views=16)
            wait_until(lambda: ledger.rows() > 0, 120)
            assert client.cancel_scan("s").state == "cancelled"
            wait_until(lambda: "scan s is cancelled" in served.text, 60)
            wait_until(lambda: not cluster.workers(), 30)
            cancelled = ledger.rows()
            assert cancelled < len(filled.uris)
            client.start_scan(filled.source, scan_id="s")
            wait_until(lambda: ledger.rows() > cancelled, 120)
        served.stop(signal.SIGKILL)
        wait_until(lambda: not cluster.workers(), 60)
        assert ledger.rows() < len(filled.uris)
    with d3_serve(tmp_path, **ours) as served:
        url = served.url()
        with Client(url, (tmp_path / "home/api.key").read_text().strip()) as client:
            ledger.wait_for(len(filled.uris), served.process)
            wait_until(lambda: client.scan("s").state == "done")
            scan = client.scan("s")
            assert (scan.error, scan.passed_over, scan.trouble) == (filled.errors, 1, None)
        assert ledger.errors().keys() == filled.uris
        assert served.stop() == 0
