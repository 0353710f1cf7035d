"""What OpenVINO is told, when it compiles and when it reads back what it compiled."""

from __future__ import annotations

import os
from typing import Any

PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16"}
"""OpenVINO's names of our precisions."""


def compile_options(precision: str, threads: int) -> dict[str, Any]:
    """Options of the CPU device for one caller at a time.

    Args:
        precision: ``"fp32"`` or ``"bf16"``.
        threads: at most; never more than this process may use.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "EXECUTION_MODE_HINT": "PERFORMANCE",
        "INFERENCE_NUM_THREADS": max(1, min(threads, available or 1)),
        # Other processes live on these cores too.
        "ENABLE_CPU_PINNING": False,
    }
