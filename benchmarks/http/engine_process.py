"""What an engine process takes in: images a second from fronts that do nothing else.

    python benchmarks/http/engine_process.py [--seconds 3] [--fronts 1 2] [--side 224]

The detector does nothing. Each front is a process with 128 images on their way. The engine's CPU
milliseconds an image say what bounds many fronts before an interpreter is full.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import socket
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from idle import NoEngine, OneModel

from d3.adapters.batching import Bounds, ThreadedQueue
from d3.adapters.in_process import SystemClock
from d3.adapters.limits import CountingLimiter
from d3.adapters.remote import EngineLink, EngineServer, RemoteModelHost
from d3.domain.ports.queue import Scored
from d3.domain.services.detection import SingleFlight
from d3.domain.services.local_host import LocalModelHost

UNDER_WAY = 128


def front(path: Path, side: int, seconds: float, answers: multiprocessing.SimpleQueue[int]) -> None:
    """Ask for as many images as there are answers."""
    host = RemoteModelHost(
        [EngineLink(path, "front", "1")], lambda: "nothing", 10**6, 2**40, SystemClock()
    )
    model = host.start()
    pixels = np.zeros((1, side, side, 3), np.uint8)
    slots, done = threading.Semaphore(UNDER_WAY), 0

    def answered(_: Future[Scored]) -> None:
        nonlocal done
        done += 1
        slots.release()

    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        slots.acquire()
        model.queue.submit(pixels, 1).add_done_callback(answered)
    answers.put(done)
    for _ in range(UNDER_WAY):
        slots.acquire()
    host.close()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=3)
    arguments.add_argument("--fronts", type=int, nargs="+", default=[1, 2])
    arguments.add_argument("--side", type=int, nargs="+", default=[28, 224])
    chosen = arguments.parse_args()
    clock = SystemClock()
    registry: Any = OneModel()
    engine: Any = NoEngine
    host = LocalModelHost(
        registry, engine, lambda one: ThreadedQueue(one, clock, Bounds()), "nothing"
    )
    host.load()
    server = EngineServer(host, SingleFlight(), CountingLimiter(b""), "1")
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "engine.sock"
        listener.bind(str(path))
        listener.listen()
        server.serve(listener)
        spawn = multiprocessing.get_context("spawn")
        for side in chosen.side:
            for count in chosen.fronts:
                answers = spawn.SimpleQueue()
                fronts = [
                    spawn.Process(target=front, args=(path, side, chosen.seconds, answers))
                    for _ in range(count)
                ]
                before = resource.getrusage(resource.RUSAGE_SELF)
                for one in fronts:
                    one.start()
                images = sum(answers.get() for _ in fronts)
                after = resource.getrusage(resource.RUSAGE_SELF)
                for one in fronts:
                    one.join()
                cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                print(
                    f"{count} fronts, {side} x {side}: {images / chosen.seconds:,.0f} images a "
                    f"second, {1000 * cpu / images:.3f} ms of the engine process an image"
                )
    server.close()
    host.close()


if __name__ == "__main__":
    main()
