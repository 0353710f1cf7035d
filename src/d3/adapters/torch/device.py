"""Which device, precision and threads: what was asked for, what is here, where they differ."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from d3.domain.errors import DeviceUnavailable
from d3.network.precision import processor_has_bfloat16

Precision = Literal["auto", "fast", "fp32", "fp16", "bf16"]

_AMPERE = (8, 0)


def choose_device(asked: int | Literal["cpu"] | None) -> torch.device:
    """The device for ``CUDA_DEVICE``: a number, ``"cpu"``, or None for the first GPU, else the CPU.

    A number on a machine without CUDA is a warning and the CPU, so that the prototype's ``.env``
    starts everywhere.

    Raises:
        DeviceUnavailable: there are GPUs, but none of that number.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "cpu" or (asked is None and count == 0):
        return torch.device("cpu")
    number = 0 if asked is None else asked
    if count == 0:
        warnings.warn(
            f"CUDA_DEVICE={number}, but this machine has no CUDA device, so D3 uses the CPU. Set "
            "CUDA_DEVICE=cpu to hide this warning.",
            RuntimeWarning,
            stacklevel=2,
        )
        return torch.device("cpu")
    if number >= count:
        there = ", ".join(f"{n} ({torch.cuda.get_device_name(n)})" for n in range(count))
        raise DeviceUnavailable(
            f"CUDA_DEVICE={number} does not exist on this machine. It has {there}.",
            "Set CUDA_DEVICE to one of them, or to cpu.",
        )
    return torch.device("cuda", number)


def choose_precision(asked: Precision, device: torch.device) -> Literal["fp32", "fp16", "bf16"]:
    """The precision of the encoder; the head always runs in float32.

    ``auto`` and ``fast`` are bfloat16 on a GPU that has it, float16 on an older one, and float32 on
    the CPU, where scores then agree with the published code's to 1e-4; what else is quicker there
    is measured (:class:`d3.domain.services.engines.MeasuredEngine`). What the device cannot do is a
    warning and the next best.
    """
    if device.type == "cpu":
        if asked == "fp16":
            _warn(
                "Half precision (fp16) is not faster on the CPU, so D3 uses fp32. "
                "D3_PRECISION=fast uses what is quickest on this CPU."
            )
        elif asked == "bf16" and not processor_has_bfloat16():
            _warn(
                "This CPU has no bfloat16 arithmetic, so D3 uses fp32, which is faster on it. "
                "Leave D3_PRECISION unset to hide this warning."
            )
        elif asked == "bf16":
            return "bf16"
        return "fp32"
    has_bfloat16 = torch.cuda.get_device_capability(device) >= _AMPERE
    if asked == "bf16" and not has_bfloat16:
        _warn(
            f"{device} has no bfloat16 arithmetic, so D3 uses fp16. Set D3_PRECISION=fp16 to hide "
            "this warning."
        )
        return "fp16"
    if asked == "auto" or asked == "fast":  # noqa: PLR1714  mypy understands this
        return "bf16" if has_bfloat16 else "fp16"
    return asked


@contextmanager
def at_most(threads: int) -> Iterator[None]:
    """Let torch use fewer threads than it would; never more, and as before afterwards."""
    before = torch.get_num_threads()
    if threads >= before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _warn(sentence: str) -> None:
    warnings.warn(sentence, RuntimeWarning, stacklevel=3)
