"""Our detector against the published procedure, on ViT-L/14 with random weights, in one run.

    python benchmarks/engine.py [--batches 1 8] [--rounds 5] [--device cpu]

The published procedure is two separate float32 forwards, the second on an image whose patches were
shuffled in pixel space with one new permutation a batch. The contestants take turns in every round,
so that a noisy machine is noisy for all; each figure is the median of the rounds, and what counts
are the ratios. A second process measures the peak memory of one float32 detector.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from d3.adapters.torch import TorchEngine
from d3.domain.hashing import file_of
from d3.domain.models import EncoderSpec, Manifest, StoredModel
from d3.network import D3Network, DiscrepancyHead, Encoder, draw_permutations
from d3.network.checkpoints import write_tensors
from d3.network.encoder import normalise

VIT_L_14 = EncoderSpec()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.memory_of:
        print_peak_memory(chosen.memory_of)
        return
    print(f"{platform.processor() or platform.machine()}, {processor()}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, ViT-L/14, random weights")
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder))
        compare(model, chosen.batches, chosen.rounds)
        command = [sys.executable, __file__, "--memory-of", folder]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="")


def compare(model: StoredModel, batches: list[int], rounds: int) -> None:
    """Print milliseconds an image and the ratio to the published procedure, by batch size."""
    contestants: dict[str, Callable[[np.ndarray], object]] = {
        "published procedure, fp32": published_procedure(model),
        "d3 torch, fp32": detector(model, "fp32"),
        "d3 torch, bf16": detector(model, "bf16"),
    }
    print(f"{'':28}" + "".join(f"{f'batch {n}: ms/image':>20}{'ratio':>8}" for n in batches))
    rows = {name: f"{name:28}" for name in contestants}
    for batch in batches:
        pixels = np.random.default_rng(0).integers(0, 256, (batch, 224, 224, 3), dtype=np.uint8)
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for lap in range(rounds + 1):
            for name, score in contestants.items():
                begun = time.perf_counter()
                score(pixels)
                if lap:  # the first warms up
                    seconds[name].append((time.perf_counter() - begun) / batch)
        baseline = statistics.median(next(iter(seconds.values())))
        for name, measured in seconds.items():
            median = statistics.median(measured)
            rows[name] += f"{1000 * median:20.0f}{baseline / median:8.2f}"
    print("\n".join(rows.values()))


def published_procedure(model: StoredModel) -> Callable[[np.ndarray], Tensor]:
    """Two forwards of the plain encoder, the shuffle in pixel space, as the authors' code does."""
    from d3.network.checkpoints import load_network

    network = load_network(model.manifest.spec, model.encoder, model.head)
    side = model.manifest.spec.patch_size

    @torch.inference_mode()
    def score(pixels: np.ndarray) -> Tensor:
        images = normalise(torch.from_numpy(pixels))
        patches = torch.nn.functional.unfold(images, side, stride=side)
        shuffled = patches[:, :, torch.randperm(patches.shape[2])]
        size = images.shape[-2:]
        shuffled = torch.nn.functional.fold(shuffled, size, side, stride=side)
        features = [plain_features(network, one) for one in (shuffled, images)]
        logits: Tensor = network.head(*features)
        return logits

    return score


def plain_features(network: D3Network, images: Tensor) -> Tensor:
    """The class token of normalised images, embedded and encoded from the start."""
    encoder = network.encoder
    return encoder.encode(encoder.conv1(images).flatten(2).mT)


def detector(model: StoredModel, precision: str) -> Callable[[np.ndarray], object]:
    """Our detector on the CPU."""
    loaded = TorchEngine("cpu", precision).load(model)  # type: ignore[arg-type]
    return lambda pixels: loaded.score(pixels, 1)


def random_model(folder: Path) -> StoredModel:
    """A model of ViT-L/14's size with random weights, stored in the folder."""
    torch.manual_seed(0)
    files = []
    for name, module in (
        ("encoder", Encoder(VIT_L_14)),
        ("head", DiscrepancyHead(VIT_L_14.width)),
    ):
        file = folder / f"{name}.safetensors"
        write_tensors(file, module.state_dict())
        files.append(file)
    return stored(folder)


def stored(folder: Path) -> StoredModel:
    """The model that lies in the folder."""
    encoder, head = folder / "encoder.safetensors", folder / "head.safetensors"
    manifest = Manifest(
        name="random",
        version=1,
        spec=VIT_L_14,
        encoder=file_of(encoder),
        head=file_of(head),
        permutations=draw_permutations(0, 1, VIT_L_14.patches),
    )
    return StoredModel(manifest, encoder, head)


def print_peak_memory(folder: Path) -> None:
    """Load the model in float32, score one image and then eight, and print what it took at most."""
    score = detector(stored(folder), "fp32")
    for batch in (1, 8):
        score(np.zeros((batch, 224, 224, 3), dtype=np.uint8))
        print(f"peak memory of a process, d3 torch, fp32, batch {batch}: {peak_gib():.2f} GiB")


def peak_gib() -> float:
    """The most memory this process has held, in GiB (Linux).

    Not ``ru_maxrss``, which a child inherits from the parent that started it.
    """
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 2**20


def processor() -> str:
    """The processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown processor"
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")


if __name__ == "__main__":
    main()
