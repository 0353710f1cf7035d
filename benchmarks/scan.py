"""A bulk scan beside what it is made of.

    python benchmarks/scan.py folder [--images 1500] [--rounds 5]
    python benchmarks/scan.py s3 [--images 600] [--rounds 5]
    python benchmarks/scan.py vit [--images 16] [--rounds 2]
    python benchmarks/scan.py starter [--images 900] [--rounds 5]
    python benchmarks/scan.py listing [--images 1000000]
    python benchmarks/scan.py rows [--images 100000]

``folder``: with a detector that does nothing, beside the decoder alone in as many threads. ``s3``:
likewise from s3rver, beside plain minio-py that reads the same objects in as many threads and does
no more, and beside minio-py with the decoder; a scan that reads and does not decode stands for what
the reading itself loses. ``vit``: ViT-L/14 with random weights, beside the
bare engine on the same pixels in the same batches; ``starter``: the starter likewise, and with one
thread that scores. ``listing``: a store that is simulated; when the
first rows were there, when all was listed, and the most memory. Rows are kept in SQLite. ``rows``:
how fast a ledger takes rows, and what they take on disk, in SQLite and in PostgreSQL.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
import torch
from scan_inputs import Nothing, Simulated, Undecoded, photographs

from d3.container import Container
from d3.domain.ports.scans import ImageCollection
from d3.domain.scans import Scan, ScanRow, ScanState
from d3.domain.scoring import Verdict
from d3.domain.services.scans.service import S3_THREADS
from d3.entrypoints.bench.measure import SHAPES, in_turns, peak_gib, processor, random_model
from d3.settings import Settings

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for tests.support
from tests.support.memory.registry import MemoryRegistry
from tests.support.servers import postgresql
from tests.support.stores import s3_server

DEFAULTS = {
    "folder": 1500,
    "s3": 600,
    "vit": 16,
    "starter": 900,
    "listing": 1_000_000,
    "rows": 100_000,
}
BATCH = 8


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("what", choices=list(DEFAULTS))
    arguments.add_argument("--images", type=int)
    arguments.add_argument("--rounds", type=int, default=5)
    chosen = arguments.parse_args()
    images = chosen.images or DEFAULTS[chosen.what]
    print(processor())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if chosen.what == "folder":
            from_folder(folder, images, chosen.rounds)
        elif chosen.what == "s3":
            from_s3(folder, images, chosen.rounds)
        elif chosen.what == "vit":
            with_vit(folder, images, chosen.rounds)
        elif chosen.what == "starter":
            with_starter(folder, images, chosen.rounds)
        elif chosen.what == "listing":
            listing(folder, images)
        else:
            keep_rows(folder, images)


def from_folder(folder: Path, images: int, rounds: int) -> None:
    files = photographs(folder / "images", images)
    container = container_of(folder / "home", Nothing())
    decoder, threads = container.decoder(), container.settings().decode_threads

    def decode() -> None:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(lambda file: decoder.decode(file, 224), files):
                pass

    collection = container.scans().collection(str(folder / "images"))
    reported = in_turns({"decoder alone": decode, "scan": scanning(container, collection)}, rounds)
    tell(reported, images, "decoder alone")


def from_s3(folder: Path, images: int, rounds: int) -> None:
    files = photographs(folder / "images", images)
    with s3_server("second") as server:
        client = server.client()
        client.make_bucket("images")
        for file in files:
            client.fput_object("images", file.name, str(file))
        place = {
            "minio_endpoint": server.endpoint,
            "minio_access_key": server.key,
            "minio_secret_key": server.secret,
        }
        container = container_of(folder / "home", Nothing(), **place)
        decoder = container.decoder()

        def fetch(name: str) -> bytes:
            response = client.get_object("images", name)
            try:
                return response.read()
            finally:
                response.release_conn()

        def read(use: Callable[[bytes], object]) -> Callable[[], None]:
            def run() -> None:
                with ThreadPoolExecutor(S3_THREADS) as pool:
                    for _ in pool.map(lambda file: use(fetch(file.name)), files):
                        pass

            return run

        collection = container.scans().collection("s3://images/")
        undecoded = container_of(folder / "home", Nothing(), **place)
        undecoded.decoder.override(Undecoded())
        contestants = {
            "minio-py, reading alone": read(len),
            "scan that does not decode": scanning(undecoded, collection, "u"),
            "minio-py and decoder": read(lambda content: decoder.decode(content, 224)),
            "scan": scanning(container, collection),
        }
        tell(in_turns(contestants, rounds), images, "minio-py, reading alone")


def with_vit(folder: Path, images: int, rounds: int) -> None:
    (folder / "model").mkdir()
    stored = random_model(folder / "model", "random", SHAPES["vit-l-14"])
    registry = MemoryRegistry()
    registry.put(stored)
    container = container_of(folder / "home", None, batch_size=BATCH, model="random")
    container.registry.override(registry)
    files = photographs(folder / "images", images)
    tell(in_turns(beside_the_engine(container, files), rounds), images, "bare engine")


def with_starter(folder: Path, images: int, rounds: int) -> None:
    files, threads = photographs(folder / "images", images), torch.get_num_threads()
    alone = container_of(folder / "alone", None)
    torch.set_num_threads(1)  # which a model keeps to that is loaded now
    in_one = scanning(alone, alone.scans().collection(str(folder / "images")))
    torch.set_num_threads(threads)
    contestants = beside_the_engine(container_of(folder / "home", None), files)
    contestants["scan, scored in one thread"] = in_one
    tell(in_turns(contestants, rounds), images, "bare engine")


def beside_the_engine(container: Container, files: list[Path]) -> dict[str, Callable[[], None]]:
    """The bare engine on decoded images, and a scan of their files."""
    decoder, batch = container.decoder(), container.settings().batch_size
    pixels = np.stack([decoder.decode(file, 224).pixels for file in files])
    collection = container.scans().collection(str(files[0].parent))
    scan = scanning(container, collection)
    # Nothing is submitted meanwhile: the queue's owner leaves its detector alone.
    with container.host().using() as model:
        detector = model.queue.detector

    def bare() -> None:
        for start in range(0, len(pixels), batch):
            detector.score(pixels[start : start + batch], 1)

    return {"bare engine": bare, "scan": scan}


def listing(folder: Path, keys: int) -> None:
    container = container_of(folder / "home", Nothing())
    ledger = container.scan_ledger()
    scan = begin(container, Simulated(keys), "listing")
    before = peak_gib()
    begun = time.perf_counter()
    worker = threading.Thread(target=container.scans().run, args=(scan, Simulated(keys)))
    worker.start()
    first = None
    while True:
        time.sleep(0.1)
        now = ledger.get(scan.name)
        if first is None and now.counts.rows:
            first = time.perf_counter() - begun
        if now.listed and first is not None:
            break
    seconds = time.perf_counter() - begun
    ledger.set_state(scan.id, ScanState.CANCELLED, scan.created_at)
    worker.join()
    print(f"first rows after {first:.1f} s; {keys:,} keys listed after {seconds:.1f} s")
    print(f"{now.counts.rows / seconds:,.0f} rows a second meanwhile")
    print(f"peak {peak_gib():.2f} GiB, {before:.2f} of it before the scan began")


def keep_rows(folder: Path, images: int) -> None:
    with postgresql() as server, server.database() as url:
        for name, settings in (("SQLite", {}), ("PostgreSQL", {"database_url": url})):
            container = container_of(folder / name, Nothing(), **settings)
            ledger = container.scan_ledger()
            scan = begin(container, Simulated(images), "rows")
            rows = [row_for(number) for number in range(images)]
            begun = time.perf_counter()
            for start in range(0, images, 512):
                ledger.add(scan.id, 0, rows[start : start + 512])
            seconds = time.perf_counter() - begun
            size = size_of(container.database())
            print(f"{name:<12} {images / seconds:8,.0f} rows/s  {size / images:6.0f} bytes a row")
            container.database().close()


def size_of(database: Any) -> int:
    """Bytes of all rows and their indexes."""
    asked = "SELECT pg_total_relation_size('scan_results')"
    if database.is_sqlite:
        asked = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    with database.reading() as connection:
        return int(connection.scalar(sa.text(asked)))


def row_for(number: int) -> ScanRow:
    """A row as a photograph's."""
    return ScanRow(
        uri=f"s3://simulated/a/prefix/of/some/length/{number:09}.jpg",
        verdict=Verdict.REAL,
        error=None,
        created_at=datetime.now(UTC),
        prediction=0.25,
        logit=-1.1,
        spread=0.0,
        image_sha256=f"{number:064x}",
        image_format="JPEG",
        image_width=640,
        image_height=480,
        image_bytes=91_000,
        processing_time=0.01,
    )


def container_of(home: Path, engine: Nothing | None, **settings: object) -> Container:
    container = Container(settings=Settings(home=home, **settings))  # type: ignore[arg-type]
    if engine is not None:
        container.engine.override(engine)
    container.schema().make_ready()
    return container


def begin(container: Container, collection: ImageCollection, name: str) -> Scan:
    with container.host().using() as model:
        manifest = model.manifest
    return container.scans().begin(name, collection, manifest, threshold=None, views=None)


def scanning(
    container: Container, collection: ImageCollection, name: str = "scan"
) -> Callable[[], None]:
    """Runs a whole scan, each time a new one; the model is loaded before."""
    numbers = count()
    container.host().load()

    def run() -> None:
        scan = begin(container, collection, f"{name}-{next(numbers)}")
        ended = container.scans().run(scan, collection)
        assert ended.state is ScanState.DONE
        assert ended.counts.error == 0

    return run


def tell(reported: dict[str, float], images: int, base: str) -> None:
    for name, seconds in reported.items():
        print(f"{name:<26} {images / seconds:8.1f} images/s  {reported[base] / seconds:.2f}")


if __name__ == "__main__":
    main()
