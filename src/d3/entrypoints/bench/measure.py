"""Measuring: medians of rounds in turns, the machine's own rate, memory."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from d3.domain.images import Pixels
from d3.domain.models import EncoderSpec
from d3.network.precision import DTYPES, arithmetics

Say = Callable[[str], None]


def in_turns(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    say: Say = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each contestant, who take turns so that a noisy machine is noisy for all.

    One more round before the others warms up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for lap in range(rounds + 1):
        for name, run in contestants.items():
            say(f"{name}, round {lap} of {rounds}" if lap else f"{name}, warming up")
            begun = clock()
            run()
            if lap:
                seconds[name].append(clock() - begun)
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


def random_pixels(spec: EncoderSpec, count: int) -> Pixels:
    """Noise, uint8 (n, S, S, 3)."""
    side = spec.image_size
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
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    name = named[0] if named else platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads"
