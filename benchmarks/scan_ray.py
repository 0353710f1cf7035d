"""A bulk scan on a Ray cluster beside the same scan without it, and beside plain Ray Data.

    python benchmarks/scan_ray.py [--images 2000] [--rounds 1]

Two nodes of one core each, started here, on a machine that has two; a folder of JPEGs, the starter
model, rows in PostgreSQL. Plain Ray Data is ``read_images(...).map_batches(...)`` with the same
detector in two actors, its results counted and thrown away. Three figures: the rate over
the whole, starting included; that from the first result to the last, which flatters whoever decodes
before scoring; and when the first result was there. Needs pandas for Ray Data.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray
from scan_inputs import photographs

from d3.container import Container
from d3.domain.scans import Scan, ScanState
from d3.entrypoints.bench.measure import processor
from d3.settings import Settings

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for tests.support
from tests.support.clusters import two_nodes
from tests.support.servers import postgresql

BATCH = 32
STORE_MB = 700
"""Decoded images pass through the object store with Ray Data; with 80 it never ended."""
_names = count()


class Measured(NamedTuple):
    """How long a contestant took.

    Attributes:
        whole: results a second, starting included.
        between: results a second from the first to the last.
        first: seconds until the first.
    """

    whole: float
    between: float
    first: float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=2000)
    arguments.add_argument("--rounds", type=int, default=1)
    chosen = arguments.parse_args()
    print(processor())
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name,
        postgresql() as server,
        server.database() as url,
    ):
        folder = Path(name)
        photographs(folder / "images", chosen.images)
        settings = Settings(home=folder / "home", database_url=url, batch_size=BATCH)
        settings = replace(settings, isolate_decoding=False, warm_up=False)
        container = Container(settings=settings)
        container.queue.override(container.threaded_queue)
        container.schema().upgrade(backup=False)
        (folder / "ray").mkdir()
        with two_nodes(folder / "ray", STORE_MB) as cluster:
            contestants: dict[str, Callable[[], Measured]] = {
                "scan, local": lambda: scanned(container, folder / "images", None),
                "scan, two Ray nodes": lambda: scanned(
                    container, folder / "images", cluster.address
                ),
                "Ray Data": lambda: with_ray_data(settings, folder / "images", cluster.address),
            }
            measured: dict[str, list[Measured]] = {one: [] for one in contestants}
            for _ in range(chosen.rounds):
                for one, run in contestants.items():
                    measured[one].append(run())
                    print(one, *(f"{figure:.1f}" for figure in measured[one][-1]), flush=True)
        container.database().close()
    medians = {
        one: Measured(*map(statistics.median, zip(*figures, strict=True)))
        for one, figures in measured.items()
    }
    base = medians["scan, local"]
    for one, found in medians.items():
        print(
            f"{one:<20} whole {found.whole:6.1f} images/s ({found.whole / base.whole:.2f})  "
            f"from first to last {found.between:6.1f} ({found.between / base.between:.2f})  "
            f"first after {found.first:.1f} s"
        )


def scanned(container: Container, images: Path, address: str | None) -> Measured:
    """A whole scan, here or on the cluster; the moments are the rows' own."""
    service = container.scans()
    collection = service.collection(str(images))
    manifest = container.models().info("starter")
    begun = time.time()
    scan = service.begin(f"s{next(_names)}", collection, manifest, threshold=None, views=None)
    if address is None:
        ended = service.resume(scan.name)
        container.host().close()
    else:
        ended = service.run_on(container.scan_cluster(address), scan)
    assert ended.state is ScanState.DONE
    assert ended.counts.error == 0
    return measure([one.created_at.timestamp() for one in rows(container, ended)], begun)


def rows(container: Container, scan: Scan) -> Any:
    return container.scan_ledger().rows(scan.id, limit=10**9)


def measure(moments: list[float], begun: float) -> Measured:
    seconds, first, last = time.time() - begun, min(moments), max(moments)
    return Measured(len(moments) / seconds, (len(moments) - 1) / (last - first), first - begun)


class Scorer:
    """What Ray Data's actors do with a batch."""

    def __init__(self, settings: Settings) -> None:
        container = Container(settings=settings)
        stored = container.registry().open("starter", None)
        self._detector = container.engine().load(stored)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        pixels = np.stack(list(batch["image"]))
        logits = self._detector.score(pixels, 1)[:, 0]
        return {"path": batch["path"], "logit": logits, "moment": np.full(len(logits), time.time())}


def with_ray_data(settings: Settings, images: Path, address: str) -> Measured:
    """The same with Ray Data, as its documentation shows it."""
    begun = time.time()
    ray.init(address, log_to_driver=False, logging_level="error")
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        found = ray.data.read_images(
            str(images),
            size=(224, 224),
            mode="RGB",
            include_paths=True,
            num_cpus=0.5,
        ).map_batches(
            Scorer,
            fn_constructor_args=(settings,),
            batch_size=BATCH,
            num_cpus=0.5,
            compute=ray.data.ActorPoolStrategy(size=2),
        )
        return measure([float(one["moment"]) for one in found.iter_rows()], begun)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
