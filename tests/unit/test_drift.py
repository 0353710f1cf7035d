"""Drift: a distance that chance does not move, that the mix does not move, and that change does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from d3.domain.drift import FEWEST_IMAGES, Level, compare, generated_share, level_of, report
from d3.domain.history import Day, VerdictCounts
from d3.domain.labels import Label
from d3.domain.models import ModelFile
from d3.domain.scoring import BINS, Calibration, Measured, Reference, Share, Verdict, histogram
from d3.testing.models import tiny_manifest

START = datetime(2026, 3, 1, tzinfo=UTC)


def drawn(seed: int, images: int, share: float, shift: float = 0.0) -> tuple[int, ...]:
    """Scores of images of which a share is generated; a shift moves the real ones' logits."""
    rng = np.random.default_rng(seed)
    fake = rng.random(images) < share
    logits = rng.normal(np.where(fake, 2.0, -2.0 + shift), 1.5)
    return histogram((1 / (1 + np.exp(-logits))).tolist())


def reference(seed: int = 0, images: int = 1000) -> Reference:
    return Reference(drawn(seed, images, 0.0), drawn(seed + 1, images, 1.0))


def fitted(scores: tuple[int, ...], kept: Reference) -> Share:
    """The index in the mix that fits best."""
    return compare(scores, kept, generated_share(scores, kept))


def a_day(
    scores: tuple[int, ...],
    number: int = 0,
    uncertain: int = 0,
    labelled: Mapping[tuple[Label, Verdict], int] | None = None,
) -> Day:
    return Day(
        start=START + timedelta(days=number),
        scores=scores,
        uncertain=uncertain,
        labelled=labelled or {},
    )


MANIFEST = replace(
    tiny_manifest(ModelFile("0" * 64, 1), ModelFile("1" * 64, 1), "mine"),
    version=3,
    notice="Demo.",
    calibration=Calibration(2.0, -1.0, "newsroom", reference=reference()),
)


def test_the_index_is_the_sum_of_the_formula_less_what_chance_adds() -> None:
    """Two bins in which all lies: the sum by hand, with half an image added to each."""
    kinds = [[0] * BINS, [0] * BINS]
    kinds[0][0], kinds[0][19], kinds[1][0], kinds[1][19] = 900, 100, 100, 900
    scores = [0] * BINS
    scores[0], scores[10], scores[19] = 500, 400, 100
    kept = Reference(*map(tuple, kinds))
    share = generated_share(scores, kept)
    found = compare(scores, kept, share)
    # Nothing of the reference lies in the middle, so the ends alone say which share fits best.
    assert share == pytest.approx(0.5 - (500 - 100) / 600 / 1.6, abs=0.02)
    size = 1 / ((1 - share) ** 2 / 1000 + share**2 / 1000)
    mixed = [0.9 - 0.8 * share, 0.0, 0.1 + 0.8 * share]
    now = [(count + 0.5) / 1001.5 for count in (500, 400, 100)]
    then = [(size * one + 0.5) / (size + 1.5) for one in mixed]
    index = sum((p - q) * math.log(p / q) for p, q in zip(now, then, strict=True))
    assert found.value == pytest.approx(index - 2 * (1 / 1000 + 1 / size))
    assert found.low < found.value < found.high


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("images", [FEWEST_IMAGES, 5000])
def test_images_like_those_of_the_calibration_do_not_drift_whatever_the_mix(
    share: float, images: int
) -> None:
    """The interval holds 0 in some 95 of 100 draws, and says drift in none."""
    found = [
        fitted(drawn(1000 + seed, images, share), reference(2 * seed, 500)) for seed in range(100)
    ]
    assert sum(one.low == 0 for one in found) >= 93
    assert {level_of(one) for one in found} <= {Level.STABLE, Level.UNCLEAR}


@pytest.mark.parametrize("images", [FEWEST_IMAGES, 1000])
def test_the_interval_holds_the_distance_between_the_distributions(images: int) -> None:
    """Drawn again and again from shifted scores; the truth is that of endless images."""
    endless = Reference(drawn(1, 400_000, 0.0), drawn(2, 400_000, 1.0))
    truth = fitted(drawn(3, 400_000, 0.3, shift=1.0), endless).value
    assert 0.1 < truth < 0.25
    found = [
        fitted(drawn(100 + seed, images, 0.3, shift=1.0), reference(500 + 2 * seed, 1000))
        for seed in range(100)
    ]
    assert sum(one.low <= truth <= one.high for one in found) >= 90
    assert np.mean([one.value for one in found]) == pytest.approx(truth, rel=0.2)


def test_another_mix_is_told_apart_from_another_kind_of_image() -> None:
    kept = reference(images=5000)
    for share in (0.02, 0.3, 0.9):
        scores = drawn(7, 20_000, share)
        assert generated_share(scores, kept) == pytest.approx(share, abs=0.03)
        assert level_of(fitted(scores, kept)) is Level.STABLE
        assert (level_of(compare(scores, kept, 0.5)) is Level.DRIFTED) == (share != 0.3)
    assert level_of(fitted(drawn(7, 20_000, 0.3, shift=2.0), kept)) is Level.DRIFTED


def test_real_images_that_look_just_like_generated_ones_show_in_the_share_alone() -> None:
    """What the docs warn of: without labels nobody can tell it from more generated images."""
    scores, kept = drawn(7, 20_000, 0.3, shift=4.0), reference(images=5000)
    assert level_of(fitted(scores, kept)) is Level.STABLE
    assert generated_share(scores, kept) > 0.97
    assert level_of(compare(scores, kept, 0.5)) is Level.DRIFTED


@pytest.mark.parametrize(
    ("low", "high", "level"),
    [
        (0.0, 0.09, Level.STABLE),
        (0.0, 0.1, Level.UNCLEAR),
        (0.05, 0.5, Level.UNCLEAR),
        (0.1, 0.5, Level.WATCH),
        (0.24, 0.3, Level.WATCH),
        (0.25, 0.9, Level.DRIFTED),
    ],
)
def test_a_word_is_said_only_where_the_interval_allows_it(
    low: float, high: float, level: Level
) -> None:
    assert level_of(Share((low + high) / 2, low, high)) is level


def test_scores_that_all_lie_in_one_place_and_references_that_do_are_compared() -> None:
    left, right = ([0] * BINS for _ in range(2))
    left[0], right[19] = 200, 200
    alone = Reference(tuple(left), tuple(right))
    for scores in (left, right):
        psi = fitted(tuple(scores), alone)
        assert (psi.value, psi.low) == (0.0, 0.0)
        assert 0 < psi.high < 0.1
        assert generated_share(scores, alone) == float(scores is right)
    same = Reference(tuple(left), tuple(left))
    assert level_of(fitted(tuple(left), same)) is Level.STABLE
    assert level_of(fitted(tuple(right), same)) is Level.DRIFTED


def test_days_are_compared_and_summed_up() -> None:
    days = [
        a_day(drawn(1, 400, 0.3), 0, 40, {(Label.REAL, Verdict.REAL): 9}),
        a_day(drawn(2, 99, 0.3), 1, 10, {(Label.REAL, Verdict.FAKE): 1}),
        a_day(
            drawn(3, 500, 0.3, shift=2.0),
            4,
            labelled={(Label.GENERATED, Verdict.FAKE): 12, (Label.GENERATED, Verdict.UNCERTAIN): 8},
        ),
    ]
    found = report(MANIFEST, days, START, None)
    assert (found.model_name, found.model_version, found.notice) == ("mine", 3, "Demo.")
    assert [one.start for one in found.days] == [one.start for one in days]
    assert [one.images for one in found.days] == [400, 99, 500]
    assert [one.level for one in found.days] == [Level.STABLE, Level.UNCLEAR, Level.WATCH]
    assert found.days[1].psi is None
    assert found.days[0].fpr is None
    total = found.total
    assert total.scores == tuple(map(sum, zip(*(one.scores for one in days), strict=True)))
    assert total.labelled_real == VerdictCounts(fake=1, real=9)
    assert (total.fpr.value, total.tpr.value) == (0.1, 0.6)
    assert total.agreement.value == pytest.approx(21 / 22)
    assert total.uncertain.value == pytest.approx(50 / 999)
    assert found.note == ""


def test_without_a_reference_or_images_the_report_says_so_and_shows_the_rest() -> None:
    measured = Measured(0.5, Share(0.01, 0.0, 0.03), Share(0.7, 0.6, 0.8), 300, 300)
    old = replace(MANIFEST, calibration=Calibration(2.0, -1.0, "old", measured))
    found = report(old, [a_day(drawn(1, 400, 0.3), 0, 40)])
    assert "`d3 calibrate`" in found.note
    assert (found.total.psi, found.total.level) == (None, Level.UNCLEAR)
    assert found.total.uncertain.value == 0.1
    assert found.calibration_fpr == measured.fpr
    nothing = report(MANIFEST, [])
    assert nothing.note == "There are 0 results. At least 100 are needed."
    assert (nothing.total.images, nothing.total.uncertain, nothing.days) == (0, None, ())
