"""`kill -9` of the processes of `d3 serve --workers 2` under load: when they answer again.

    python benchmarks/http/kills.py [--kills 20]

The starter model judges, each request has a connection of its own. "front": the slowest request to
`/health/live` of those that were sent in the second after a front was killed; most go to the other
front, some wait for the new one. "engine": from the kill to the first image that is judged, by a
request that was sent at once. "broken" counts requests that were on the killed front's connections.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

CLIENTS = 2


class Service:
    """A `d3 serve --workers 2` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "log"
        environ = os.environ | {"D3_HOME": str(folder), "D3_CACHE_ENTRIES": "0", "D3_PORT": "0"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "d3", "serve", "--workers", "2"],
            env=environ,
            stderr=self._log.open("wb"),
        )
        while "D3 listens on" not in self._log.read_text():
            time.sleep(0.1)
            assert self.process.poll() is None, self._log.read_text()
        self.url = re.findall(r"D3 listens on (\S+)", self._log.read_text())[0]

    def kill(self, name: str) -> float:
        """Kill the process of this name; when that was."""
        pid = int(re.findall(rf"{name} is process (\d+)", self._log.read_text())[-1])
        at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        return at


def client() -> httpx.Client:
    """One that makes a connection for each request."""
    return httpx.Client(timeout=60, verify=False, limits=httpx.Limits(max_keepalive_connections=0))


def ask(
    url: str, over: threading.Event, seen: list[tuple[float, float]], ends: Counter[str]
) -> None:
    """Ask until it is over; note when each request was sent, and how long it took."""
    with client() as http:
        while not over.is_set():
            sent = time.monotonic()
            try:
                ends[str(http.get(f"{url}/health/live").status_code)] += 1
                seen.append((sent, time.monotonic() - sent))
            except httpx.ConnectError:
                ends["refused"] += 1
            except httpx.TransportError:
                ends["broken"] += 1


def fronts(service: Service, kills: int) -> list[float]:
    """The slowest answer after each kill of a front."""
    over, ends = threading.Event(), Counter[str]()
    seen: list[tuple[float, float]] = []
    clients = [
        threading.Thread(target=ask, args=(service.url, over, seen, ends)) for _ in range(CLIENTS)
    ]
    for one in clients:
        one.start()
    slowest = []
    for number in range(kills):
        at = service.kill(f"front-{number % 2 + 1}")
        time.sleep(1.5)
        slowest.append(max(took for sent, took in seen if at <= sent <= at + 1))
    over.set()
    for one in clients:
        one.join()
    print("requests beside the kills of fronts:", dict(ends))
    return slowest


def engines(service: Service, kills: int) -> list[float]:
    """Seconds from each kill of the engine to a judged image."""
    picture = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(picture, "PNG")
    took, ends = [], Counter[str]()
    with client() as http:
        for _ in range(kills):
            at = service.kill("engine-0")
            status = 0
            while status != httpx.codes.OK:
                answer = http.post(
                    f"{service.url}/api/inference/predict", files={"file": picture.getvalue()}
                )
                status = answer.status_code
                ends[str(status)] += 1
            took.append(time.monotonic() - at)
    print("requests beside the kills of the engine:", dict(ends))
    return took


def main() -> None:
    """Kill, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    kills = parser.parse_args().kills
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder))
        for name, kill in (("front", fronts), ("engine", engines)):
            seconds = kill(service, kills)
            print(f"{name}: median {statistics.median(seconds):.2f} s, max {max(seconds):.2f} s")
        service.process.terminate()
        assert service.process.wait(60) == 0


if __name__ == "__main__":
    main()
