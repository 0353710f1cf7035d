"""Decoding in child processes beside decoding in threads: what the isolation costs.

    python benchmarks/isolation.py

Each size is decoded by one thread and by two, both ways in turn, the median of five rounds; then
what a child keeps in memory and takes to start.
"""

from __future__ import annotations

import io
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from d3.adapters.pillow import PillowDecoder
from d3.adapters.pillow.isolated import IsolatedDecoder

SIZES = {"64 x 64": (64, 64), "640 x 480": (640, 480), "4000 x 3000": (4000, 3000)}
ROUNDS, SECONDS = 5, 1.0


def main() -> None:
    inside, isolated = PillowDecoder(), IsolatedDecoder()
    began = time.perf_counter()
    isolated.decode(picture(8, 8), 224)
    print(f"the first image of a child: {1000 * (time.perf_counter() - began):.0f} ms")
    for name, size in SIZES.items():
        data = picture(*size)
        for threads in (1, 2):
            rates: dict[str, list[float]] = {"threads": [], "children": []}
            for _ in range(ROUNDS):
                rates["threads"].append(rate(inside, data, threads))
                rates["children"].append(rate(isolated, data, threads))
            here, there = (statistics.median(one) for one in rates.values())
            print(
                f"{name}, {len(data):,} bytes, {threads} at once: {here:.0f} a second in threads, "
                f"{there:.0f} in children, {there / here:.2f} times; "
                f"{1000 * threads * (1 / there - 1 / here):+.2f} ms an image"
            )
    for child in isolated._idle:  # noqa: SLF001
        status = Path(f"/proc/{child._process.pid}/smaps_rollup").read_text()  # noqa: SLF001
        print(*(one for one in status.splitlines() if one.startswith(("Rss", "Pss:"))))
    isolated.close()


def rate(decoder: PillowDecoder | IsolatedDecoder, data: bytes, threads: int) -> float:
    """Images a second."""
    until = time.perf_counter() + SECONDS

    def work(_: int) -> int:
        done = 0
        while time.perf_counter() < until:
            decoder.decode(data, 224)
            done += 1
        return done

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(work, range(threads)))
    return done / (time.perf_counter() - began)


def picture(width: int, height: int) -> bytes:
    """A JPEG of some noise."""
    grain = np.random.default_rng(0).normal(128, 40, (height // 2, width // 2, 3))
    image = Image.fromarray(grain.clip(0, 255).astype(np.uint8)).resize((width, height))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=88)
    return stream.getvalue()


if __name__ == "__main__":
    main()
