"""What a process that decodes untrusted files forbids itself, once it has all that it needs."""

from __future__ import annotations

import sys
from pathlib import Path

_ADDRESSES = 2 * 2**30
"""Address space that threads may reserve without using it."""

_ALL_PAGES, _DATA_PAGES = 0, 5
"""Fields of ``/proc/self/statm``."""


def limit_memory(spare_bytes: int) -> None:
    """Bound what may be allocated and written from here on, where the system can."""
    try:
        import resource
    except ImportError:  # Windows: the parent's timeout remains
        return
    if sys.platform == "linux":
        used = mapped(_DATA_PAGES) + spare_bytes
        reserved = mapped() + spare_bytes + _ADDRESSES
        resource.setrlimit(resource.RLIMIT_DATA, (used, used))
        resource.setrlimit(resource.RLIMIT_AS, (reserved, reserved))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def forbid_opening() -> None:
    """Open no file and no connection any more; those that are open stay."""
    try:
        import os
        import resource
    except ImportError:
        return
    highest = max(os.dup(0), 2)  # the lowest that was free
    os.close(highest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))


def limit_seconds(seconds: int) -> None:
    """The processor's seconds from here on; beyond them the system ends this process.

    So it ends by itself even when its parent is gone.
    """
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def mapped(which: int = _ALL_PAGES) -> int:
    """Bytes of address space that this process has, or of its data; 0 where the system hides it."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[which]
    except OSError:
        return 0
    import resource

    return int(pages) * resource.getpagesize()
