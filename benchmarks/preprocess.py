"""JPEG to 224 x 224: the exact path beside quicker ones, their speed and what they change.

    python benchmarks/preprocess.py [--rounds 5]

The exact path decodes every pixel and resizes once, as the published preprocessing does. The
quicker ones let libjpeg-turbo leave out what is thrown away anyway: it decodes at 1/2, 1/4 or 1/8
of the size ("draft", with at least 1 or 2 times the pixels needed), through Pillow or simplejpeg;
"reduce" decodes all and averages boxes before it resizes. One thread each, taking turns; medians
count. What changes is measured on the examples, enlarged to each size and saved again: the mean
difference of a pixel's value, and how far the starter's probability is from the exact path's.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

import d3
from d3.adapters.pillow import PillowDecoder
from d3.domain.images import Pixels

SIDE = 224
SIZES = [(640, 480), (1920, 1080), (4000, 3000)]
EXAMPLES = Path(__file__).parent.parent / "examples/images"
Decode = Callable[[bytes], Pixels]


def exact(data: bytes) -> Pixels:
    """D3's decoder, its limits and its hash included."""
    return PillowDecoder().decode(data, SIDE).pixels


def plain(data: bytes) -> Pixels:
    """The same pixels, without limits and hash."""
    return resized(Image.open(io.BytesIO(data)).convert("RGB"))


def reduce(data: bytes) -> Pixels:
    """Decode all, average boxes, then resize."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.array(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0))


def draft(times: int) -> Decode:
    """Pillow's way to libjpeg-turbo's scaling, to at least so many times the side."""

    def decode(data: bytes) -> Pixels:
        image = Image.open(io.BytesIO(data))
        image.draft("RGB", (times * SIDE, times * SIDE))
        return resized(image.convert("RGB"))

    return decode


def simple(times: int | None) -> Decode:
    """The same with simplejpeg; None decodes all."""

    def decode(data: bytes) -> Pixels:
        least = times * SIDE if times else 0
        pixels = simplejpeg.decode_jpeg(
            data, "RGB", fastdct=False, fastupsample=False, min_height=least, min_width=least
        )
        return resized(Image.fromarray(pixels))

    return decode


def resized(image: Image.Image) -> Pixels:
    """As the exact path does it."""
    return np.array(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


PATHS: dict[str, Decode] = {
    "exact, as D3 decodes": exact,
    "exact, Pillow alone": plain,
    "exact, simplejpeg": simple(None),
    "reduce": reduce,
    "draft, 2 x": draft(2),
    "draft, 1 x": draft(1),
    "simplejpeg, 2 x": simple(2),
    "simplejpeg, 1 x": simple(1),
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    rounds = arguments.parse_args().rounds
    with d3.D3(d3.Settings(model="starter")) as detector:
        for size in SIZES:
            compare(detector, size, rounds)


def compare(detector: d3.D3, size: tuple[int, int], rounds: int) -> None:
    """Print one size's table."""
    files = [enlarged(path, size) for path in sorted(EXAMPLES.iterdir())]
    print(f"\n{size[0]} x {size[1]}, {len(files)} JPEGs of {len(files[0]) // 1024} KB and the like")
    print(f"{'':24}{'images/s':>10}{'ratio':>8}{'pixel':>8}{'probability: mean':>20}{'most':>8}")
    rates = speeds(files[: 3 if size[0] > 2000 else 10], rounds)
    truth = [exact(data) for data in files]
    right = probabilities(detector, truth)
    for name, path in PATHS.items():
        pixels = [path(data) for data in files]
        off = np.mean([abs(a.astype(int) - b).mean() for a, b in zip(pixels, truth, strict=True)])
        drift = np.abs(probabilities(detector, pixels) - right)
        rate = rates[name]
        print(
            f"{name:24}{rate:10.0f}{rate / rates['exact, as D3 decodes']:8.2f}"
            f"{off:8.2f}{drift.mean():20.3f}{drift.max():8.3f}"
        )


def speeds(files: list[bytes], rounds: int) -> dict[str, float]:
    """Images a second, by path."""
    seconds: dict[str, list[float]] = {name: [] for name in PATHS}
    for _ in range(rounds):
        for name, path in PATHS.items():
            began = time.perf_counter()
            for data in files:
                path(data)
            seconds[name].append((time.perf_counter() - began) / len(files))
    return {name: 1 / statistics.median(measured) for name, measured in seconds.items()}


def probabilities(detector: d3.D3, images: list[Pixels]) -> np.ndarray:
    """The starter's, of pixels that need no more resizing."""
    return np.array([one.prediction for one in detector.detect_many(images)])


def enlarged(path: Path, size: tuple[int, int]) -> bytes:
    """An example as a camera's or a generator's file of that size."""
    stream = io.BytesIO()
    image = Image.open(path).convert("RGB").resize(size, Image.Resampling.LANCZOS)
    image.save(stream, "JPEG", quality=92)
    return stream.getvalue()


if __name__ == "__main__":
    main()
