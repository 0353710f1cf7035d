from __future__ import annotations

import math

import numpy as np
import pytest

from d3.evaluation import metrics
from d3.evaluation.metrics import ECE_BINS, METRICS, Sample


def _scores(seed: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 400)
    scores = rng.normal(size=400) + labels
    return labels, np.round(scores, 1) if ties else scores


def _reference(labels, scores, threshold: float, weights=None) -> dict[str, float]:
    """What scikit-learn says, image weights included."""
    from sklearn import metrics as reference

    predictions = 1 / (1 + np.exp(-scores))
    called = predictions > threshold
    false, found, _ = reference.roc_curve(
        labels, scores, sample_weight=weights, drop_intermediate=False
    )
    recalls = reference.recall_score(labels, called, average=None, sample_weight=weights)
    return {
        "accuracy_real": recalls[0],
        "accuracy_fake": recalls[1],
        "accuracy": reference.accuracy_score(labels, called, sample_weight=weights),
        "balanced_accuracy": reference.balanced_accuracy_score(
            labels, called, sample_weight=weights
        ),
        "ap": reference.average_precision_score(labels, scores, sample_weight=weights),
        "auroc": reference.roc_auc_score(labels, scores, sample_weight=weights),
        "fpr_at_95_tpr": false[np.argmax(found >= 0.95)],
        "tpr_at_1_fpr": found[false <= 0.01].max(),
    }


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_every_metric_equals_scikit_learns(seed: int, ties: bool) -> None:  # noqa: FBT001
    labels, scores = _scores(seed, ties=ties)
    measured = Sample(labels, scores, threshold=0.6).measure()
    for name, value in _reference(labels, scores, 0.6).items():
        assert float(measured[name]) == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("seed", range(3))
def test_weighted_images_count_as_in_scikit_learn(seed: int) -> None:
    labels, scores = _scores(seed, ties=True)
    many = np.random.default_rng(seed).integers(0, 4, (6, len(labels))).astype(float)
    measured = Sample(labels, scores).measure(many)
    for row, weights in enumerate(many):
        for name, value in _reference(labels, scores, 0.5, weights).items():
            assert measured[name][row] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("seed", range(3))
def test_the_calibration_error_is_that_of_scikit_learns_bins(seed: int) -> None:
    from sklearn.calibration import calibration_curve

    labels, scores = _scores(seed, ties=False)
    predictions = 1 / (1 + np.exp(-scores))
    happened, said = calibration_curve(labels, predictions, n_bins=ECE_BINS)
    sizes = np.histogram(predictions, np.linspace(0, 1, ECE_BINS + 1))[0]
    expected = np.sum(np.abs(happened - said) * sizes[sizes > 0]) / len(labels)
    sample = Sample(labels, scores)
    assert float(sample.measure()["ece"]) == pytest.approx(expected, abs=1e-9)
    assert [one[1] for one in reversed(sample.reliability())] == pytest.approx(list(happened))


def test_curves_are_scikit_learns() -> None:
    from sklearn import metrics as reference

    labels, scores = _scores(1, ties=True)
    false, found, precision = Sample(labels, scores).curves()
    expected = reference.roc_curve(labels, scores, drop_intermediate=False)
    assert np.allclose(false, expected[0][1:])
    assert np.allclose(found, expected[1][1:])
    assert precision[-1] == pytest.approx(labels.mean())


def test_with_one_kind_only_what_can_be_computed_is() -> None:
    measured = Sample([1, 1, 1, 1], [2.0, 1.0, -1.0, 3.0]).measure()
    assert float(measured["accuracy_fake"]) == 0.75
    assert float(measured["accuracy"]) == 0.75
    missing = {name for name in METRICS if math.isnan(float(measured[name]))}
    assert missing == {
        *("accuracy_real", "balanced_accuracy", "ap", "auroc"),
        *("fpr_at_95_tpr", "tpr_at_1_fpr"),
    }


def test_certain_predictions_at_the_ends_of_the_range_are_measured() -> None:
    measured = Sample([0, 0, 1, 1], [-800.0, -900.0, 800.0, 900.0]).measure()
    assert float(measured["auroc"]) == 1.0
    assert float(measured["ece"]) < 1e-300


@pytest.mark.parametrize("ties", [False, True])
def test_the_short_forms_take_plain_scores_and_a_threshold(ties: bool) -> None:  # noqa: FBT001
    from sklearn import metrics as reference

    labels, scores = _scores(7, ties=ties)
    called = scores > 0.3
    assert metrics.auroc(labels, scores) == pytest.approx(
        reference.roc_auc_score(labels, scores), abs=1e-9
    )
    assert metrics.average_precision(labels, scores) == pytest.approx(
        reference.average_precision_score(labels, scores), abs=1e-9
    )
    assert metrics.accuracy(labels, scores, 0.3) == pytest.approx(
        reference.accuracy_score(labels, called), abs=1e-9
    )


def test_a_score_that_says_nothing_has_an_auroc_of_a_half() -> None:
    assert metrics.auroc([0, 1, 0, 1, 1], [7.0] * 5) == 0.5


def test_the_better_direction_is_never_worse_than_chance() -> None:
    assert metrics.best_direction_auroc([0, 0, 1, 1], [4, 3, 2, 1]) == 1.0


@pytest.mark.parametrize(
    ("labels", "scores"), [([1, 1], [0.1, 0.2]), ([0, 1], [0.1, np.nan]), ([0, 1], [0.1])]
)
def test_what_cannot_be_measured_is_refused(labels: list[int], scores: list[float]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        metrics.auroc(labels, scores)
