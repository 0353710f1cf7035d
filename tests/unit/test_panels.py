"""What a panel's opinions make of each other: rules, agreement, and what is kept of them."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest

from d3.domain.errors import ModelNotLoaded
from d3.domain.models import ModelReference
from d3.domain.panels import (
    MAX_MEMBERS,
    MAX_PANEL,
    Agreement,
    Missing,
    Opinion,
    PanelRule,
    PanelVerdict,
    agreement,
    decide,
)
from d3.domain.scoring import MAX_VIEWS, Reason, Verdict
from tests.support.history import a_panel

FAKE, REAL, UNCERTAIN = Verdict.FAKE, Verdict.REAL, Verdict.UNCERTAIN
SMALLEST = -1.2345678901234567e-300
"""A number takes no more characters than this."""
LONGEST = Opinion(
    model=ModelReference("n" * 100, 2**31, "a" * 64),
    prediction=SMALLEST,
    verdict=UNCERTAIN,
    reason=Reason.ABSTAIN_BAND,
    threshold=SMALLEST,
    logit=SMALLEST,
    calibration='"' * 255,
    calibrated=False,
    seconds=SMALLEST,
    calibration_scale=SMALLEST,
    calibration_bias=SMALLEST,
    abstain_below=SMALLEST,
    abstain_above=SMALLEST,
    logits=(SMALLEST,) * MAX_VIEWS,
    engine="e" * 32,
    precision="p" * 16,
    device="d" * 64,
)


def said(*verdicts: Verdict) -> tuple[Opinion, ...]:
    return a_panel(*verdicts).opinions


@pytest.mark.parametrize("verdicts", list(itertools.product(Verdict, repeat=3)))
def test_each_rule_says_of_all_votes_what_it_promises(verdicts: tuple[Verdict, ...]) -> None:
    chief, *others = verdicts
    found = {rule: decide(rule, said(*verdicts))[0] for rule in PanelRule}
    opposite = {FAKE: REAL, REAL: FAKE}.get(chief)
    assert found[PanelRule.CHIEF] == (UNCERTAIN if opposite in others else chief)
    expected = FAKE if FAKE in verdicts else UNCERTAIN if UNCERTAIN in verdicts else REAL
    assert found[PanelRule.ANY] == expected
    most = [one for one in Verdict if verdicts.count(one) >= 2]
    assert found[PanelRule.MAJORITY] == (most[0] if most else UNCERTAIN)
    for rule in PanelRule:
        verdict, reason = decide(rule, said(*verdicts))
        assert (reason is not None) == (verdict is UNCERTAIN)
        if verdict is UNCERTAIN:
            assert reason == (Reason.PANEL if chief is not UNCERTAIN else Reason.ABSTAIN_BAND)


@pytest.mark.parametrize("rule", PanelRule)
@pytest.mark.parametrize("chief", Verdict)
def test_who_is_not_calibrated_changes_no_verdict_but_the_agreement(
    rule: PanelRule, chief: Verdict
) -> None:
    first, *others = said(chief, FAKE, REAL)
    voteless = [replace(one, calibrated=False) for one in others]
    assert decide(rule, (first, *voteless))[0] is decide(rule, (first,))[0]
    assert agreement((first, *voteless)) is Agreement.DISAGREE
    alone = replace(first, calibrated=False)
    assert decide(rule, (alone,)) == (chief, first.reason), "the chief always has a vote"


@pytest.mark.parametrize(
    ("verdicts", "found"),
    [
        ((FAKE, FAKE), Agreement.AGREE),
        ((REAL, REAL, REAL), Agreement.AGREE),
        ((FAKE, UNCERTAIN), Agreement.PARTIAL),
        ((UNCERTAIN, UNCERTAIN), Agreement.PARTIAL),
        ((UNCERTAIN, FAKE, REAL), Agreement.DISAGREE),
    ],
)
def test_agreement_is_what_the_opinions_are_to_each_other(
    verdicts: tuple[Verdict, ...], found: Agreement
) -> None:
    assert agreement(said(*verdicts)) is found


@pytest.mark.parametrize("rule", PanelRule)
def test_what_carries_nothing_is_uncertain_for_its_own_reason(rule: PanelRule) -> None:
    chief, other = said(UNCERTAIN, FAKE)
    lacking = replace(chief, reason=Reason.TOO_SMALL)
    assert decide(rule, (lacking, other)) == (UNCERTAIN, Reason.TOO_SMALL)


@pytest.mark.parametrize(
    "panel",
    [
        a_panel(FAKE, REAL, UNCERTAIN),
        replace(a_panel(REAL), missing=(Missing.of("gone", ModelNotLoaded("Ünknown.", "Load.")),)),
        PanelVerdict(PanelRule.MAJORITY, (LONGEST,) * MAX_MEMBERS),
        PanelVerdict(
            PanelRule.ANY,
            (LONGEST,),
            (Missing("n" * 100, "c" * 64, "\0" * 300),) * (MAX_MEMBERS - 1),
        ),
    ],
)
def test_what_is_kept_of_a_panel_is_read_back_and_never_cut(panel: PanelVerdict) -> None:
    text = panel.to_json()
    assert PanelVerdict.from_json(text) == panel
    assert len(text) < MAX_PANEL


KEPT = json.loads(a_panel(FAKE).to_json())


@pytest.mark.parametrize(
    "kept",
    [
        KEPT | {"rule": "all"},
        KEPT | {"opinions": [{}]},
        KEPT | {"missing": [{"who": "a"}]},
        KEPT | {"missing": [{"model": 1, "code": "x", "error": "x"}]},
        KEPT | {"opinions": []},
        KEPT | {"opinions": [1]},
        KEPT | {"missing": [1]},
        [KEPT],
        None,
    ],
)
def test_what_is_no_panel_is_a_value_error(kept: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        PanelVerdict.from_json(json.dumps(kept))


def test_fields_that_a_later_d3_added_are_ignored() -> None:
    later = {"opinions": [KEPT["opinions"][0] | {"mood": 1}], "mood": 2}
    assert PanelVerdict.from_json(json.dumps(KEPT | later)) == a_panel(FAKE)


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ({"seconds": "abc"}, "seconds cannot be 'abc'"),
        ({"seconds": float("nan")}, "seconds cannot be nan"),
        ({"prediction": True}, "prediction cannot be True"),
        ({"threshold": 10**400}, "threshold cannot be 1000"),
        ({"calibrated": 1}, "calibrated cannot be 1"),
        ({"calibration": None}, "calibration cannot be None"),
        ({"engine": ["torch"]}, "engine cannot be"),
        ({"model": {"name": "a", "version": "1", "sha256": "b"}}, "version cannot be '1'"),
        ({"logits": [0.5, "0.5"]}, "are not numbers"),
        ({"logits": "12"}, "are not numbers"),
    ],
)
def test_a_field_of_an_opinion_has_its_type(lie: dict[str, object], said: str) -> None:
    forged = KEPT["opinions"][0] | lie
    with pytest.raises(ValueError, match=said):
        PanelVerdict.from_json(json.dumps(KEPT | {"opinions": [forged]}))
