"""What this process does by itself: the clock, and a result cache of limited size."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from cachetools import LRUCache

from d3.domain.ports.history import CacheKey


class SystemClock:
    """Implements ``Clock``."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.perf_counter()


_ENTRY_BYTES = 700
"""A key's two hashes and words and the cache's own bookkeeping, measured and rounded up."""
_LOGIT_BYTES = 32


class MemoryResultCache:
    """Implements ``ResultCache``; drops the least recently used results.

    Args:
        entries: the most that are kept; 0 keeps none.
        size_bytes: the most that they take, by an estimate on the high side.
    """

    def __init__(self, entries: int = 10_000, size_bytes: int = 16 * 2**20) -> None:
        self._entries = entries
        self._kept: LRUCache[CacheKey, tuple[float, ...]] = LRUCache(size_bytes, _size)
        self._lock = threading.Lock()

    @property
    def trouble(self) -> None:
        """None: there is no server that could be away."""

    @property
    def failures(self) -> int:
        return 0

    def get(self, key: CacheKey) -> tuple[float, ...] | None:
        with self._lock:
            return self._kept.get(key)

    def put(self, key: CacheKey, logits: Sequence[float]) -> None:
        value = tuple(map(float, logits))
        with self._lock:
            if _size(value) > self._kept.maxsize:
                return
            self._kept[key] = value
            while len(self._kept) > self._entries:
                self._kept.popitem()

    def close(self) -> None:
        with self._lock:
            self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        """The estimated size."""
        return int(self._kept.currsize)


def _size(logits: tuple[float, ...]) -> int:
    return _ENTRY_BYTES + _LOGIT_BYTES * len(logits)
