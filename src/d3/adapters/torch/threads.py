"""Fewer threads of torch for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
