from __future__ import annotations

import math

import pytest

from d3.domain.intervals import excess, wilson


@pytest.mark.parametrize(
    ("hits", "total", "expected"),
    [(0, 10, (0.0, 0.2775)), (10, 10, (0.7225, 1.0)), (5, 10, (0.2366, 0.7634))],
)
def test_a_share_has_wilsons_interval(hits: int, total: int, expected: tuple[float, float]) -> None:
    assert wilson(hits, total) == pytest.approx(expected, abs=1e-4)
    assert all(map(math.isnan, wilson(0, 0)))


# Computed with scipy.stats.ncx2 1.17.1, by a search for the noncentrality at which its `cdf` of the
# value is 0.975 and 0.025.
@pytest.mark.parametrize(
    ("value", "freedom", "low", "high"),
    [
        (4, 1, 0.0, 15.681),
        (12, 5, 0.0, 24.38),
        (30, 9, 6.035, 45.951),
        (400, 9, 317.846, 473.856),
        (25000, 15, 24370.133, 25609.55),
    ],
)
def test_how_far_a_chi_squared_value_goes_beyond_chance_is_as_scipy_has_it(
    value: float, freedom: int, low: float, high: float
) -> None:
    assert excess(value, freedom) == pytest.approx((low, high), rel=0.01, abs=0.02)


def test_a_value_that_is_small_even_for_chance_goes_nowhere_beyond_it() -> None:
    assert excess(1.5, 9) == (0.0, 0.0)
