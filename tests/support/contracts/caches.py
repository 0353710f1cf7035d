"""What a result cache promises."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from d3.domain.ports.history import CacheKey, ResultCache

KEY = CacheKey("a" * 64, "b" * 64, 2, "torch", "fp32")


class ResultCacheContract:
    """Override :meth:`cache` with one that holds nothing under the keys used here."""

    @pytest.fixture
    def cache(self) -> ResultCache:
        """The cache under test, empty."""
        raise NotImplementedError

    def test_what_was_never_put_is_not_known(self, cache: ResultCache) -> None:
        assert isinstance(cache, ResultCache)
        assert cache.trouble is None
        assert cache.failures == 0
        assert cache.get(KEY) is None

    @pytest.mark.parametrize(
        "logits", [[1.5, -2.25], [0.1, 1e-300], [-0.0, 1e300], [2**-1074, 1 / 3]]
    )
    def test_logits_come_back_to_the_last_bit(
        self, cache: ResultCache, logits: list[float]
    ) -> None:
        cache.put(KEY, logits)
        found = cache.get(KEY)
        assert found is not None
        assert [one.hex() for one in found] == [one.hex() for one in logits]

    def test_arrays_come_back_as_plain_numbers(self, cache: ResultCache) -> None:
        cache.put(KEY, np.array([1.5, -2.25]))  # type: ignore[arg-type]
        found = cache.get(KEY)
        assert found == (1.5, -2.25)
        assert [type(one) for one in found] == [float, float]

    @pytest.mark.parametrize(
        "change",
        [
            {"image_sha256": "c" * 64},
            {"model_sha256": "c" * 64},
            {"views": 3},
            {"engine": "openvino"},
            {"precision": "bf16"},
        ],
    )
    def test_all_that_decides_a_logit_tells_entries_apart(
        self, cache: ResultCache, change: dict[str, Any]
    ) -> None:
        cache.put(KEY, [1.0, 2.0])
        assert cache.get(replace(KEY, **change)) is None

    def test_the_last_put_counts(self, cache: ResultCache) -> None:
        cache.put(KEY, [1.0, 2.0])
        cache.put(KEY, [3.0, 4.0])
        assert cache.get(KEY) == (3.0, 4.0)

    def test_threads_may_share_it(self, cache: ResultCache) -> None:
        def work(number: int) -> bool:
            key = replace(KEY, image_sha256=f"{number:064x}")
            cache.put(key, [float(number), -float(number)])
            return cache.get(key) == (number, -number)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(200)))
