"""Measuring: medians of rounds in turns, the machine's own rate, memory."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from d3.domain import machine
from d3.domain.images import Pixels
from d3.domain.models import EncoderSpec, Manifest, StoredModel, file_of
from d3.network import PLAIN, DiscrepancyHead, Encoder, draw_permutations
from d3.network.checkpoints import load_network, write_tensors
from d3.network.encoder import normalise
from d3.network.precision import DTYPES, arithmetics

SHAPES = {
    "vit-l-14": EncoderSpec(),
    "vit-b-16": EncoderSpec(patch_size=16, width=768, layers=12, heads=12, mlp_width=3072),
    "vit-b-32": EncoderSpec(patch_size=32, width=768, layers=12, heads=12, mlp_width=3072),
}
"""Encoders of CLIP's family that can be measured with random weights."""
_SECONDS, _MOST_ROUNDS = 1.0, 20


def published_procedure(
    model: StoredModel, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Callable[[Pixels], Tensor]:
    """Logits (n) of uint8 pixels (n, S, S, 3) as the authors' code computes them.

    Two forward passes through open_clip's modules, the second on images whose patches were
    shuffled in pixel space with one new permutation a batch.
    """
    spec = model.manifest.encoder_spec
    network = load_network(spec, model.encoder, model.head, tricks=PLAIN).to(device)
    network.encoder.to(dtype)
    network.head.float()
    encoder, side = network.encoder, spec.patch_size

    @torch.inference_mode()
    def score(pixels: Pixels) -> Tensor:
        images = normalise(torch.from_numpy(pixels).to(device))
        patches = torch.nn.functional.unfold(images, side, stride=side)
        order = torch.randperm(patches.shape[2], device=device)
        shuffled = torch.nn.functional.fold(
            patches[:, :, order], images.shape[-2:], side, stride=side
        )
        features = [
            encoder.encode(encoder.conv1(one.to(dtype)).flatten(2).mT).float()
            for one in (shuffled, images)
        ]
        logits: Tensor = network.head(*features)
        return logits

    return score


def random_model(folder: Path, name: str, spec: EncoderSpec) -> StoredModel:
    """A model of this shape with random weights and 16 permutations, stored in the folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder, head = Encoder(spec), DiscrepancyHead(spec.width)
        # As wide apart as a trained head's, so that a drift of the features shows in the logits.
        torch.nn.init.normal_(head.fc.weight, std=0.05)
    write_tensors(folder / "encoder.safetensors", encoder.state_dict())
    write_tensors(folder / "head.safetensors", head.state_dict())
    return stored_model(folder, name, spec)


def stored_model(folder: Path, name: str, spec: EncoderSpec) -> StoredModel:
    """The model of :func:`random_model` that lies in the folder."""
    encoder, head = folder / "encoder.safetensors", folder / "head.safetensors"
    manifest = Manifest(
        name=name,
        version=1,
        spec=spec,
        encoder=file_of(encoder),
        head=file_of(head),
        permutations=draw_permutations(0, 16, spec.patches),
        provenance="random weights, for measuring",
    )
    return StoredModel(manifest, {"encoder": encoder, "head": head})


Say = Callable[[str], None]


def in_turns(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    say: Say = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each contestant, who take turns so that a noisy machine is noisy for all.

    One more round before the others warms up. Short rounds are repeated for a second.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    lap, until = 0, math.inf
    while lap <= rounds or (lap <= _MOST_ROUNDS and clock() < until):
        for name, run in contestants.items():
            say(f"{name}, round {lap}" if lap else f"{name}, warming up")
            begun = clock()
            run()
            if lap:
                seconds[name].append(clock() - begun)
        if not lap:
            until = clock() + _SECONDS
        lap += 1
    return {name: statistics.median(measured) for name, measured in seconds.items()}


def matmul_rates(
    device: str = "cpu", rounds: int = 5, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Floating-point operations a second of torch's matrix product, by precision.

    A precision that the device only imitates is left out: one product would take minutes.
    """
    cuda = device != "cpu"
    side = 8192 if cuda else 2048
    rates = {}
    for name in arithmetics(device):
        dtype = DTYPES[name]
        one = torch.randn(side, side, device=device).to(dtype)
        other = torch.randn(side, side, device=device).to(dtype)

        def multiply(one: torch.Tensor = one, other: torch.Tensor = other) -> None:
            torch.mm(one, other)
            if cuda:
                torch.cuda.synchronize()

        taken = in_turns({name: multiply}, max(rounds, 5), clock=clock)[name]
        rates[name] = 2 * side**3 / taken
    return rates


def operations(spec: EncoderSpec, views: int = 1) -> int:
    """Operations that an image costs: every branch encoded in full, the head left out."""
    return (1 + views) * spec.operations


def random_pixels(side: int, count: int) -> Pixels:
    """Noise, uint8 (n, side, side, 3)."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def peak_gib() -> float | None:
    """The most memory this process has held, in GiB; None where the system does not tell.

    Not ``ru_maxrss``, which a child inherits from the parent that started it.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 2**20


def processor() -> str:
    """The processor's name and how many of its cores torch uses."""
    threads = min(torch.get_num_threads(), machine.available_cores())
    return f"{machine.processor()['name']}, {threads} threads"
