"""How many threads a forward pass is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from d3.domain.models import EncoderSpec

_WORTH_A_THREAD = 2e9
"""Operations of one encoding that keep a thread busy long enough; measured, see RESULTS.md.

Threads meet after every product. Where a product takes microseconds and another process holds one
of the cores, every meeting waits for that core's scheduler, and two threads are many times slower
than one.
"""


def worthwhile_threads(spec: EncoderSpec) -> int:
    """Threads of torch at most for an encoder of this size, 1 or more."""
    return max(1, int(spec.operations / _WORTH_A_THREAD))


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
