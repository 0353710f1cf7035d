"""Scans on a real two-node Ray cluster, on PostgreSQL and S3: kills of workers, nodes, drivers."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

from tests.cluster.conftest import IMAGES, Filled, Ledger, Run, assert_one_row_each, finish
from tests.pictures import paint
from tests.support.clusters import Cluster

KILLS = int(os.environ.get("D3TEST_RAY_KILLS", "0"))
SEED = int(os.environ.get("D3TEST_HOSTILE_SEED", "0"))
VIEWS = "16"
VICTIMS = ["worker", "driver", "node"]


def test_workers_nodes_and_drivers_are_killed_and_each_image_has_one_row(
    cluster: Cluster, start: Callable[..., Run], ledger: Ledger, fill: Callable[..., Filled]
) -> None:
    bucket = fill(IMAGES)
    command = ("scan", bucket.source, "--scan-id", "s", "--views", VIEWS, "--no-report", "--json")
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
        else:
            driver.send_signal(signal.SIGKILL)
            assert driver.wait() == -signal.SIGKILL
            driver = start(*command)
        before = ledger.rows()
        assert before < IMAGES
        ledger.wait_for(before + 1, driver)
        if victim == "node":
            cluster.add_node()
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
    assert "works on one machine only, but the Ray cluster has 2" in err.decode()
    assert "PostgreSQL" in err.decode()
