"""What a second opinion costs: panels beside the chief alone.

``python benchmarks/panel.py [--images 4] [--rounds 7]``: a D3 of ViT-L/14's size, a FerretNet-S and
a UniversalFakeDetect on the D3's encoder, all with random weights. In each round every panel judges
the same files; what counts is the median of the rounds' ratios to the chief alone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from stability import pictures

import d3
from d3.adapters.filesystem.registry import FilesystemRegistry
from d3.domain.inputs import Fit, InputSpec
from d3.domain.models import Manifest, StoredModel, file_of
from d3.entrypoints.bench.measure import SHAPES, processor, random_model
from d3.network import FerretNet
from d3.network.checkpoints import write_tensors
from d3.testing.models import tiny_ufd

CHIEF, FERRET, PROBE = "chief", "ferretnet-s", "ufd"
PANELS = {
    "D3 alone": [CHIEF],
    "D3, FerretNet-S": [CHIEF, FERRET],
    "D3, UFD": [CHIEF, PROBE],
    "all three": [CHIEF, FERRET, PROBE],
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--shape", choices=SHAPES, default="vit-l-14")
    arguments.add_argument("--images", type=int, default=4)
    arguments.add_argument("--rounds", type=int, default=7)
    chosen = arguments.parse_args()
    print(processor())
    with tempfile.TemporaryDirectory() as folder:
        store(Path(folder), chosen.shape)
        with d3.D3(d3.Settings(home=Path(folder), model=CHIEF, cuda_device="cpu")) as detector:
            measure(detector, chosen.rounds, chosen.images)


def store(home: Path, shape: str) -> None:
    """Put the three models into the registry of a home."""
    registry = FilesystemRegistry(home / "models")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chief = random_model(folder, CHIEF, SHAPES[shape])
        for one in (chief, ferret(folder), tiny_ufd(folder, PROBE, beside=chief)):
            registry.put(one)


def ferret(folder: Path) -> StoredModel:
    """A FerretNet of the published size s."""
    file = folder / "network.safetensors"
    network = FerretNet(32, [2, 2])
    tensors = network.state_dict().items()
    write_tensors(file, {name: one for name, one in tensors if one.is_floating_point()})
    manifest = Manifest(
        name=FERRET,
        version=1,
        architecture="ferretnet",
        input=InputSpec(256, Fit.CROP),
        config={"dim": 32, "depths": [2, 2], "window": 3},
        parts={"network": file_of(file)},
    )
    return StoredModel(manifest, {"network": file})


def measure(detector: d3.D3, rounds: int, images: int) -> None:
    """Print each panel's seconds an image, one by one and many, beside the chief alone."""
    ways: dict[str, Callable[[Sequence[bytes], list[str]], object]] = {
        "one by one": lambda files, panel: [detector.detect(one, panel=panel) for one in files],
        "many": lambda files, panel: list(detector.detect_many(files, panel=panel)),
    }
    for way, judge in ways.items():
        for panel in PANELS.values():
            judge(pictures(2, 0), panel)
        seconds: dict[str, list[float]] = {name: [] for name in PANELS}
        for turn in range(rounds):
            files = pictures(images, 1 + turn)
            for name, panel in PANELS.items():
                begun = time.perf_counter()
                judge(files, panel)
                seconds[name].append((time.perf_counter() - begun) / images)
        alone = seconds["D3 alone"]
        for name, times in seconds.items():
            ratios = [one / other for one, other in zip(times, alone, strict=True)]
            print(
                f"{way:10} {name:16} {1000 * statistics.median(times):8.1f} ms, "
                f"{statistics.median(ratios):.3f} times"
            )


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
