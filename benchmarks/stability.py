"""What a test of stability costs: the same images judged with it and without, in turns.

    python benchmarks/stability.py [--model vit-l-14] [--engine torch] [--rounds 5] [--images 8]

``starter`` is the model in the package; the others have random weights. ``one`` judges image after
image, as ``d3 detect photo.jpg`` does; ``many`` judges them in batches. What counts is the ratio:
by the clock, and in the processors' time, which others on the machine disturb less.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import d3
from d3.adapters.filesystem.registry import FilesystemRegistry
from d3.entrypoints.bench.measure import SHAPES, processor, random_model

SIDES = (1024, 768)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--model", action="append", choices=["starter", *SHAPES])
    arguments.add_argument("--engine", default="auto", choices=["auto", "torch", "openvino"])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--images", type=int, default=8)
    chosen = arguments.parse_args()
    print(processor())
    for name in chosen.model or ["starter", "vit-l-14"]:
        with tempfile.TemporaryDirectory() as folder:
            measure(name, Path(folder), chosen.engine, chosen.rounds, chosen.images)


def measure(name: str, folder: Path, engine: Any, rounds: int, images: int) -> None:
    """Print a model's times of an image with and without, and the medians of the rounds' ratios."""
    if name in SHAPES:
        registry = FilesystemRegistry(folder / "models")
        registry.put(random_model(folder, name, SHAPES[name]))
    settings = d3.Settings(home=folder, model=name if name in SHAPES else None, engine=engine)
    with d3.D3(settings) as detector:
        ways: dict[str, Callable[[Sequence[bytes], bool], object]] = {
            "one": lambda files, stability: [
                detector.detect(one, stability=stability) for one in files
            ],
            "many": lambda files, stability: list(detector.detect_many(files, stability=stability)),
        }
        for way, judge in ways.items():
            judge(pictures(2, 0), True)
            times: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
            for turn in range(rounds):
                for stability, kept in times.items():
                    files = pictures(images, 1 + 2 * turn + stability)
                    begun, used = time.perf_counter(), time.process_time()
                    judge(files, stability)
                    kept.append((time.perf_counter() - begun, time.process_time() - used))
            told = []
            for which, unit in enumerate(("ms", "processor ms")):
                without, tested = (
                    1000 * statistics.median(one[which] for one in kept) / images
                    for kept in times.values()
                )
                ratio = statistics.median(
                    b[which] / a[which] for a, b in zip(*times.values(), strict=True)
                )
                told.append(f"{without:.1f} {unit} without, {tested:.1f} with, {ratio:.2f} times")
            print(f"{name:9} {way:4} {'; '.join(told)}", flush=True)


def pictures(count: int, seed: int) -> list[bytes]:
    """JPEG files of smooth noise, none like another."""
    rng = np.random.default_rng(seed)
    files = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize(SIDES, Image.Resampling.BICUBIC).save(file, "JPEG", quality=88)
        files.append(file.getvalue())
    return files


if __name__ == "__main__":
    main()
