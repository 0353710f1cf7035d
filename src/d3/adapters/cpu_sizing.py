"""What this CPU is, and how many threads and encodings at once suit it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from d3.domain.models import EncoderSpec

_PAIR = re.compile(r"^([^\t:]+)\s*: (.*)$", re.MULTILINE)
_TELLING = ("cpu family", "model", "stepping", "flags", "CPU part", "CPU variant", "Features")
_WORTH_A_THREAD = 2e9
_CACHE_BYTES = 8 * 2**20
_FLOAT32_BYTES = 4


def worthwhile_threads(spec: EncoderSpec) -> int:
    """Threads that an encoder of this size keeps busy, 1 or more.

    Threads synchronise after every product. Where a product takes microseconds and another process
    uses one of the cores, every synchronisation waits for the system's scheduler, and two threads
    are many times slower than one.
    """
    return max(1, int(spec.operations / _WORTH_A_THREAD))


def encodings_at_once(spec: EncoderSpec) -> int:
    """Encodings that share a forward pass: as many as fit the cache, at least 2.

    More gain nothing: the widest layer would no longer fit the cache.
    """
    widest = (spec.patches + 1) * spec.mlp_width * _FLOAT32_BYTES
    return max(2, _CACHE_BYTES // widest)


@cache
def processor() -> Mapping[str, str]:
    """What the system says of the processor: its name, and what tells it from others of the name.

    Virtual machines call many processors the same.
    """
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        first = ""
    said = dict(_PAIR.findall(first))
    name = said.get("model name") or platform.processor() or platform.machine()
    return {"name": name} | {one: said[one] for one in _TELLING if one in said}


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
