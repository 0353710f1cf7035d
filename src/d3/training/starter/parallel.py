"""Two threads on two cores, each of which runs torch on one core.

The networks here are so small that splitting one operation over cores gains little, and sums
that one core adds up are the same however many cores there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from d3.network.precision import processor_has_bfloat16


def in_bfloat16() -> torch.autocast:
    """Return a context in which torch multiplies in bfloat16, about twice as fast.

    In float32 on a processor that only imitates bfloat16, where the whole of a quick rendering
    took four times as long; what is made there differs in its rounding.

    Its cache of converted weights is shared by all threads, each of which empties it: whether a
    weight is converted once or twice, and so how its gradient is rounded, would be chance.
    """
    return torch.autocast(
        "cpu", dtype=torch.bfloat16, cache_enabled=False, enabled=processor_has_bfloat16()
    )


def two_at_a_time() -> ThreadPoolExecutor:
    """Return a pool of two threads that run torch on one core each."""
    return ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,))


@contextmanager
def one_core_each() -> Iterator[None]:
    """Let torch use one core per thread for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
