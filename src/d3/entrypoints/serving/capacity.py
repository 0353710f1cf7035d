"""What this machine has room for: processes, and engines for its devices."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from d3.domain.errors import D3Error
from d3.domain.machine import free_memory
from d3.entrypoints.serving.shares import GPU_FILES
from d3.settings import Settings

FRONT_BYTES = 64 * 2**20
"""Memory of a front that is its own alone, while it does nothing."""
_DESCRIPTORS = 64
_DESCRIPTORS_OF_ONE = 4
_COUNT = "import torch; print(torch.cuda.device_count())"


class WorkersTooMany(D3Error):
    """The system has no room for so many processes."""

    code = "too_many_workers"


def check_room(workers: int, engines: int) -> None:
    """See that there is room for so many processes, before the first one starts.

    Raises:
        WorkersTooMany: there is not.
    """
    wanted = _DESCRIPTORS + _DESCRIPTORS_OF_ONE * (workers + engines)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise WorkersTooMany(
            f"{workers} workers need {wanted} file descriptors, and this process may have {hard}.",
            "Use fewer workers, or raise the limit (ulimit -n).",
        )
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    free = free_memory()
    if free is not None and workers * FRONT_BYTES > free:
        raise WorkersTooMany(
            f"{workers} workers need {workers * FRONT_BYTES // 2**20:,} MiB of memory, and "
            f"{free // 2**20:,} MiB are free.",
            "Use fewer workers.",
        )


def devices(settings: Settings) -> list[int | None]:
    """The number of each GPU that gets an engine; None alone if it is left to the one engine."""
    has_one = settings.cuda_device is None and any(Path(one).exists() for one in GPU_FILES)
    if not has_one or settings.engine == "openvino":
        return [None]
    # In a process of its own: torch has threads, and this process is going to be forked.
    asked = subprocess.run(
        [sys.executable, "-P", "-c", _COUNT], capture_output=True, text=True, check=False
    )
    number = int(asked.stdout) if asked.stdout.strip().isdigit() else 0
    return list(range(number)) or [None]
