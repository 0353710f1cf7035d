"""The result cache in memory keeps what fits and forgets the rest."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace

import numpy as np

from d3.adapters.in_process import MemoryResultCache
from d3.domain.ports.history import CacheKey, ResultCache

KEY = CacheKey("a" * 64, "b" * 64, 4, "torch", "fp32")


def key(n: int) -> CacheKey:
    return replace(KEY, image_sha256=f"{n:064x}")


def test_logits_come_back_as_plain_numbers():
    cache: ResultCache = MemoryResultCache()
    cache.put(KEY, np.array([1.5, -2.25]))
    assert cache.get(KEY) == (1.5, -2.25)
    assert all(type(logit) is float for logit in cache.get(KEY) or ())


def test_everything_that_decides_a_logit_tells_entries_apart():
    cache = MemoryResultCache()
    cache.put(KEY, [1.0])
    for change in (
        {"image_sha256": "c" * 64},
        {"model_sha256": "c" * 64},
        {"views": 3},
        {"engine": "openvino"},
        {"precision": "bf16"},
    ):
        assert cache.get(replace(KEY, **change)) is None


def test_what_was_not_asked_for_longest_is_forgotten():
    cache = MemoryResultCache(entries=2)
    cache.put(key(1), [1.0])
    cache.put(key(2), [2.0])
    cache.get(key(1))
    cache.put(key(3), [3.0])
    assert [cache.get(key(n)) for n in (1, 2, 3)] == [(1.0,), None, (3.0,)]


def test_no_entries_means_off():
    cache = MemoryResultCache(entries=0)
    cache.put(KEY, [1.0])
    assert cache.get(KEY) is None


def test_bytes_are_bounded_too():
    cache = MemoryResultCache(size_bytes=10_000)
    for n in range(1000):
        cache.put(key(n), [1.0] * 16)
    assert 0 < cache.size_bytes <= 10_000
    assert cache.get(key(999)) is not None
    MemoryResultCache(size_bytes=1).put(KEY, [1.0])


def test_the_estimate_of_an_entry_errs_on_the_high_side():
    one = key(1)
    logits = tuple(float(n) + 0.5 for n in range(16))
    parts = [one, one.image_sha256, one.model_sha256, logits, *logits]
    cache = MemoryResultCache()
    cache.put(one, logits)
    # Beside the parts: the key's place in each of the cache's two dictionaries.
    assert cache.size_bytes >= sum(map(sys.getsizeof, parts)) + 2 * 104


def test_threads_may_share_it():
    cache = MemoryResultCache(entries=50)

    def work(start: int) -> None:
        for n in range(2000):
            cache.put(key((start + n) % 100), [float(n)])
            cache.get(key(n % 100))

    threads = [threading.Thread(target=work, args=(n * 7,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache) == 50
    cache.close()
    assert len(cache) == 0
