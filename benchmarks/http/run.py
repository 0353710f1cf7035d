"""`predict` over HTTP beside a bare Litestar handler and the prototype's procedure, in one run.

    python benchmarks/http/run.py [--seconds 5] [--rounds 3] [--connections 1 8 64]

All read the same multipart body, a JPEG of about 100 KB. The bare handler answers at once; D3 runs
whole, with a decoder and a detector that do nothing, and answers when its row is committed; "d3,
decoding" decodes as well; the prototype's procedure is Flask behind four gunicorn workers, one
commit a request. All rows are kept in SQLite with WAL and `synchronous=FULL`. The contestants take
turns in every round; medians count, and of those the ratios. The decoder alone is measured last, in
as many threads as the service has. Needs wrk (Debian: `apt install wrk`).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from d3.adapters.pillow import PillowDecoder

HERE = Path(__file__).parent
BOUNDARY = "d3benchmark"


@dataclass(frozen=True)
class Contestant:
    """A server to measure."""

    name: str
    command: list[str]
    path: str
    port: int


@dataclass(frozen=True)
class Measured:
    """One lap of one contestant."""

    per_second: float
    p50: float
    p99: float
    failures: int


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=int, default=5)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64])
    chosen = arguments.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("This benchmark needs wrk: apt install wrk")
    with tempfile.TemporaryDirectory() as folder:
        script = write_script(Path(folder))
        contestants = [
            Contestant("bare litestar", uvicorn("bare:app", 5101), "/predict", 5101),
            Contestant("d3", uvicorn("nothing:app", 5102), "/api/inference/predict", 5102),
            Contestant(
                "d3, decoding", uvicorn("decoding:app", 5104), "/api/inference/predict", 5104
            ),
            Contestant("flask + gunicorn", gunicorn(5103), "/api/inference/predict", 5103),
        ]
        image = (Path(folder) / "image.jpg").read_bytes()
        print(
            f"{os.cpu_count()} cores, python {sys.version.split()[0]}, image {len(image):,} bytes"
        )
        print(f"{'':18}{'connections':>12}{'req/s':>10}{'ratio':>8}{'p50 ms':>10}{'p99 ms':>10}")
        with running(contestants, Path(folder)):
            for connections in chosen.connections:
                compare(contestants, script, connections, chosen.seconds, chosen.rounds)
        print(f"decoder alone: {decoder_rate(image):.0f} images a second")
        for name in ("nothing", "decoding", "flask"):
            database = Path(folder) / f"{name}.db"
            with sqlite3.connect(database) as rows:
                (count,) = rows.execute("SELECT count(*) FROM inference_results").fetchone()
            print(f"rows kept by {name}: {count:,}")


def decoder_rate(image: bytes, images: int = 400) -> float:
    """Images a second of the decoder by itself, median of five."""
    decoder, threads = PillowDecoder(), min(os.cpu_count() or 1, 16)
    rates = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(5):
            begun = time.perf_counter()
            list(pool.map(lambda _: decoder.decode(image, 224), range(images)))
            rates.append(images / (time.perf_counter() - begun))
    return statistics.median(rates)


def compare(
    contestants: list[Contestant], script: Path, connections: int, seconds: int, rounds: int
) -> None:
    """Print the medians of the rounds for one number of connections."""
    laps: dict[str, list[Measured]] = {one.name: [] for one in contestants}
    for _ in range(rounds):
        for one in contestants:
            laps[one.name].append(measure(one, script, connections, seconds))
    baseline = statistics.median(lap.per_second for lap in laps[contestants[0].name])
    for name, measured in laps.items():
        rate = statistics.median(lap.per_second for lap in measured)
        p50 = statistics.median(lap.p50 for lap in measured)
        p99 = statistics.median(lap.p99 for lap in measured)
        failures = sum(lap.failures for lap in measured)
        note = f"  {failures} failed" if failures else ""
        row = f"{name:18}{connections:12}{rate:10.0f}{rate / baseline:8.2f}"
        print(f"{row}{p50:10.2f}{p99:10.2f}{note}")


def measure(
    one: Contestant, script: Path, connections: int, seconds: int, pin: list[str] | None = None
) -> Measured:
    """One lap of wrk."""
    url = f"http://127.0.0.1:{one.port}{one.path}"
    done = subprocess.run(
        [
            *(pin or []),
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--latency",
            "-s",
            str(script),
            url,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", done.stdout)
    assert rate is not None
    return Measured(
        float(rate[1]),
        milliseconds(done.stdout, "50%"),
        milliseconds(done.stdout, "99%"),
        int(found[1]) if found else 0,
    )


def milliseconds(output: str, percentile: str) -> float:
    """A percentile of wrk's report."""
    found = re.search(rf"{percentile}\s+([0-9.]+)(us|ms|s)\b", output)
    assert found is not None
    return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000}[found[2]]


def write_script(folder: Path) -> Path:
    """What wrk sends."""
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
    grain = np.random.default_rng(0).normal(128, 40, (480, 640, 3)).clip(0, 255).astype(np.uint8)
    smooth = Image.fromarray(grain).resize((320, 240)).resize((640, 480))
    smooth.save(folder / "image.jpg", quality=88)
    body = f"{part}Content-Type: image/jpeg\r\n\r\n".encode()
    body += (folder / "image.jpg").read_bytes()
    (folder / "body").write_bytes(body + f"\r\n--{BOUNDARY}--\r\n".encode())
    script = folder / "post.lua"
    script.write_text(
        f'local body = io.open("{folder / "body"}", "rb")\n'
        'wrk.method = "POST"\nwrk.body = body:read("*a")\n'
        f'wrk.headers["Content-Type"] = "multipart/form-data; boundary={BOUNDARY}"\n'
    )
    return script


def uvicorn(application: str, port: int) -> list[str]:
    """One process of uvicorn."""
    command = [sys.executable, "-m", "uvicorn", application, "--port", str(port)]
    return [*command, "--app-dir", str(HERE), "--log-level", "warning", "--no-access-log"]


def gunicorn(port: int) -> list[str]:
    """As the prototype's README starts it."""
    command = [sys.executable, "-m", "gunicorn", "-w", "4", "-b", f"127.0.0.1:{port}"]
    return [*command, "--preload", "--chdir", str(HERE), "--log-level", "warning", "prototype:app"]


@contextmanager
def running(contestants: list[Contestant], folder: Path) -> Iterator[None]:
    """All servers, up."""
    environ = os.environ | {"BENCHMARK_FOLDER": str(folder), "D3_LOG_LEVEL": "warning"}
    processes = [
        subprocess.Popen(one.command, env=environ, start_new_session=True) for one in contestants
    ]
    try:
        for one in contestants:
            wait_for(one.port)
        yield
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in processes:
            process.wait(20)


def wait_for(port: int) -> None:
    """Until somebody listens."""
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    sys.exit(f"nothing listens on port {port}")


if __name__ == "__main__":
    main()
