from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from d3.training import metrics


def _scores(seed: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 400)
    scores = rng.normal(size=400) + labels
    return labels, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_every_metric_equals_scikit_learns(seed: int, ties: bool) -> None:  # noqa: FBT001
    labels, scores = _scores(seed, ties=ties)
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
    assert metrics.balanced_accuracy(labels, scores, 0.3) == pytest.approx(
        reference.balanced_accuracy_score(labels, called), abs=1e-9
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
