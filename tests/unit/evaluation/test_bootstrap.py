from __future__ import annotations

import numpy as np

from d3.evaluation.bootstrap import (
    draws,
    interval,
    replicates_at_once,
    replicates_for,
    resample,
)
from d3.evaluation.metrics import Sample

STRATA = np.array([0, 0, 0, 1, 1, 1, 1, 3])


def test_every_replicate_draws_as_many_of_each_stratum() -> None:
    counts = np.concatenate(list(draws(STRATA, seed=1, replicates=25, at_once=10)))
    assert counts.shape == (25, 8)
    for stratum, size in ((0, 3), (1, 4), (3, 1)):
        assert (counts[:, stratum == STRATA].sum(axis=1) == size).all()
    assert len(np.unique(counts, axis=0)) > 10


def test_the_same_stratum_sees_the_same_draws_in_other_company() -> None:
    alone = np.concatenate(list(draws(STRATA[3:7], seed=1, replicates=25, at_once=10)))
    together = np.concatenate(list(draws(STRATA, seed=1, replicates=25, at_once=10)))
    assert np.array_equal(alone, together[:, 3:7])


def test_memory_is_bounded_and_large_samples_are_drawn_less_often() -> None:
    assert replicates_at_once(10) == 50
    assert replicates_at_once(10**6) == 1
    assert [replicates_for(n) for n in (10, 20_000, 50_000, 10**6)] == [1000, 1000, 400, 200]


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """The share above 0 of draws around 0.5 is known; so is how often 95 % should miss it."""
    truth, hits = 0.6914624612740131, 0
    rng = np.random.default_rng(0)
    for trial in range(200):
        fakes = rng.normal(0.5, 1, 100)
        sample = Sample([0, *[1] * 100], [-9.0, *fakes])
        drawn = resample(sample, np.array([0, *[1] * 100]), seed=trial, replicates=300, at_once=50)
        low, high = interval(drawn["accuracy_fake"])
        hits += low <= truth <= high
    assert 180 <= hits <= 199


def test_two_scorings_of_the_same_images_are_compared_replicate_by_replicate() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 300)
    first = rng.normal(size=300) + labels
    options = {"seed": 5, "replicates": 200, "at_once": 50}
    one = resample(Sample(labels, first), labels, **options)["auroc"]
    other = resample(Sample(labels, first + 0.01 * rng.normal(size=300)), labels, **options)
    apart = one - other["auroc"]
    assert apart.std() < 0.2 * one.std()


def test_what_cannot_be_had_has_no_interval() -> None:
    assert all(np.isnan(interval(np.full(9, np.nan))))
