"""Training's two parts, apart: an epoch of the head on kept features, and the features themselves.

::

    python benchmarks/train.py [IMAGES]

The head is ViT-L/14's (width 1024) on random features of 20,000 images unless said; features are
computed for 64 rendered photographs with the starter's encoder. Nothing is asserted.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from d3.container import STARTER_FOLDER, Container
from d3.evaluation.dataset import Item
from d3.network import DiscrepancyHead
from d3.network.checkpoints import load_network
from d3.settings import Settings
from d3.training.paper.augmentation import Changes
from d3.training.paper.features import Extractor, prepare
from d3.training.paper.fit import PaperPlan, fit_epoch
from d3.training.starter.pairs import photograph_scene

WIDTH = 1024


def head(images: int, folder: Path) -> float:
    """Seconds of an epoch."""
    file = folder / "features.npy"
    prepare(file, images, WIDTH)
    kept = np.load(file, mmap_mode="r+")
    draw = np.random.default_rng(0)
    for start in range(0, images, 1000):
        part = kept[start : start + 1000]
        part[:] = draw.standard_normal(part.shape, dtype=np.float32)
    items = [Item("", bool(number % 2), "", named=True) for number in range(images)]
    learner, plan = DiscrepancyHead(WIDTH), PaperPlan()
    optimiser = torch.optim.AdamW(learner.parameters(), lr=plan.rate)
    begun = time.perf_counter()
    fit_epoch(learner, optimiser, kept, items, plan, 0)
    return time.perf_counter() - begun


def features(count: int, folder: Path) -> float:
    """Images a second through decoding, augmentation and the starter's encoder."""
    settings = Settings(home=folder)
    container = Container(settings=settings)
    manifest = container.registry().describe("starter")
    network = load_network(
        manifest.spec, STARTER_FOLDER / "encoder.safetensors", STARTER_FOLDER / "head.safetensors"
    ).float()
    items = []
    for number in range(count):
        path = folder / f"{number}.jpg"
        Image.fromarray(photograph_scene(3, number % 8, 512)).save(path, quality=90)
        items.append(Item(str(path), fake=False, generator="", named=True))
    file = folder / "some.npy"
    prepare(file, count, manifest.spec.width)
    extractor = Extractor(network, container.decoder(), 0, manifest.permutations[0])
    begun = time.perf_counter()
    extractor.extract(items, file, Changes(), 1)
    return count / (time.perf_counter() - begun)


def main() -> None:
    """Print both."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory() as folder:
        print(f"an epoch of the head, {images:,} images: {head(images, Path(folder)):.1f} s")
        print(f"features, starter: {features(64, Path(folder)):.1f} images/s")


if __name__ == "__main__":
    main()
