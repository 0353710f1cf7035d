from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from d3.domain.models import ModelFile
from d3.domain.scoring import AbstainBand, Calibration
from d3.evaluation.dataset import DatasetInvalid
from d3.evaluation.diff import VERDICTS, compare, recalibrated
from d3.evaluation.scores import Row
from d3.testing.models import tiny_manifest


def rows(seed: int, shift: float = 0.0, count: int = 120) -> list[Row]:
    rng = np.random.default_rng(7)
    noise = np.random.default_rng(seed)
    made = []
    for number in range(count):
        fake = number % 3 == 0
        logit = float(rng.normal(1.5 if fake else -1.5) + 0.2 * noise.normal() + shift)
        prediction = float(1 / (1 + np.exp(-logit)))
        made.append(
            Row(
                condition="original",
                path=f"{number}.jpg",
                label="fake" if fake else "real",
                generator="a" if number % 2 else "b",
                logit=logit,
                prediction=prediction,
                spread=0.0,
                verdict="fake" if prediction > 0.5 else "real",
            )
        )
    return made


def test_a_model_against_itself_changes_nothing() -> None:
    one = rows(1)
    found = compare(lambda: one, lambda: one, (0.5, 0.5))
    assert found.newly_right == found.newly_wrong == 0
    assert all(change.difference.value == 0 for change in found.changes.values())
    assert all(
        change.difference.low == 0 == change.difference.high for change in found.changes.values()
    )
    assert found.right == found.wrong == []


def test_an_image_that_carries_nothing_is_judged_by_no_calibration() -> None:
    one = replace(rows(1)[0], verdict="uncertain", reason="one_colour", logit=9.0)
    near = replace(one, reason="abstain_band")
    manifest = tiny_manifest(ModelFile("0" * 64, 1), ModelFile("1" * 64, 1), "mine")
    empty, judged = recalibrated(lambda: [one, near], replace(manifest, notice="Demo."))()
    assert (empty.verdict, empty.reason, empty.notice) == ("uncertain", "one_colour", "Demo.")
    assert (judged.verdict, judged.reason) == ("fake", "")


def test_flips_are_counted_by_kind_and_named_by_example() -> None:
    first = rows(1)
    second = [
        replace(row, prediction=0.9, logit=2.2, verdict="fake") if row.path == "1.jpg" else row
        for row in first
    ]
    assert first[1].verdict == "real"
    found = compare(lambda: first, lambda: second, (0.5, 0.5))
    assert (found.newly_right, found.newly_wrong) == (0, 1)
    assert found.flips["real"][VERDICTS.index("real")][VERDICTS.index("fake")] == 1
    assert [one.path for one in found.wrong] == ["1.jpg"]
    assert found.wrong[0].after == 0.9
    assert sum(map(sum, found.flips["real"])) == 80


def test_the_interval_of_a_difference_is_the_paired_one() -> None:
    found = compare(lambda: rows(1), lambda: rows(2), (0.5, 0.5))
    change = found.changes["auroc"].difference
    assert change.low <= change.value <= change.high
    assert change.high - change.low < 0.05
    shifted = compare(lambda: rows(1), lambda: rows(1, shift=2.0), (0.5, 0.5))
    assert shifted.changes["accuracy_real"].difference.high < 0
    assert shifted.shift["mean of real"] > 0.1


def test_images_are_matched_by_name_whatever_the_order_and_errors_left_out() -> None:
    first = rows(1)
    second = [
        replace(row, error="damaged_image") if row.path == "5.jpg" else row
        for row in reversed(first)
    ]
    found = compare(lambda: first, lambda: second, (0.5, 0.5))
    assert (found.images, found.left_out) == (119, 1)
    assert found.newly_wrong == found.newly_right == 0


def test_nothing_in_common_is_an_error() -> None:
    other = [replace(row, path=f"other/{row.path}") for row in rows(1)]
    with pytest.raises(DatasetInvalid, match="both models"):
        compare(lambda: rows(1), lambda: other, (0.5, 0.5))


def test_another_calibration_of_the_same_weights_needs_no_second_scoring() -> None:
    manifest = replace(
        tiny_manifest(ModelFile("0" * 64, 1), ModelFile("1" * 64, 1)),
        calibration=Calibration(2.0, -1.0, "new"),
        threshold=0.8,
        abstain_band=AbstainBand(below=0.3),
    )
    first = [
        *rows(1),
        Row(condition="original", path="bad", label="real", generator="a", error="damaged_image"),
    ]
    changed = list(recalibrated(lambda: first, manifest)())
    assert changed[-1] == first[-1]
    for old, new in zip(first[:-1], changed[:-1], strict=True):
        assert new.prediction == pytest.approx(1 / (1 + np.exp(1 - 2 * old.logit)))
        assert new.verdict == (
            "fake" if new.prediction > 0.8 else "uncertain" if new.prediction > 0.5 else "real"
        )
