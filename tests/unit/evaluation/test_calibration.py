from __future__ import annotations

import numpy as np
import pytest

from d3.domain.scoring import AbstainBand, Calibration, Verdict, assess
from d3.evaluation.calibration import balancing, calibrate, fit, fit_calibration
from d3.evaluation.dataset import DatasetInvalid
from d3.evaluation.scores import Scores


def scores(reals: int, fakes: int, seed: int = 0, apart: float = 4.0) -> Scores:
    """Logits whose true odds are twice what they say, and shifted."""
    rng = np.random.default_rng(seed)
    fake = np.repeat([False, True], [reals, fakes])
    logit = rng.normal(np.where(fake, apart / 2, -apart / 2), 1.0) / 2 + 1
    prediction = 1 / (1 + np.exp(-logit))
    count = len(fake)
    return Scores(
        fake, np.zeros(count, int), logit, prediction, np.zeros(count), fake & False, ("a",)
    )


def calibrated(given: Scores, **changes):
    options = {"max_fpr": 0.05, "max_miss": 0.05, "seed": 0}
    before = {"before": Calibration(), "threshold": 0.5, "band": AbstainBand()}
    return calibrate(given, **(before | options | changes))


def test_the_scale_and_bias_that_made_the_labels_are_found_however_many_of_each_kind() -> None:
    for reals, fakes in ((4000, 4000), (8000, 500)):
        given = scores(reals, fakes, apart=2.0)
        scale, bias = fit_calibration(given.fake, given.logit, balancing(given.fake))
        # log odds of two normals at +-1 with deviation 1: 2 x, where x = 2 (logit - 1)
        assert scale == pytest.approx(4, rel=0.15)
        assert bias == pytest.approx(-4, rel=0.15)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("max_fpr", [0.01, 0.1])
def test_further_real_images_exceed_the_threshold_as_seldom_as_asked(
    seed: int, max_fpr: float
) -> None:
    """Averaged over draws, as the conformal promise is."""
    rates = []
    fresh = scores(50_000, 10, seed=99)
    for draw in range(20):
        given = scores(300, 300, seed=100 * seed + draw)
        fitted = fit(given.fake, given.logit, max_fpr=max_fpr, max_miss=0.05)
        predictions = fitted.predictions(fresh.logit[~fresh.fake][:5000])
        rates.append((predictions > fitted.threshold).mean())
    assert np.mean(rates) <= 1.5 * max_fpr
    assert np.mean(rates) >= 0.4 * max_fpr


def test_few_generated_images_are_called_real_outright() -> None:
    given = scores(500, 500, apart=1.0)
    fitted = fit(given.fake, given.logit, max_fpr=0.01, max_miss=0.05)
    predictions = fitted.predictions(given.logit[given.fake])
    verdicts = [
        assess(
            [one],
            threshold=fitted.threshold,
            calibration=Calibration(fitted.scale, fitted.bias),
            abstain_band=fitted.band,
        ).verdict
        for one in given.logit[given.fake].tolist()
    ]
    assert (predictions <= fitted.threshold).mean() > 0.5
    assert verdicts.count(Verdict.REAL) <= 0.05 * 500 + 1
    assert verdicts.count(Verdict.UNCERTAIN) > 0.5 * 500


def test_kinds_far_apart_leave_nothing_open() -> None:
    given = scores(200, 200, apart=40.0)
    assert fit(given.fake, given.logit, max_fpr=0.01, max_miss=0.0).band == AbstainBand()


def test_before_and_after_are_measured_and_the_fit_does_not_see_what_measures_it() -> None:
    result = calibrated(scores(2000, 500))
    assert result.before.ece.value > 0.1 > result.after.ece.value
    assert result.after.fpr.low <= 0.05 <= result.after.fpr.high
    assert result.before.fpr.value > 0.2
    assert result.after.tpr.value > 0.9
    assert (result.real, result.fake) == (2000, 500)


def test_what_stands_in_the_manifest_names_its_rates() -> None:
    result = calibrated(scores(2000, 500))
    calibration = result.calibration("mine", "photos")
    assert calibration.scale == result.fitted.scale
    assert calibration.measured.threshold == result.fitted.threshold
    assert calibration.measured.fpr == result.after.fpr
    assert (calibration.measured.real, calibration.measured.dataset) == (2000, "photos")
    given = scores(2000, 500)
    predictions = result.fitted.predictions(given.logit)
    edges = np.linspace(0, 1, 21)
    for counts, kind in ((calibration.reference.real, False), (calibration.reference.fake, True)):
        assert counts == tuple(np.histogram(predictions[given.fake == kind], edges)[0])


def test_the_same_seed_gives_the_same_and_a_noise_of_labels_gives_nothing_away() -> None:
    given = scores(300, 300)
    assert calibrated(given) == calibrated(given)
    rng = np.random.default_rng(0)
    blind = Scores(
        rng.random(600) < 0.5,
        given.generator,
        given.logit,
        given.prediction,
        given.spread,
        given.uncertain,
        given.names,
    )
    result = calibrated(blind)
    assert abs(result.after.tpr.value - result.after.fpr.value) < 0.06


@pytest.mark.parametrize(
    ("reals", "says"),
    [
        (60, "too few to measure a false positive rate of 0.01; at least 99"),
        (500, "only a rough estimate"),
    ],
)
def test_too_few_images_for_the_rate_asked_are_a_warning(reals: int, says: str) -> None:
    result = calibrated(scores(reals, 100), max_fpr=0.01)
    assert says in result.warnings[0]


def test_enough_images_are_no_warning() -> None:
    assert calibrated(scores(1000, 100), max_fpr=0.01).warnings == []


def test_nearly_no_images_are_an_error() -> None:
    with pytest.raises(DatasetInvalid, match="5 real and 100 generated"):
        calibrated(scores(5, 100))
