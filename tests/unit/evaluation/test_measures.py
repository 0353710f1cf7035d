from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from d3.domain.errors import RequestInvalid
from d3.evaluation.measures import (
    ALIKE,
    ALL,
    IN_DOMAIN,
    OUT_OF_DOMAIN,
    TOTAL,
    Group,
    check_in_domain,
    measure,
)
from d3.evaluation.scores import Row, Scores, gather


def scores(counts: dict[tuple[str, str], int], seed: int = 0) -> Scores:
    """Random scores: (label, generator) to how many; fakes lean upwards."""
    rng = np.random.default_rng(seed)
    rows = []
    for (label, generator), count in counts.items():
        for number in range(count):
            logit = float(np.round(rng.normal(label == "fake"), 2))
            rows.append(
                Row(
                    condition="original",
                    path=f"{label}/{generator}/{number}",
                    label=label,
                    generator=generator,
                    logit=logit,
                    prediction=1 / (1 + math.exp(-logit)),
                    spread=0.0,
                    verdict="uncertain" if number == 0 else label,
                )
            )
    return gather(rows)["original"]


OWN = {("real", "a"): 40, ("fake", "a"): 20, ("real", "b"): 90, ("fake", "b"): 30}
SHARED = {("real", ""): 50, ("fake", "a"): 20, ("fake", "b"): 70, ("real", "coco"): 10}


def by_name(groups: list[Group]) -> dict[str, Group]:
    return {one.name: one for one in groups}


def test_a_generator_stands_against_its_own_real_images_or_against_those_of_nobody() -> None:
    own = by_name(measure(scores(OWN), threshold=0.5))
    assert (own["a"].real, own["a"].fake, own["b"].real, own["b"].fake) == (40, 20, 90, 30)
    shared = by_name(measure(scores(SHARED), threshold=0.5))
    assert (shared["a"].real, shared["a"].fake, shared["b"].real) == (60, 20, 60)
    assert (shared[ALL].real, shared[ALL].fake) == (60, 90)


def test_means_are_the_papers_over_generators() -> None:
    groups = by_name(measure(scores(OWN), threshold=0.5, in_domain=["b"]))
    for name in ("accuracy", "ap", "fpr_at_95_tpr"):
        a, b = (groups[one].figures[name].value for one in "ab")
        assert groups[IN_DOMAIN].figures[name].value == pytest.approx(b)
        assert groups[OUT_OF_DOMAIN].figures[name].value == pytest.approx(a)
        assert groups[TOTAL].figures[name].value == pytest.approx((a + b) / 2)
    assert (groups["a"].in_domain, groups["b"].in_domain) == (False, True)


def test_every_generator_counts_the_same_as_if_repeated_to_the_size_of_the_largest() -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    given = scores(OWN)
    labels, logits = [], []
    for number, name in enumerate(given.names):
        mine = given.generator == number
        repeats = 2 if name == "a" else 1  # 60 images to 120
        labels += repeats * given.fake[mine].tolist()
        logits += repeats * given.logit[mine].tolist()
    alike = by_name(measure(given, threshold=0.5))[ALIKE].figures
    assert alike["ap"].value == pytest.approx(average_precision_score(labels, logits), abs=1e-9)
    assert alike["auroc"].value == pytest.approx(roc_auc_score(labels, logits), abs=1e-9)


def test_shared_real_images_count_with_every_generator() -> None:
    from sklearn.metrics import average_precision_score

    given = scores(SHARED)
    names = np.array(given.names)[given.generator]
    weights = np.where(names == "a", 130 / 80, np.where(names == "b", 1.0, 130 / 80 + 1))
    expected = average_precision_score(given.fake, given.logit, sample_weight=weights)
    alike = by_name(measure(given, threshold=0.5))[ALIKE].figures["ap"]
    assert alike.value == pytest.approx(expected, abs=1e-9)


def test_intervals_hold_the_value_and_follow_from_the_seed() -> None:
    first, again, other = (measure(scores(SHARED), threshold=0.5, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other
    for group in first:
        for figure in group.figures.values():
            assert figure.low <= figure.value <= figure.high


def test_the_interval_of_a_mean_is_narrower_than_its_generators() -> None:
    groups = by_name(measure(scores(OWN), threshold=0.5))
    width = {n: g.figures["auroc"].high - g.figures["auroc"].low for n, g in groups.items()}
    assert width[TOTAL] < max(width["a"], width["b"])


def test_two_models_see_the_same_replicates() -> None:
    """The order in which names turn up does not matter."""
    given = scores(OWN)
    backwards = np.arange(len(given.fake))[::-1]
    turned = replace(
        given,
        **{
            name: getattr(given, name)[backwards]
            for name in ("fake", "logit", "prediction", "spread", "uncertain")
        },
        generator=1 - given.generator[backwards],
        names=given.names[::-1],
    )
    values = [
        [one.figures["auroc"].value for one in measure(s, threshold=0.5)] for s in (given, turned)
    ]
    assert values[0] == pytest.approx(values[1])


def test_one_generator_is_one_line() -> None:
    groups = measure(scores({("real", "a"): 9, ("fake", "a"): 9}), threshold=0.5)
    assert [one.name for one in groups] == ["a"]


def test_without_fakes_only_the_real_ones_are_measured() -> None:
    (group,) = measure(scores({("real", ""): 9}), threshold=0.5)
    assert group.name == ALL
    assert 0 <= group.figures["accuracy_real"].value <= 1
    assert math.isnan(group.figures["auroc"].value)


def test_uncertain_verdicts_are_a_share() -> None:
    (group,) = measure(scores({("real", "a"): 4, ("fake", "a"): 4}), threshold=0.5)
    assert group.uncertain == 0.25


def test_an_in_domain_generator_that_is_not_there_is_an_error_that_lists_them() -> None:
    with pytest.raises(RequestInvalid, match=r"'dalle'.*Its generators are gan, sd"):
        check_in_domain(["sd", "dalle"], ["sd", "gan"])
