"""From logits to a verdict."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3.domain.errors import ScoreUndefined, ThresholdInvalid, ViewsInvalid
from d3.domain.scoring import (
    MAX_VIEWS,
    AbstainBand,
    Calibration,
    Reason,
    Verdict,
    assess,
    checked_threshold,
    checked_views,
    sigmoid,
)

logits = st.floats(width=32, allow_nan=False, allow_infinity=False)
moderate = st.floats(-15, 15)
views = st.lists(logits, min_size=1, max_size=16)
thresholds = st.floats(0, 1)
calibrations = st.builds(Calibration, scale=st.floats(0.01, 100), bias=st.floats(-100, 100))
bands = st.builds(AbstainBand, below=thresholds, above=thresholds)


@given(views, thresholds, calibrations, bands)
def test_every_score_keeps_its_promises(
    values: list[float], threshold: float, calibration: Calibration, band: AbstainBand
) -> None:
    score = assess(values, threshold=threshold, calibration=calibration, abstain_band=band)
    assert 0 <= score.prediction <= 1
    assert score.is_fake == (score.prediction > threshold)
    assert score.confidence == 2 * abs(score.prediction - 0.5)
    assert 0 <= score.spread <= 1
    assert score.threshold == threshold
    assert (score.verdict is Verdict.UNCERTAIN) == (score.reason is not None)
    if score.reason is None:
        assert (score.verdict is Verdict.FAKE) == score.is_fake


@given(views, thresholds)
def test_the_verdict_is_uncertain_exactly_where_views_lie_on_both_sides(
    values: list[float], threshold: float
) -> None:
    sides = {sigmoid(value) > threshold for value in values}
    verdict = assess(values, threshold=threshold).verdict
    assert (verdict is Verdict.UNCERTAIN) == (len(sides) == 2)


@given(moderate, thresholds, bands)
def test_one_view_is_uncertain_exactly_inside_the_band(
    value: float, threshold: float, band: AbstainBand
) -> None:
    score = assess([value], threshold=threshold, abstain_band=band)
    inside = threshold - band.below < score.prediction < threshold + band.above
    assert (score.verdict is Verdict.UNCERTAIN) == inside
    assert score.spread == 0


@given(st.lists(moderate, min_size=1, max_size=16), st.randoms())
def test_the_order_of_views_does_not_matter(values: list[float], random: object) -> None:
    mixed = list(values)
    random.shuffle(mixed)
    assert assess(mixed, threshold=0.5) == assess(values, threshold=0.5)


@given(st.lists(moderate, min_size=1, max_size=16))
def test_the_prediction_is_the_sigmoid_of_the_mean_logit(values: list[float]) -> None:
    score = assess(values, threshold=0.5)
    assert score.logit == pytest.approx(sum(values) / len(values), abs=1e-12)
    assert score.prediction == pytest.approx(1 / (1 + math.exp(-score.logit)), abs=1e-15)
    probabilities = [sigmoid(value) for value in values]
    assert min(probabilities) - 1e-12 <= score.prediction <= max(probabilities) + 1e-12
    assert score.spread == max(probabilities) - min(probabilities)


@given(moderate, moderate, calibrations)
def test_calibration_keeps_the_order_of_images(
    one: float, other: float, calibration: Calibration
) -> None:
    low, high = sorted([one, other])
    assert calibration.probability(low) <= calibration.probability(high)


@given(logits)
def test_without_calibration_the_prediction_is_the_networks_own(value: float) -> None:
    assert Calibration().probability(value) == sigmoid(value)


@given(moderate)
def test_the_two_sides_of_the_sigmoid_mirror_each_other(value: float) -> None:
    assert sigmoid(value) + sigmoid(-value) == pytest.approx(1, abs=1e-15)


def test_the_ends_of_the_sigmoid_are_reached_without_overflow() -> None:
    assert (sigmoid(-math.inf), sigmoid(-1e300), sigmoid(0), sigmoid(1e300), sigmoid(math.inf)) == (
        0,
        0,
        0.5,
        1,
        1,
    )


@pytest.mark.parametrize(
    ("values", "threshold", "verdict"),
    [
        ([2.0], 0.5, Verdict.FAKE),
        ([-2.0], 0.5, Verdict.REAL),
        ([0.0], 0.5, Verdict.REAL),
        ([2.0, 1.0], 0.5, Verdict.FAKE),
        ([2.0, -1.0], 0.5, Verdict.UNCERTAIN),
        ([0.0, 1.0], 0.5, Verdict.UNCERTAIN),
        ([-1.0, 0.0], 0.5, Verdict.REAL),
        ([100.0], 1, Verdict.REAL),
        ([-1e3], 0, Verdict.REAL),
    ],
)
def test_verdicts_at_and_around_the_threshold(
    values: list[float], threshold: float, verdict: Verdict
) -> None:
    assert assess(values, threshold=threshold).verdict is verdict


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_logit_that_is_no_number_gives_no_verdict(value: float) -> None:
    with pytest.raises(ScoreUndefined):
        assess([0.0, value], threshold=0.5)


def test_no_logits_give_no_verdict() -> None:
    with pytest.raises(ValueError, match="one or more"):
        assess([], threshold=0.5)


@pytest.mark.parametrize("value", [0, 1, 0.5, "0.25", Decimal("0.125"), np.float32(0.5), True])
def test_a_threshold_is_any_number_from_0_to_1(value: object) -> None:
    assert checked_threshold(value) == float(value)


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, -1e-9, 1 + 1e-9, "much", "", None, [], 1j, 10**400, 10**5000],
    ids=range(12),
)
def test_any_other_threshold_is_refused_in_a_sentence(value: object) -> None:
    with pytest.raises(ThresholdInvalid) as caught:
        checked_threshold(value)
    assert len(str(caught.value)) < 300
    with pytest.raises(ThresholdInvalid):
        assess([0.0], threshold=value)


def test_a_whole_number_of_numpy_is_one() -> None:
    assert checked_views(np.int64(4)) == 4


@pytest.mark.parametrize("value", [1, 7, 16])
def test_views_from_1_to_16_are_allowed(value: int) -> None:
    assert checked_views(value) == value


@pytest.mark.parametrize(
    "value", [0, -1, 17, 1.0, "3", True, None, 10**5000, "x" * 10**6], ids=range(9)
)
def test_other_views_are_refused_in_a_sentence(value: object) -> None:
    with pytest.raises(ViewsInvalid) as caught:
        checked_views(value)
    assert "1 to 16" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_views_beyond_the_models_permutations_are_refused() -> None:
    assert checked_views(3, available=3) == 3
    with pytest.raises(ViewsInvalid, match="1 to 3"):
        checked_views(4, available=3)
    with pytest.raises(ViewsInvalid, match=f"1 to {MAX_VIEWS}"):
        checked_views(17, available=40)
    with pytest.raises(ViewsInvalid, match="Use 1, or leave it out"):
        checked_views(2, available=1)
    with pytest.raises(ViewsInvalid, match="The model 'probe' cannot average 2 views"):
        checked_views(2, available=1, model="probe")


@pytest.mark.parametrize(
    ("scale", "bias"), [(0, 0), (-1, 0), (math.nan, 0), (math.inf, 0), (1, math.nan), (1, math.inf)]
)
def test_a_calibration_that_would_not_order_images_is_refused(scale: float, bias: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Calibration(scale, bias)


@pytest.mark.parametrize(("below", "above"), [(-0.1, 0), (0, -0.1), (1.1, 0), (math.nan, 0)])
def test_an_abstain_band_of_other_than_two_distances_is_refused(below: float, above: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        AbstainBand(below, above)


@given(views, thresholds, calibrations, bands, st.sampled_from(Reason))
def test_an_image_that_carries_nothing_is_scored_alike_and_never_judged(
    values: list[float],
    threshold: float,
    calibration: Calibration,
    band: AbstainBand,
    lack: Reason,
) -> None:
    judged = assess(values, threshold=threshold, calibration=calibration, abstain_band=band)
    empty = assess(
        values, threshold=threshold, calibration=calibration, abstain_band=band, lack=lack
    )
    assert (empty.verdict, empty.reason) == (Verdict.UNCERTAIN, lack)
    assert replace(empty, verdict=judged.verdict, reason=judged.reason) == judged


def test_every_doubt_has_its_reason_and_a_sentence() -> None:
    band = AbstainBand(0.2, 0.2)
    assert assess([0.1], threshold=0.5, abstain_band=band).reason is Reason.ABSTAIN_BAND
    assert assess([-3, 3], threshold=0.5, abstain_band=band).reason is Reason.SPREAD
    assert {one for one in Reason if one.is_lack} == {
        *(Reason.TOO_SMALL, Reason.ONE_COLOUR, Reason.ALPHA_ONLY)
    }
    assert len({one.sentence for one in Reason}) == len(Reason)


@given(views, thresholds, bands, st.lists(thresholds, max_size=4))
def test_only_a_change_that_crosses_the_threshold_makes_a_standing_verdict_uncertain(
    values: list[float], threshold: float, band: AbstainBand, changed: list[float]
) -> None:
    score = assess(values, threshold=threshold, abstain_band=band)
    tried = score.tried(changed)
    crossed = any((one > threshold) != score.is_fake for one in changed)
    if score.reason is None and crossed:
        assert tried == replace(score, verdict=Verdict.UNCERTAIN, reason=Reason.UNSTABLE)
    else:
        assert tried == score


def test_the_band_plays_no_part_in_stability_and_the_first_reason_stays() -> None:
    band = AbstainBand(0.1, 0.1)
    sure, unsure = (assess([logit], threshold=0.5, abstain_band=band) for logit in (2.0, 0.1))
    assert sure.tried([0.51]).verdict is Verdict.FAKE
    assert sure.tried([0.5]).reason is Reason.UNSTABLE
    assert unsure.tried([0.1]).reason is Reason.ABSTAIN_BAND
    lacking = assess([2.0], threshold=0.5, lack=Reason.TOO_SMALL)
    assert lacking.tried([0.1]).reason is Reason.TOO_SMALL
