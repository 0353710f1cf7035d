"""What a clip costs beside its frames as images, in turns; and what decoding alone costs.

    python benchmarks/video.py [--model vit-l-14] [--engine torch] [--rounds 3] [--seconds 60]

The clip is 1920 x 1080 at 30 frames a second in H.264, of moving noise at about ``--megabits``, and
is judged once a second. The images are the same frames as JPEG files of quality 90, judged one by
one and many at once. Children count in the processors' time. ``starter`` is the model in the
package; the others have random weights.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

import d3
from d3.adapters.filesystem.registry import FilesystemRegistry
from d3.adapters.video.reader import IsolatedClips
from d3.domain.clips import FrameSampling
from d3.entrypoints.bench.measure import SHAPES, processor, random_model

SIDES, FPS = (1920, 1080), 30


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--model", action="append", choices=["starter", *SHAPES])
    arguments.add_argument("--engine", default="auto", choices=["auto", "torch", "openvino"])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=int, default=60)
    arguments.add_argument("--megabits", type=float, default=8.0)
    chosen = arguments.parse_args()
    print(processor())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = write_clip(folder / "clip.mp4", chosen.seconds, chosen.megabits)
        megabits = clip.stat().st_size * 8 / chosen.seconds / 1e6
        frames = [one.pixels for one in IsolatedClips().open(clip, FrameSampling(cuts=False))]
        images = [jpeg(one) for one in frames]
        print(f"{len(images)} frames of a clip of {chosen.seconds} s, {megabits:.1f} Mbit/s")
        decoding(clip, images, chosen.rounds)
        for model in chosen.model or ["starter", "vit-l-14"]:
            measure(model, folder, chosen.engine, chosen.rounds, clip, images)


def decoding(clip: Path, images: list[bytes], rounds: int) -> None:
    """Print what decoding costs without a model."""
    ways: dict[str, Callable[[], object]] = {
        "clip": lambda: [one.time for one in IsolatedClips().open(clip, FrameSampling())],
        "images": lambda: [np.asarray(Image.open(io.BytesIO(one))).shape for one in images],
    }
    for name, kept in in_turns(ways, rounds).items():
        print(f"decoding  {name:6} {told(kept)}", flush=True)


def measure(  # noqa: PLR0917  what there is to measure
    model: str, folder: Path, engine: Any, rounds: int, clip: Path, images: list[bytes]
) -> None:
    """Print the times of each way, and the medians of the rounds' ratios to the images."""
    if model in SHAPES:
        registry = FilesystemRegistry(folder / "models")
        registry.put(random_model(folder, model, SHAPES[model]))
    settings = d3.Settings(home=folder, model=model if model in SHAPES else None, engine=engine)
    with d3.D3(settings) as detector:
        ways: dict[str, Callable[[], object]] = {
            "clip": lambda: detector.detect_clip(clip),
            "one": lambda: [detector.detect(one) for one in images],
            "many": lambda: list(detector.detect_many(images)),
        }
        list(detector.detect_many(images[:2]))
        kept = in_turns(ways, rounds)
    for name, times in kept.items():
        ratios = [
            statistics.median(a[which] / b[which] for a, b in zip(kept["clip"], times, strict=True))
            for which in (0, 1)
        ]
        beside = (
            "" if name == "clip" else f"; the clip takes {ratios[0]:.2f} times, {ratios[1]:.2f}"
        )
        print(f"{model:9} {name:6} {told(times)}{beside}", flush=True)


def in_turns(
    ways: dict[str, Callable[[], object]], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Seconds by the clock and of the processors that each way took, one after another."""
    kept: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            begun, used = time.perf_counter(), processor_seconds()
            work()
            kept[name].append((time.perf_counter() - begun, processor_seconds() - used))
    return kept


def told(times: list[tuple[float, float]]) -> str:
    clock, used = (statistics.median(one[which] for one in times) for which in (0, 1))
    return f"{clock:6.2f} s, {used:6.2f} s of the processors"


def processor_seconds() -> float:
    """Of this process and its children that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def write_clip(file: Path, seconds: int, megabits: float) -> Path:
    """A clip of six scenes, each a picture that moves, under noise."""
    rng = np.random.default_rng(0)
    width, height = SIDES
    coarse = rng.integers(0, 256, (6, 20, 36, 3), np.uint8)
    larger = width + 200, height + 200
    scenes = [
        np.asarray(Image.fromarray(one).resize(larger, Image.Resampling.BICUBIC)) for one in coarse
    ]
    noise = [rng.normal(0, 4, (height, width, 1)).astype(np.int16) for _ in range(5)]
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        stream.width, stream.height = SIDES
        stream.pix_fmt, stream.bit_rate = "yuv420p", round(megabits * 1e6)
        for place in range(seconds * FPS):
            scene, moved = scenes[place * len(scenes) // (seconds * FPS)], place % 200
            pixels = scene[moved : moved + height, moved : moved + width].astype(np.int16)
            pixels = np.clip(pixels + noise[place % len(noise)], 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = place, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file


def jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


if __name__ == "__main__":
    main()
