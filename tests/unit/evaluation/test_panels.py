from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from d3.domain.intervals import wilson
from d3.domain.panels import PanelRule
from d3.evaluation.measures import ALL
from d3.evaluation.panels import RATES, Judge, Measured, kappa, measure_panel
from d3.evaluation.scores import Row, Said, gather

NUMBER = {"fake": 0.9, "real": 0.1, "uncertain": 0.5, "": None}


def row(number: int, label: str, *verdicts: str, generator: str = "", shift: float = 0) -> Row:
    """An image and what the members say of it; the rules' verdicts are the first member's."""
    said = set(verdicts) - {""}
    word = "disagree" if {"fake", "real"} <= said else "agree" if len(said) == 1 else "partial"
    chief, *others = verdicts
    prediction = NUMBER[chief]
    assert prediction is not None
    return Row(
        condition="original",
        path=f"{number}.png",
        label=label,
        generator=generator,
        prediction=prediction + shift,
        logit=prediction,
        spread=0.0,
        verdict=chief,
        agreement=word,
        by_rule=("uncertain" if word == "disagree" else chief, chief, chief),
        others=tuple(
            Said(NUMBER[one], None if not one else 0.0, 0.0 if one else None, one) for one in others
        ),
    )


def rows_of(counts: dict[tuple[str, ...], int], generator: str = "gan") -> list[Row]:
    """So many images of each label, followed by what the members say."""
    found: list[Row] = []
    for (label, *verdicts), count in counts.items():
        named = generator if label == "fake" else ""
        for _ in range(count):
            found.append(row(len(found), label, *verdicts, generator=named))
    return found


def measured(rows: Sequence[Row], names: Sequence[str] = ("a", "b")) -> Measured:
    return measure_panel(rows, names, gather(rows)["original"], seed=3)


def judge(found: Measured, name: str) -> Judge:
    return next(one for one in found.judges if one.name == name)


COUNTS = {
    ("real", "real", "real"): 60,
    ("real", "fake", "real"): 6,
    ("real", "uncertain", "real"): 14,
    ("fake", "fake", "fake"): 30,
    ("fake", "fake", "real"): 10,
    ("fake", "real", "fake"): 5,
    ("fake", "uncertain", "uncertain"): 5,
}


def test_kappa_is_cohens_and_scikit_learns() -> None:
    from sklearn.metrics import cohen_kappa_score

    assert kappa(np.array([[20, 0, 5], [0, 0, 0], [10, 0, 15]])) == pytest.approx(0.4)
    draw = np.random.default_rng(1)
    one = draw.integers(0, 3, 400)
    other = np.where(draw.random(400) < 0.5, one, draw.integers(0, 3, 400))
    table = np.zeros((3, 3))
    np.add.at(table, (one, other), 1)
    expected = cohen_kappa_score(one, other, weights="linear")
    assert kappa(np.stack([table, table.T]))[1] == pytest.approx(expected)
    assert math.isnan(kappa(np.diag([7, 0, 0])))


def test_rates_are_shares_with_wilsons_intervals() -> None:
    chief = judge(measured(rows_of(COUNTS)), "a")
    rates = chief.rates[ALL]
    assert tuple(rates) == RATES
    expected = {
        "coverage": (66 + 45, 130),
        "coverage_real": (66, 80),
        "coverage_fake": (45, 50),
        "fpr": (6, 80),
        "tpr": (40, 50),
        "fpr_decided": (6, 66),
        "tpr_decided": (40, 45),
    }
    for name, (hits, total) in expected.items():
        share = rates[name]
        assert share.value == pytest.approx(hits / total)
        assert (share.low, share.high) == pytest.approx(wilson(hits, total))
    assert chief.rates["gan"] == rates  # the only generator, with all real images
    assert chief.changes == {}


def test_a_rule_is_measured_beside_the_chief_and_its_cost_has_an_interval() -> None:
    found = measured(rows_of(COUNTS))
    assert [one.name for one in found.judges] == ["a", "b", *PanelRule]
    assert [one.is_rule for one in found.judges] == [False, False, True, True, True]
    rule = judge(found, "chief")
    cost = rule.changes["coverage"]
    assert cost.value == pytest.approx(-21 / 130)
    assert cost.low < cost.value < cost.high < 0
    assert rule.changes["fpr"].value == pytest.approx(-6 / 80)
    assert rule.changes["tpr"].value == pytest.approx(-10 / 50)
    alike = judge(found, "any").changes  # here always what the chief says
    assert all((one.value, one.low, one.high) == (0, 0, 0) for one in alike.values())


def test_pairs_are_compared_on_all_images_and_within_each_kind() -> None:
    (pair,) = measured(rows_of(COUNTS)).pairs
    assert (pair.first, pair.second) == ("a", "b")
    every, real, fake = (pair.on[one] for one in ("all", "real", "fake"))
    assert (every.images, real.images, fake.images) == (130, 80, 50)
    assert every.same.value == pytest.approx(95 / 130)
    assert every.opposite.value == pytest.approx(21 / 130)
    assert real.same.value == pytest.approx(60 / 80)
    assert fake.kappa.low < fake.kappa.value < fake.kappa.high
    assert real.kappa.value == pytest.approx(0, abs=1e-12)  # one of them never varies there
    assert every.kappa.value > fake.kappa.value


def test_images_without_an_opinion_count_for_nobody_but_those_who_gave_one() -> None:
    found = measured(rows_of(COUNTS | {("fake", "fake", ""): 8}))
    assert [judge(found, one).images for one in ("a", "b")] == [138, 130]
    assert found.pairs[0].on["all"].images == 130
    assert judge(found, "b").rates[ALL]["tpr"].value == pytest.approx(35 / 50)


def test_disagreement_is_counted_by_kind_and_generator_and_says_who_was_right() -> None:
    rows = rows_of(COUNTS) + rows_of({("fake", "real", "fake"): 2}, "diffusion")
    found = measured(rows)
    assert [(one.kind, one.generator) for one in found.agreement] == [
        *(("real", ""), ("fake", "diffusion"), ("fake", "gan"))
    ]
    assert [(one.agree, one.partial, one.disagree) for one in found.agreement] == [
        *((60, 14, 6), (0, 0, 2), (30 + 5, 0, 15)),
    ]
    assert found.disputed["a"]["fake"] == {"right": 10, "wrong": 7, "uncertain": 0}
    assert found.disputed["b"]["fake"] == {"right": 7, "wrong": 10, "uncertain": 0}
    assert found.disputed["b"]["real"] == {"right": 6, "wrong": 0, "uncertain": 0}


def test_the_widest_gaps_come_first_and_a_few_are_kept() -> None:
    rows = [row(n, "fake", "fake", "real", generator="x", shift=n / 1000) for n in range(20)]
    rows += rows_of({("real", "real", "real"): 3})
    worst = measured(rows).worst
    assert [one.path for one in worst["fake"]] == [f"{n}.png" for n in range(19, 7, -1)]
    assert worst["real"] == []


def test_three_members_make_three_pairs() -> None:
    counts = {("real", "real", "fake", "real"): 5, ("fake", "fake", "real", "real"): 5}
    found = measured(rows_of(counts), ("a", "b", "c"))
    assert [(one.first, one.second) for one in found.pairs] == [
        *(("a", "b"), ("a", "c"), ("b", "c"))
    ]
    assert found.disputed["c"]["real"] == {"right": 5, "wrong": 0, "uncertain": 0}
