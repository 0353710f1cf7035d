"""What a test of stability costs: the same images judged with it and without, in turns.

    python benchmarks/stability.py [--model starter] [--model vit-l-14] [--rounds 5] [--images 8]

``starter`` is the model in the package; the others have random weights. ``one`` judges image after
image, as ``d3 detect photo.jpg`` does; ``many`` judges them in batches. What counts is the ratio.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import d3
from d3.adapters.filesystem.registry import FilesystemRegistry
from d3.entrypoints.bench.measure import SHAPES, processor, random_model

SIDES = (1024, 768)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--model", action="append", choices=["starter", *SHAPES])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--images", type=int, default=8)
    chosen = arguments.parse_args()
    print(processor())
    for name in chosen.model or ["starter", "vit-l-14"]:
        with tempfile.TemporaryDirectory() as folder:
            measure(name, Path(folder), chosen.rounds, chosen.images)


def measure(name: str, folder: Path, rounds: int, images: int) -> None:
    """Print a model's seconds an image with and without, and the median of the rounds' ratios."""
    if name in SHAPES:
        registry = FilesystemRegistry(folder / "models")
        registry.put(random_model(folder, name, SHAPES[name]))
    settings = d3.Settings(home=folder, model=name if name in SHAPES else None)
    with d3.D3(settings) as detector:
        ways: dict[str, Callable[[Sequence[bytes], bool], object]] = {
            "one": lambda files, stability: [
                detector.detect(one, stability=stability) for one in files
            ],
            "many": lambda files, stability: list(detector.detect_many(files, stability=stability)),
        }
        for way, judge in ways.items():
            judge(pictures(2, 0), True)
            seconds: dict[bool, list[float]] = {False: [], True: []}
            for turn in range(rounds):
                for stability, times in seconds.items():
                    files = pictures(images, 1 + 2 * turn + stability)
                    begun = time.perf_counter()
                    judge(files, stability)
                    times.append((time.perf_counter() - begun) / images)
            without, tested = (1000 * statistics.median(times) for times in seconds.values())
            ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
            print(
                f"{name:9} {way:4} {without:8.1f} ms without, {tested:8.1f} ms with: "
                f"{statistics.median(ratios):.2f} times"
            )


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
