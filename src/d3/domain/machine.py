"""The processor and the memory of this machine."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath

_PAIR = re.compile(r"^([^\t:]+)\s*: (.*)$", re.MULTILINE)
CPU_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")
_TELLING = ("cpu family", "model", "stepping", "flags", "CPU part", "CPU variant", "Features")


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


@cache
def libraries_of(engine: str) -> str:
    """The versions of the libraries that decide an engine's numbers, such as ``torch 2.15.0``.

    Args:
        engine: as a detector names it.
    """
    found = []
    for name in ("torch", "pillow", *(("openvino",) if engine == "openvino" else ())):
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)


def available_cores() -> int:
    """Cores that this process may use, also by the quota of its container or systemd unit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for group in _groups():
        with suppress(OSError, ValueError):
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
            cores = min(cores or 1, int(quota) // int(period))  # "max": no limit, and no number
    return max(1, cores or 1)


def _groups() -> list[Path]:
    """The control groups whose limits hold for this process: a container's lies at the top."""
    found = [CPU_GROUPS]
    with suppress(OSError, ValueError, StopIteration):
        lines = OWN_GROUP.read_text(encoding="utf-8").splitlines()
        own = PurePosixPath(next(one for one in lines if one.startswith("0::")).removeprefix("0::"))
        if ".." not in own.parts:  # a group outside of what is mounted here
            found += [CPU_GROUPS.joinpath(*one.parts[1:]) for one in (own, *own.parents)][:-1]
    return found


def free_memory() -> int | None:
    """Bytes that this machine or container has left; None where the system does not say."""
    found: list[int] = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(next(int(one.split()[1]) for one in lines if "MemAvailable" in one) * 1024)
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text(encoding="ascii"))  # "max": no limit
        found.append(most - int((group / "memory.current").read_text(encoding="ascii")))
    return min(found, default=None)
