"""How many threads and encodings at once suit a CPU."""

from __future__ import annotations

from d3.domain.models import EncoderSpec

_WORTH_A_THREAD = 2e9
_CACHE_BYTES = 8 * 2**20
_FLOAT32_BYTES = 4


def worthwhile_threads(spec: EncoderSpec) -> int:
    """Threads that an encoder of this size keeps busy, 1 or more; see :func:`threads_for`."""
    return threads_for(spec.operations)


def threads_for(operations: int) -> int:
    """Threads that a network of so many floating-point operations keeps busy, 1 or more.

    Threads synchronise after every product. Where a product takes microseconds and another process
    uses one of the cores, every synchronisation waits for the system's scheduler, and two threads
    are many times slower than one.
    """
    return max(1, int(operations / _WORTH_A_THREAD))


def encodings_at_once(spec: EncoderSpec) -> int:
    """Encodings that share a forward pass: as many as fit the cache, at least 2.

    More gain nothing: the widest layer would no longer fit the cache.
    """
    widest = (spec.patches + 1) * spec.mlp_width * _FLOAT32_BYTES
    return max(2, _CACHE_BYTES // widest)
