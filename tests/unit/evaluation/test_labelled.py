"""Labelled results count once for each image, and only where their logits can be compared."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
from tests.support.history import NOON, an_entry

from d3.domain.history import HistoryEntry
from d3.domain.labels import Label
from d3.domain.models import ModelReference
from d3.domain.panels import Opinion, PanelRule, PanelVerdict
from d3.domain.scoring import Verdict
from d3.evaluation.dataset import DatasetInvalid
from d3.evaluation.labelled import Labelled, labelled_rows

SHA256 = "b" * 64
"""Of the model of :func:`an_entry`."""


def result(id_: int, image: str, label: Label | None, **changes: Any) -> HistoryEntry:
    at = {"image_sha256": image * 64, "created_at": NOON + timedelta(hours=id_), "views": 1}
    entry = an_entry(f"{id_}.jpg", **(at | changes))
    values = {one.name: getattr(entry, one.name) for one in fields(entry)}
    return HistoryEntry(id=id_, label=label, **values)


def told(*results: HistoryEntry) -> Labelled:
    return labelled_rows(results, SHA256)


def test_an_image_counts_once_with_its_newest_logit_whatever_its_model_was_called() -> None:
    found = told(
        result(1, "a", Label.REAL, logit=1.0),
        result(3, "a", Label.REAL, logit=3.0, model_name="another", model_version=9),
        result(2, "a", Label.REAL, logit=2.0),
        result(4, "c", Label.GENERATED, logit=4.0),
    )
    assert [(one.label, one.logit) for one in found.rows] == [("real", 3.0), ("fake", 4.0)]
    assert len({one.path for one in found.rows}) == 2
    assert len(found.warnings) == 1
    assert "People label what they look at" in found.warnings[0]


def test_what_a_member_of_a_panel_said_counts_for_its_own_weights() -> None:
    opinions = [
        Opinion(
            model=ModelReference(name, 1, digit * 64),
            prediction=0.25,
            verdict=Verdict.REAL,
            threshold=0.5,
            logit=logit,
            calibration="none",
            calibrated=True,
            seconds=0.1,
        )
        for name, digit, logit in (("chief", "b", -1.0), ("member", "e", -2.5))
    ]
    panel = PanelVerdict(PanelRule.ANY, tuple(opinions)).to_json()
    entry = result(1, "a", Label.REAL, panel=panel, verdict=Verdict.FAKE)
    for digit, logit in (("b", -1.0), ("e", -2.5)):
        (row,) = labelled_rows([entry], digit * 64).rows
        assert (row.logit, row.verdict, row.prediction) == (logit, "real", 0.25)
    assert labelled_rows([entry], "f" * 64).rows == []


def test_contradictory_labels_are_left_out_and_named() -> None:
    found = told(result(1, "a", Label.REAL), result(2, "a", Label.GENERATED))
    assert found.rows == []
    assert "contradictory labels were left out: 2.jpg (result 2)" in found.warnings[1]


def test_other_weights_and_what_nobody_is_sure_of_do_not_count() -> None:
    found = told(
        result(1, "a", Label.REAL, model_sha256="d" * 64),
        result(2, "b", Label.UNKNOWN),
        result(3, "c", None),
    )
    assert (found.rows, len(found.warnings)) == ([], 1)


def test_other_numbers_of_views_and_old_rows_are_left_out_and_said() -> None:
    found = told(
        *(result(n, f"{n}", Label.REAL, views=4) for n in (1, 2)),
        result(3, "c", Label.REAL),
        result(4, "d", Label.REAL, logit=None),
        result(5, "e", Label.REAL, image_sha256=None),
    )
    assert (found.views, len(found.rows)) == (4, 2)
    assert "another number of views than 4 were left out: 1." in found.warnings[1]
    assert "SHA-256 of the image: 2." in found.warnings[2]


def test_engines_are_said_where_there_are_several() -> None:
    found = told(
        result(1, "a", Label.REAL),
        result(2, "b", Label.REAL, engine="openvino", precision="bf16"),
    )
    assert len(found.rows) == 2
    assert "(torch fp32: 1, openvino bf16: 1)" in found.warnings[1]


def test_too_few_are_refused_with_what_is_there_and_what_is_needed() -> None:
    found = told(result(1, "a", Label.REAL))
    found.check_enough(1, 0, "this")
    with pytest.raises(
        DatasetInvalid, match=r"1 real and 0 generated .* For that, at least 99 real and 10"
    ):
        found.check_enough(99, 10, "that")
