"""A job beside a bulk scan of the same files, with the same engine.

    python benchmarks/jobs.py nothing [--images 2000] [--rounds 5] [--isolated]
    python benchmarks/jobs.py starter [--images 400] [--rounds 3] [--isolated]
    python benchmarks/jobs.py receiving [--images 10000]

``nothing``: with a detector that does nothing, so that all else shows; ``starter``: with the model
that D3 brings. Both in SQLite and in PostgreSQL. ``job`` is from the answer to the request until
the last result is stored, ``received`` what it takes to bring the files into the spool before.
``--isolated``: images are decoded in child processes, as services and their scans do.
``receiving``: how fast files of 100 KB come into the spool, and the most memory meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scan import container_of, scanning
from scan_inputs import Nothing, photographs

from d3.container import Container
from d3.domain.jobs import Job
from d3.domain.services.jobs.service import JobRequest
from d3.entrypoints.bench.measure import in_turns, peak_gib, processor

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for tests.support
from tests.support.servers import postgresql

DEFAULTS = {"nothing": 2000, "starter": 400, "receiving": 10_000}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("what", choices=list(DEFAULTS))
    arguments.add_argument("--images", type=int)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--isolated", action="store_true")
    chosen = arguments.parse_args()
    images = chosen.images or DEFAULTS[chosen.what]
    print(processor())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if chosen.what == "receiving":
            receiving(folder, images)
            return
        files = photographs(folder / "images", images)
        with postgresql() as server, server.database() as url:
            for kind, settings in (("SQLite", {}), ("PostgreSQL", {"database_url": url})):
                engine = Nothing() if chosen.what == "nothing" else None
                settings |= {"isolate_decoding": chosen.isolated}
                container = container_of(folder / kind, engine, cache_entries=0, **settings)
                container.decoder.override(container.untrusted_decoder)
                with working(container):
                    beside_a_scan(container, files, chosen.rounds, kind)


def beside_a_scan(container: Container, files: list[Path], rounds: int, kind: str) -> None:
    collection = container.scans().collection(str(files[0].parent))
    received: list[float] = []
    over: list[float] = []

    def job() -> None:
        begun = time.perf_counter()
        name = started(container, files)
        received.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        wait_for(container, name, len(files))
        over.append(time.perf_counter() - begun)

    scan = scanning(container, collection)
    seconds = in_turns({"scan": scan, "received and judged": job}, rounds)
    middle = len(over) // 2
    seconds |= {"job": sorted(over)[middle], "received": sorted(received)[middle]}
    print(kind)
    for what, one in seconds.items():
        print(f"  {what:<20} {len(files) / one:8.1f} images/s  {seconds['scan'] / one:.2f}")


def started(container: Container, files: list[Path]) -> str:
    """Begin a job of these files, as a request would."""
    jobs = container.jobs()
    received = jobs.receive(sum(one.stat().st_size for one in files))
    for file in files:
        received.begin(file.name)
        received.add(file.read_bytes())
        received.end()
        if received.due:
            received.flush()
    names: list[str] = []

    def body(job: Job) -> bytes:
        names.append(job.name)
        return b""

    jobs.start_received(received, JobRequest(), [], body)
    container.job_runner().wake()
    return names[-1]


def wait_for(container: Container, name: str, images: int) -> None:
    ledger = container.job_ledger()
    while (job := ledger.get(name)).finished_at is None:
        time.sleep(0.02)
    assert (job.counts.error, job.counts.items) == (0, images)


@contextmanager
def working(container: Container) -> Iterator[None]:
    """Has the container's workers on jobs work."""
    runner, stopping = container.job_runner(), threading.Event()
    thread = threading.Thread(target=runner.run, args=[stopping])
    container.host().load()
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        runner.wake()
        thread.join()
        container.host().close(60)
        container.decoder().close()
        container.database().close()


def receiving(folder: Path, images: int) -> None:
    container = container_of(folder / "home", Nothing())
    jobs, piece = container.jobs(), bytes(50_000)
    before = peak_gib()
    begun = time.perf_counter()
    received = jobs.receive()
    for number in range(images):
        received.begin(f"{number}.jpg")
        for _ in range(2):
            received.add(piece)
        received.end()
        if received.due:
            received.flush()
    flushed = time.perf_counter() - begun
    jobs.start_received(received, JobRequest(), [], lambda _: b"")
    seconds = time.perf_counter() - begun
    gib = images * 2 * len(piece) / 2**30
    print(f"{images:,} files, {gib:.2f} GiB: {flushed:.1f} s in the spool, {seconds:.1f} s in all")
    print(f"peak {peak_gib():.2f} GiB, {before:.2f} of it before")


if __name__ == "__main__":
    main()
