"""What fits a processor: threads that are worth it, and encodings that share its cache."""

from __future__ import annotations

from d3.domain.models import EncoderSpec

_WORTH_A_THREAD = 2e9
_CACHE_BYTES = 8 * 2**20
_FLOAT32_BYTES = 4


def worthwhile_threads(spec: EncoderSpec) -> int:
    """Threads that an encoder of this size keeps busy, 1 or more.

    Threads meet after every product. Where a product takes microseconds and another process holds
    one of the cores, every meeting waits for the system's scheduler, and two threads are many times
    slower than one.
    """
    return max(1, int(spec.operations / _WORTH_A_THREAD))


def encodings_at_once(spec: EncoderSpec) -> int:
    """Encodings that share a forward pass: as many as fit the cache, 2 at least.

    More gain nothing: the widest layer then goes out to memory and back.
    """
    widest = (spec.patches + 1) * spec.mlp_width * _FLOAT32_BYTES
    return max(2, _CACHE_BYTES // widest)
