"""The same device behind D3, LitServe, mosec and the prototype's procedure, under the same load.

    python benchmarks/serving/compare.py tails|flood|vit|idle [--seed 0] [--out results.jsonl]
    python benchmarks/serving/compare.py report results.jsonl [--picture docs/serving.svg]

``tails``: a device that sleeps 20 ms and 10 ms an image, so that batches of 32 make 94 images a
second; requests arrive by themselves (Poisson, the same moments for all) at 50, 80 and 120 % of
that. ``flood``: one image at a time five times a second, while four clients send 24 files each,
again and again (to LitServe and mosec, which know no lanes, as 96 requests at once). ``vit``:
ViT-L/14 with random weights on the CPU, saturated and at 80 %, beside the engine alone. ``idle``:
what the queue costs a single image on an idle server. Each part takes some minutes;
several runs of one are put together by their medians. Contestants run one after the other, never
side by side.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from devices import BATCH, DEADLINE, EACH, FIXED, Sleeping, stored, vit
from load import Load, base64_json, multipart, offer, poisson, raw
from PIL import Image

HERE = Path(__file__).parent
CAPACITY = BATCH / (FIXED + EACH * BATCH)
SHARES = (0.5, 0.8, 1.2)
SECONDS = 12.0
CLIENTS, IMAGES, TURNS, PATIENCE = 6, 24, 3, 60
"""Of the part ``vit``: who asks at once, images of a turn, turns, seconds an answer may take."""
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Rows go there: what a disk takes for a commit is measured in benchmarks/http."""
PREDICT, BATCH_PATH = "/api/inference/predict", "/api/inference/predict-batch"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("part", choices=["tails", "flood", "vit", "idle", "report"])
    arguments.add_argument("file", type=Path, nargs="?")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--only", nargs="+", default=["d3", "mosec", "litserve", "flask"])
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--picture", type=Path)
    chosen = arguments.parse_args()
    if chosen.part == "report":
        from report import report

        report(chosen.file, chosen.picture)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that contestants end with it
    part = {"tails": tails, "flood": flood, "vit": saturate, "idle": idle}[chosen.part]
    for line in part(chosen.seed, chosen.only):
        line |= {"part": chosen.part, "seed": chosen.seed, "machine": machine()}
        print({name: value for name, value in line.items() if name != "machine"}, flush=True)
        if chosen.out:
            with chosen.out.open("a") as stream:
                stream.write(json.dumps(line) + "\n")


def tails(seed: int, only: list[str]) -> Iterator[dict[str, Any]]:
    """Goodput and tails at shares of the device's capacity."""
    for name in only:
        with serving(name) as port:
            request = request_to(name)
            asyncio.run(offer(port, request, poisson(20, 2, 99)))  # warm
            for share in SHARES:
                if name == "flask" and share != SHARES[0]:
                    continue  # it makes 33 a second at most, and is past its end at 50 %
                moments = poisson(share * CAPACITY, SECONDS, seed)
                load = asyncio.run(offer(port, request, moments))
                yield {"name": name, "share": share, **figures(load, len(moments))}
                time.sleep(1.5)


def figures(load: Load, offered: int) -> dict[str, Any]:
    """What is told of a load."""
    return {
        "offered": offered,
        "goodput": load.goodput(DEADLINE),
        "answered_in_time": load.good(DEADLINE) / offered,
        "p50": load.served_percentile(0.5),
        "p99": load.percentile(0.99),
        "served_p99": load.served_percentile(0.99),
        "refused_p99": load.refused_seconds(),
        "statuses": load.statuses(),
        "generator_late": max(one.late for one in load.answers),
    }


def flood(seed: int, only: list[str]) -> Iterator[dict[str, Any]]:
    """What one image waits while others send many."""
    for name in only:
        if name == "flask":
            continue
        with serving(name, BENCHMARK_SECONDS="30") as port:
            load, bulk = asyncio.run(flooded(port, name, seed))
            yield {"name": name, "bulk_per_second": bulk, **figures(load, len(load.answers))}


async def flooded(port: int, name: str, seed: int) -> tuple[Load, float]:
    """Interactive requests under a flood of bulk ones; and the bulk images done a second."""
    seconds, done, over = 20.0, 0, False
    files = 24 if name == "d3" else 1
    image = jpeg()
    bulk = multipart(BATCH_PATH, [image] * files, "files") if name == "d3" else request_to(name)

    async def client() -> None:
        nonlocal done
        while not over:
            load = await offer(port, bulk, [0.0], patience=30)
            done += files * (load.answers[0].status == 200)

    clients = [asyncio.create_task(client()) for _ in range(4 * 24 // files)]
    await asyncio.sleep(2)
    before, began = done, time.perf_counter()
    load = await offer(port, request_to(name), poisson(5, seconds, seed), patience=30)
    rate = (done - before) / (time.perf_counter() - began)
    over = True
    await asyncio.gather(*clients)
    return load, rate


def saturate(seed: int, only: list[str]) -> Iterator[dict[str, Any]]:
    """Throughput over HTTP beside the engine alone, which takes turns with it."""
    with tempfile.TemporaryDirectory() as folder:
        stored(Path(folder))
        environ = {"BENCHMARK_FOLDER": folder, "BENCHMARK_DEVICE": "vit"}
        environ["BENCHMARK_SECONDS"] = str(PATIENCE)
        for name in only:
            if name == "flask":
                continue
            with serving(name, **environ) as port:
                alone, ratios = [measured_bare(environ)], []
                for _ in range(TURNS):
                    rate = asyncio.run(closed_loop(port, request_to(name), CLIENTS, IMAGES))
                    alone.append(measured_bare(environ))
                    ratios.append(2 * rate / (alone[-2] + alone[-1]))
                    yield {"name": name, "per_second": rate, "alone": alone[-2:]}
                yield {"name": name, "of_alone": statistics.median(ratios)}
                if name == "d3":
                    rate = 0.8 * statistics.median(alone)
                    moments = poisson(rate, IMAGES / rate, seed)
                    load = asyncio.run(offer(port, request_to(name), moments, PATIENCE))
                    answered = load.statuses().get(200, 0) / len(moments)
                    yield {"name": "d3 at 80 %", "answered": answered, "offered": len(moments)}


def measured_bare(environ: dict[str, str]) -> float:
    """Images a second of the engine by itself, in a process of its own."""
    code = "from compare import bare; print(bare())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=HERE,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def bare() -> float:
    """The rate of batches of one, on which a processor is as quick as on larger ones."""
    detector, seconds = vit(), []
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    for _ in range(12):
        began = time.perf_counter()
        detector.score(pixels, 1)
        seconds.append(time.perf_counter() - began)
    return 10 / sum(seconds[2:])


async def closed_loop(port: int, request: bytes, clients: int, images: int) -> float:
    """Images a second from the clients' first answers to the last that all of them waited for."""
    ended: list[float] = []

    async def client() -> None:
        while len(ended) < images:
            load = await offer(port, request, [0.0], patience=PATIENCE)
            if load.answers[0].status == 200:
                ended.append(time.perf_counter())

    await asyncio.gather(*(client() for _ in range(clients)))
    ended.sort()
    return (images - clients) / (ended[images - 1] - ended[clients - 1])


def idle(_: int, __: list[str]) -> Iterator[dict[str, Any]]:
    """Microseconds that the queue adds to one image on an idle server."""
    from d3.adapters.batching import ThreadedQueue
    from d3.adapters.in_process import SystemClock

    class Instant(Sleeping):
        def score(self, pixels: Any, views: int) -> Any:
            return np.zeros((len(pixels), views))

    pixels = np.zeros((1, 224, 224, 3), np.uint8)
    queue = ThreadedQueue(Instant(), SystemClock())
    seconds = []
    for _ in range(3000):
        answered: Future[float] = Future()
        began = time.perf_counter()
        future = queue.reserve(1, pixels.nbytes, 1).submit(pixels)
        future.add_done_callback(lambda _, to=answered: to.set_result(time.perf_counter()))  # type: ignore[misc]
        seconds.append(answered.result() - began)
        time.sleep(0.0005)
    queue.close()
    seconds.sort()
    yield {"name": "queue", "p50_us": 1e6 * seconds[1500], "p99_us": 1e6 * seconds[2970]}


def jpeg() -> bytes:
    """A JPEG of 640 x 480, about 90 KB."""
    grain = np.random.default_rng(0).normal(128, 40, (480, 640, 3)).clip(0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(grain).resize((320, 240)).resize((640, 480)).save(stream, "JPEG", quality=88)
    return stream.getvalue()


def request_to(name: str) -> bytes:
    """One image, as each wants it."""
    if name == "mosec":
        return raw("/inference", jpeg())
    if name == "litserve":
        return base64_json("/predict", jpeg())
    return multipart(PREDICT, [jpeg()], "file")


@contextmanager
def serving(name: str, **environ: str) -> Iterator[int]:
    """A contestant, up and answering, on a port that nobody else has."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "contestants.py"), name, str(port)],
            env=os.environ | {"BENCHMARK_FOLDER": folder, "D3_LOG_LEVEL": "error"} | environ,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(200):
                load = asyncio.run(offer(port, request_to(name), [0.0], patience=30))
                if load.answers[0].status == 200:
                    break
                time.sleep(0.3)
            else:
                sys.exit(f"{name} did not come up")
            yield port
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def machine() -> str:
    """What it was measured on."""
    from importlib.metadata import version

    versions = ", ".join(f"{name} {version(name)}" for name in ("litserve", "mosec", "flask"))
    here = f"{os.cpu_count()} cores, {platform.machine()}, python {platform.python_version()}"
    return f"{here}, {versions}"


if __name__ == "__main__":
    main()
