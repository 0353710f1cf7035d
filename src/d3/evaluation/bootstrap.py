"""Bootstrap intervals and folds, seeded, in bounded memory.

Images are resampled within their stratum (the real or the generated ones of one generator), so
every replicate has as many of each. The draws of a stratum depend on the seed, its number and
the chunk alone: two models, or two groups with common images, see the same replicates, so
differences and means have correct intervals.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from d3.evaluation.metrics import METRICS, Numbers, Sample

_NUMBERS_AT_ONCE = 250_000


def replicates_for(images: int) -> int:
    """How many replicates are drawn: 1000, or fewer for many images, where intervals are narrow."""
    return max(200, min(1000, 20_000_000 // max(images, 1)))


def replicates_at_once(images: int) -> int:
    """How many replicates of that many images make one chunk."""
    return max(1, min(50, _NUMBERS_AT_ONCE // max(images, 1)))


def draws(
    strata: NDArray[np.int64], seed: int, replicates: int, at_once: int
) -> Iterator[NDArray[np.float64]]:
    """How often each image was drawn, chunk by chunk: arrays [at most ``at_once``, n].

    Args:
        strata: [n] the number of each image's stratum.
        seed: of the draws.
        replicates: in all.
        at_once: of one chunk; the same for all that are to be compared.
    """
    members = {int(one): np.flatnonzero(strata == one) for one in np.unique(strata)}
    for chunk, start in enumerate(range(0, replicates, at_once)):
        rows = min(at_once, replicates - start)
        counts = np.empty((rows, len(strata)))
        for stratum, places in members.items():
            rng = np.random.default_rng([seed, stratum, chunk])
            size = len(places)
            drawn = rng.integers(0, size, (at_once, size))[:rows]
            drawn += np.arange(rows)[:, None] * size
            counts[:, places] = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, -1)
        yield counts


def resample(
    sample: Sample,
    strata: NDArray[np.int64],
    *,
    seed: int,
    replicates: int,
    at_once: int,
    weights: Numbers | None = None,
) -> dict[str, Numbers]:
    """Every metric of every replicate: arrays [replicates].

    Args:
        sample: what is measured.
        strata: [n], in the order the sample was given.
        seed: of the draws.
        replicates: how many.
        at_once: see :func:`draws`.
        weights: [n] how much each image counts, beside how often it is drawn.
    """
    chunks = [
        sample.measure(counts if weights is None else counts * weights)
        for counts in draws(strata, seed, replicates, at_once)
    ]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in METRICS}


def interval(values: Numbers) -> tuple[float, float]:
    """The middle 95 % of the replicates' values."""
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def folds(fake: NDArray[np.bool_], count: int, seed: int) -> NDArray[np.int64]:
    """The fold [n] in which each image is held out, at random; both kinds are in every fold."""
    rng = np.random.default_rng([seed, 7])
    fold = np.empty(len(fake), dtype=np.int64)
    for kind in (False, True):
        places = rng.permutation(np.flatnonzero(fake == kind))
        fold[places] = np.arange(len(places)) % count
    return fold
