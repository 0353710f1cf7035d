"""Intervals of 95 % in closed form: of a share, and of a distance that chi-squared measures."""

from __future__ import annotations

import math
from statistics import NormalDist

_Z = NormalDist().inv_cdf(0.975)


def wilson(hits: float, total: int) -> tuple[float, float]:
    """The interval of a share (Wilson, 1927), valid also where none or all were hit."""
    if not total:
        return math.nan, math.nan
    z2 = _Z**2
    share = hits / total
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    reach = math.sqrt(z2 * (share * (1 - share) / total + z2 / (4 * total**2))) / (1 + z2 / total)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def excess(seen: float, freedom: int) -> tuple[float, float]:
    """The interval of the noncentrality of a chi-squared variable of which one value was seen.

    It is how far the value goes beyond what chance alone would give. Both ends are 0 for a value
    that is small even for chance.

    Args:
        seen: the value, from 0.
        freedom: degrees of freedom, from 1.
    """
    return _noncentrality(seen, freedom, 0.975), _noncentrality(seen, freedom, 0.025)


def _noncentrality(seen: float, freedom: int, chance: float) -> float:
    """That at which a value is so high with this chance; 0 where it is lower at every one."""
    if _at_most(seen, freedom, 0.0) <= chance:
        return 0.0
    low, high = 0.0, 1.0
    while _at_most(seen, freedom, high) > chance:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(seen, freedom, middle) > chance else (low, middle)
    return high


def _at_most(value: float, freedom: int, noncentrality: float) -> float:
    """The noncentral chi-squared distribution function, as Sankaran (1963) approximates it."""
    k, n = freedom, noncentrality
    h = 1 - 2 / 3 * (k + n) * (k + 3 * n) / (k + 2 * n) ** 2
    p = (k + 2 * n) / (k + n) ** 2
    m = (h - 1) * (1 - 3 * h)
    mean = 1 + h * p * (h - 1 - (2 - h) * m * p / 2)
    deviation = h * math.sqrt(2 * p) * (1 + m * p / 2)
    return NormalDist().cdf(((value / (k + n)) ** h - mean) / deviation)
