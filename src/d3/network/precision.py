"""Precisions, and which of them a device computes natively."""

from __future__ import annotations

import torch

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def arithmetics(device: str) -> list[str]:
    """The precisions that a device (``"cpu"``, ``"cuda:0"``) computes natively, bfloat16 last."""
    if device != "cpu":
        return ["fp32", "fp16", "bf16"]
    return ["fp32", "bf16"] if processor_has_bfloat16() else ["fp32"]


def processor_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 natively."""
    read = getattr(torch.cpu, "get_capabilities", None)
    if read is None:  # an older torch, which at least answers right
        return True
    capabilities = read()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def mkl_is_quicker(dtype: torch.dtype) -> bool:
    """Whether plain products beat packed ones on the CPU.

    On AVX2, MKL's float32 kernels are a tenth quicker than oneDNN's; see benchmarks/RESULTS.md.
    """
    narrow = torch.backends.cpu.get_cpu_capability() == "AVX2"
    mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return mkl and narrow and dtype == torch.float32
