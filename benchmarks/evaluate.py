"""How busy evaluation keeps the engine, and that its memory does not grow with the data set.

    python benchmarks/evaluate.py busy [--images 24] [--rounds 5]
    python benchmarks/evaluate.py memory [--images 1000 100000]

``busy``: a model of ViT-L/14's size with random weights. In each round the bare engine scores the
same pixels in the same batches, then an evaluation of the files is made, without the report; what
counts is the ratio of images a second. ``memory``: the starter on so many names (hard links) for a
few pictures, each number in a process of its own, to the end of `d3 evaluate`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from d3.adapters.batching import Bounds, ThreadedQueue
from d3.adapters.in_process import SystemClock
from d3.adapters.pillow import PillowDecoder
from d3.adapters.torch import TorchEngine
from d3.domain.models import StoredModel
from d3.domain.services.detection import DetectionService, ImageJudge, SingleFlight
from d3.domain.services.lanes import LanePool
from d3.domain.services.local_host import LocalModelHost
from d3.entrypoints.bench.measure import SHAPES, peak_gib, processor, random_model
from d3.evaluation.dataset import Dataset
from d3.evaluation.perturbations import UNCHANGED
from d3.evaluation.scoring import Scorer

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for tests.support
from tests.support.memory.registry import MemoryRegistry

BATCH = 8


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("what", choices=["busy", "memory", "peak"])
    arguments.add_argument("--images", type=int, nargs="+")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.what == "peak":
        print_peak(chosen.folder)
        return
    print(processor())
    with tempfile.TemporaryDirectory() as folder:
        if chosen.what == "busy":
            compare(Path(folder), (chosen.images or [24])[0], chosen.rounds)
        else:
            watch(Path(folder), chosen.images or [1_000, 100_000])


def compare(folder: Path, images: int, rounds: int) -> None:
    """Print the images a second of the bare engine and of an evaluation, and their ratio."""
    model = random_model(folder, "random", SHAPES["vit-l-14"])
    data = pictures(folder / "data", images, side=640)
    clock, decoder = SystemClock(), PillowDecoder()
    engine = TorchEngine("cpu", "auto", BATCH)
    host = LocalModelHost(
        OneModel(model),
        lambda: engine,
        lambda detector: ThreadedQueue(detector, clock, Bounds(BATCH)),
        "random",
    )
    pool = LanePool(os.cpu_count() or 1, 0.2, "benchmark")
    detection = DetectionService(host, decoder, ImageJudge(clock, SingleFlight()), pool)
    scorer = Scorer(host, detection, decoder, BATCH)
    detector = host.load().queue.detector
    files = [one.path for one in Dataset([data]).items()]
    pixels = np.stack([decoder.decode(one, 224).pixels for one in files])

    def bare() -> None:
        for start in range(0, images, BATCH):
            detector.score(pixels[start : start + BATCH], 1)

    def evaluated() -> None:
        shutil.rmtree(folder / "out", ignore_errors=True)
        scorer.score(
            Dataset([data]), folder / "out", [UNCHANGED], members=[model.manifest], total=images
        )

    bare()
    seconds: dict[str, list[float]] = {"bare engine": [], "evaluation": []}
    for _ in range(rounds):
        for name, work in (("bare engine", bare), ("evaluation", evaluated)):
            begun = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - begun)
    rates = {name: images / statistics.median(times) for name, times in seconds.items()}
    for name, rate in rates.items():
        print(f"{name:12} {rate:8.2f} images a second")
    ratios = [a / b for a, b in zip(seconds["bare engine"], seconds["evaluation"], strict=True)]
    print(
        f"engine busy  {statistics.median(ratios):8.1%} (median of {rounds}, {detector.precision})"
    )


def watch(folder: Path, numbers: list[int]) -> None:
    """Print the peak memory of evaluations of so many images."""
    source = pictures(folder / "source", 40, side=224)
    for number in numbers:
        data = folder / f"of-{number}"
        for kind in ("real", "fake"):
            (data / kind).mkdir(parents=True)
            files = sorted((source / kind).iterdir())
            for count in range(number // 2):
                os.link(files[count % len(files)], data / kind / f"{count:07}")
        begun = time.perf_counter()
        command = [sys.executable, __file__, "peak", "--folder", str(data)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - begun
        print(f"{number:>8,} images: peak {done.stdout.strip()} MiB, {seconds:.0f} s", flush=True)
        shutil.rmtree(data)


def print_peak(data: Path) -> None:
    """Evaluate with the starter as the command line does, and print the peak memory in MiB."""
    from d3.entrypoints.cli import main as d3

    out = data / "out"
    os.environ["D3_HOME"] = str(data / "home")
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        d3(["evaluate", str(data / "real"), str(data / "fake"), "--out", str(out)])
    except SystemExit as leaving:
        if leaving.code:
            raise
    os.dup2(stdout, 1)
    print(f"{1024 * (peak_gib() or 0):.0f}")


def pictures(folder: Path, count: int, *, side: int) -> Path:
    """JPEG files of smooth noise, half of them called fake."""
    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / ("fake" if number % 2 else "real")
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(place / f"{number}.jpg")
    return folder


class OneModel(MemoryRegistry):
    """A registry that has this model."""

    def __init__(self, model: StoredModel) -> None:
        super().__init__()
        self._model = model

    def open(self, name: str, version: int | None = None) -> StoredModel:
        return self._model


if __name__ == "__main__":
    main()
