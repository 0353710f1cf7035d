"""What D3 does under too much load, on a device that makes about 50 images a second.

    python benchmarks/serving/pressure.py load|hostile|slow [--seconds 20] [--seed 0] [--out FILE]

The device sleeps 100 ms and 16.9 ms an image, so that batches of 32 make 50 a second. ``load``:
first one image at a time (S) and the capacity (C); then Poisson arrivals at 0.7, 2 and 10 times C,
beside an ideal queue simulated on the same arrivals, while liveness is asked ten times a second;
and the seconds until an image takes what it took before. ``hostile``: 10,000 requests
(``--requests``), a tenth of them attacks of tests/hostile; memory, descriptors and temporary files
after the first tenth and in the end. ``slow``: what 200 clients that send a byte a second do to
everybody else's p99. The long form is ``--seconds 150``; the generator allows no more.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compare import MEMORY, PREDICT, jpeg, serving
from load import LOOPBACK, Load, multipart, offer, poisson

FIXED, EACH, BATCH = 0.100, 0.0169, 32
PATIENCE = 30.0
NAME = "d3"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("part", choices=["load", "hostile", "slow"])
    arguments.add_argument("--seconds", type=float, default=20.0)
    arguments.add_argument("--requests", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--out", type=Path)
    chosen = arguments.parse_args()
    part = {"load": pressed, "hostile": attacked, "slow": slowed}[chosen.part]
    for line in part(chosen):
        print(line, flush=True)
        if chosen.out:
            with chosen.out.open("a") as stream:
                stream.write(json.dumps(line) + "\n")


def device() -> dict[str, str]:
    """Tells the contestant which device to be."""
    return {
        "BENCHMARK_FIXED": str(FIXED),
        "BENCHMARK_EACH": str(EACH),
        "BENCHMARK_SECONDS": "2",
    }


def pressed(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Loads below and above the capacity."""
    request = multipart(PREDICT, [jpeg()], "file")
    with serving(NAME, **device()) as port:
        single = asyncio.run(one_by_one(port, request, 15))
        flood = asyncio.run(offer(port, request, poisson(150, 8, 99), patience=PATIENCE))
        capacity = flood.goodput(PATIENCE)
        yield {"S": round(single, 4), "C": round(capacity, 1)}
        time.sleep(3)
        for share in (0.7, 2.0, 10.0):
            moments = poisson(share * capacity, chosen.seconds, chosen.seed)
            load, alive = asyncio.run(watched(port, request, moments))
            recovery = asyncio.run(recovered(port, request, 1.3 * single))
            ideal = ideal_p99(moments)
            statuses = load.statuses()
            odd = sum(n for status, n in statuses.items() if status not in (200, 429, 503))
            yield {
                "share": share,
                "offered": len(moments),
                "statuses": statuses,
                "goodput of C": round(load.goodput(PATIENCE) / capacity, 3),
                "p99": round(load.served_percentile(0.99), 3),
                "p99 of the ideal": round(load.served_percentile(0.99) / ideal, 2),
                "rejections p99": round(load.refused_seconds(), 4),
                "other failures and resets": odd,
                "liveness p99": round(alive.percentile(0.99), 4),
                "recovery": round(recovery, 2),
                "generator late": round(max(one.late for one in load.answers), 3),
            }


def ideal_p99(moments: list[float]) -> float:
    """The p99 of a queue that costs nothing: whatever waits goes into the next pass."""
    waited, free, at = [], 0.0, 0
    while at < len(moments):
        begin = max(free, moments[at])
        stop = at
        while stop < len(moments) and stop - at < BATCH and moments[stop] <= begin:
            stop += 1
        free = begin + FIXED + EACH * (stop - at)
        waited += [free - moment for moment in moments[at:stop]]
        at = stop
    return sorted(waited)[int(0.99 * len(waited))]


async def one_by_one(port: int, request: bytes, times: int) -> float:
    """The median of one image on an idle server."""
    seconds = []
    for _ in range(times):
        load = await offer(port, request, [0.0], patience=PATIENCE)
        seconds.append(load.answers[0].seconds)
    return statistics.median(seconds)


async def watched(port: int, request: bytes, moments: list[float]) -> tuple[Load, Load]:
    """A load, and liveness beside it ten times a second."""
    ask = f"GET /health/live HTTP/1.1\r\nHost: {LOOPBACK}\r\n\r\n".encode()
    ticks = [n / 10 for n in range(int(10 * moments[-1]))]
    load, alive = await asyncio.gather(
        offer(port, request, moments, patience=PATIENCE), offer(port, ask, ticks)
    )
    return load, alive


async def recovered(port: int, request: bytes, normal: float) -> float:
    """Seconds until one image takes no longer than is normal."""
    began = time.perf_counter()
    while time.perf_counter() - began < 60:
        answer = (await offer(port, request, [0.0], patience=PATIENCE)).answers[0]
        if answer.status == 200 and answer.seconds <= normal:
            break
    return time.perf_counter() - began


def attacked(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Many requests, a tenth hostile: what stays behind in the process."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    sys.path.insert(0, str(Path(__file__).parents[2]))
    attacks = importlib.import_module("tests.hostile.attacks").attacks

    chance = random.Random(chosen.seed)
    good = multipart(PREDICT, [jpeg()], "file")
    bad = []
    for attack in attacks(chosen.seed):
        # A child for each .pth would make this a benchmark of starting torch.
        if attack.raw is None and attack.path == PREDICT and attack.status != 200:
            body = attack.make()
            lines = [
                f"POST {PREDICT} HTTP/1.1",
                f"Host: {LOOPBACK}",
                f"Content-Length: {len(body)}",
            ]
            lines += [f"{name}: {value}" for name, value in attack.headers.items()]
            if len(body) < 2_000_000:
                bad.append(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
    with (
        tempfile.TemporaryDirectory(dir=MEMORY) as scratch,
        serving(NAME, BENCHMARK_EACH="0", BENCHMARK_FIXED="0.002", TMPDIR=scratch) as port,
    ):
        pid, left = listener(port), chosen.requests
        kept: list[tuple[int, int]] = []
        statuses: dict[int, int] = {}
        part = max(1, chosen.requests // 10)
        while left > 0:
            batch = [chance.choice(bad) if n % 10 == 0 else good for n in range(min(part, left))]
            for status, count in asyncio.run(closed(port, batch, 8)).items():
                statuses[status] = statuses.get(status, 0) + count
            left -= len(batch)
            time.sleep(2)
            kept.append((resident(pid), len(list(Path(f"/proc/{pid}/fd").iterdir()))))
        first, now = kept[0], kept[-1]
        yield {
            "requests": chosen.requests,
            "statuses": statuses,
            "memory of after the first tenth": round(now[0] / first[0], 3),
            "mebibytes after each tenth": [one // 1024 for one, _ in kept],
            "descriptors more": now[1] - first[1],
            "temporary files": len(list(Path(scratch).iterdir())),
        }


async def closed(port: int, batch: list[bytes], clients: int) -> dict[int, int]:
    """All of them, so many at a time; how often each status came."""
    waiting = list(batch)
    statuses: dict[int, int] = {}

    async def client() -> None:
        while waiting:
            load = await offer(port, waiting.pop(), [0.0], patience=PATIENCE)
            status = load.answers[0].status
            statuses[status] = statuses.get(status, 0) + 1

    await asyncio.gather(*(client() for _ in range(clients)))
    return statuses


def slowed(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Clients that take their time beside others."""
    request = multipart(PREDICT, [jpeg()], "file")
    with serving(NAME, **device()) as port:
        moments = poisson(25, min(chosen.seconds, 30.0), chosen.seed)
        before = asyncio.run(offer(port, request, moments, patience=PATIENCE))
        beside = asyncio.run(beside_slow(port, request, moments, 200))
        one, other = before.served_percentile(0.99), beside.served_percentile(0.99)
        yield {
            "slow clients": 200,
            "p99 alone": round(one, 3),
            "p99 beside them": round(other, 3),
            "ratio": round(other / one, 2),
            "statuses": beside.statuses(),
        }


async def beside_slow(port: int, request: bytes, moments: list[float], clients: int) -> Load:
    """The same load beside clients that send a byte a second."""

    async def slow() -> None:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(request[:300])
        try:
            for at in range(300, len(request)):
                writer.write(request[at : at + 1])
                await writer.drain()
                await asyncio.sleep(1)
        except OSError:
            pass
        finally:
            writer.close()

    crawling = [asyncio.create_task(slow()) for _ in range(clients)]
    await asyncio.sleep(1)
    load = await offer(port, request, moments, patience=PATIENCE)
    for one in crawling:
        one.cancel()
    await asyncio.gather(*crawling, return_exceptions=True)
    return load


def listener(port: int) -> int:
    """The process that listens on a port."""
    wanted = f"{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        parts = line.split()
        if parts[1].endswith(f":{wanted}") and parts[3] == "0A":
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    links = [str(one.readlink()) for one in (process / "fd").iterdir()]
                except OSError:
                    continue
                if f"socket:[{parts[9]}]" in links:
                    return int(process.name)
    raise SystemExit(f"nobody listens on {port}")


def resident(pid: int) -> int:
    """Its memory in kibibytes, and its children's."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(one.split(":", 1) for one in status.read_text().splitlines())
        except OSError:
            continue
        if pid in (int(fields["Pid"]), int(fields["PPid"])):
            total += int(fields.get("VmRSS", "0 kB").split()[0])
    return total


if __name__ == "__main__":
    main()
