"""Which device and precision: what was asked for, what is here, a word where they differ."""

from __future__ import annotations

import warnings
from typing import Literal

import torch

from d3.domain.errors import DeviceUnavailable

Precision = Literal["auto", "fp32", "fp16", "bf16"]

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


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
            f"CUDA_DEVICE={number}, but this machine offers no CUDA device: the CPU serves. "
            "Set CUDA_DEVICE=cpu to say that this is meant.",
            RuntimeWarning,
            stacklevel=2,
        )
        return torch.device("cpu")
    if number >= count:
        there = ", ".join(f"{n} ({torch.cuda.get_device_name(n)})" for n in range(count))
        raise DeviceUnavailable(
            f"CUDA_DEVICE={number} is not on this machine; there is {there}.",
            "Set CUDA_DEVICE to one of them, or to cpu.",
        )
    return torch.device("cuda", number)


def choose_precision(asked: Precision, device: torch.device) -> Literal["fp32", "fp16", "bf16"]:
    """The precision of the encoder; the head always runs in float32.

    ``auto`` is bfloat16 on a GPU that has it, float16 on an older one, and float32 on the CPU,
    where scores then agree with the published code's to 1e-4.
    """
    if asked != "auto":
        if asked == "fp16" and device.type == "cpu":
            warnings.warn(
                "Half precision (fp16) brings nothing on the CPU: fp32 serves. "
                "D3_PRECISION=bf16 is the fast choice there.",
                RuntimeWarning,
                stacklevel=2,
            )
            return "fp32"
        return asked
    if device.type == "cpu":
        return "fp32"
    return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
