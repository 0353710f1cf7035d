"""A case about a clip: its verdict follows from its frames, and what was forged is found."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from d3.adapters.evidence.cases import decode_case, encode_case
from d3.adapters.evidence.report import reports
from d3.domain.clips import (
    ClipEnd,
    ClipFrame,
    ClipNote,
    ClipVerdict,
    FrameSampling,
    course_of,
    score_of,
)
from d3.domain.errors import EvidenceContradictory
from d3.domain.evidence import Case, check_case, format_of
from d3.domain.scoring import AbstainBand, Calibration, Reason, Verdict, sigmoid
from d3.domain.services.reporting import report_of
from tests.support.history import NOON, an_entry

THRESHOLD = 0.5


def frames_of(*logits: float) -> list[ClipFrame]:
    return [
        ClipFrame(
            float(at),
            round(sigmoid(one), 6),
            Verdict.FAKE if one > 0 else Verdict.REAL,
            None,
            one,
        )
        for at, one in enumerate(logits)
    ]


def a_case(*logits: float) -> Case:
    frames = frames_of(*logits)
    course = course_of(frames, THRESHOLD, AbstainBand())
    score = score_of(course, THRESHOLD)
    clip = ClipVerdict.of(
        frames,
        course,
        sampling=FrameSampling(),
        duration=60.0,
        end=ClipEnd.CUT_SHORT,
        notes=[ClipNote.HDR],
    )
    names = ("prediction", "is_fake", "confidence", "verdict", "reason", "logit", "spread")
    calibration = Calibration()
    entry = an_entry(
        "clip.mp4",
        **{name: getattr(score, name) for name in names},
        threshold=THRESHOLD,
        views=1,
        calibration_scale=calibration.scale,
        calibration_bias=calibration.bias,
        calibration_name=calibration.name,
        abstain_below=0.0,
        abstain_above=0.0,
        view_logits="",
        panel="",
        agreement=None,
        stability_probabilities="",
        clip=clip.to_json(),
    )
    return Case(format_version=format_of(entry), made_at=NOON, d3_version="1", result=entry)


def test_a_case_about_a_clip_holds_and_survives_being_written() -> None:
    case = a_case(2.0, 2.5, 1.5, 2.0, 3.0, -1.0)
    assert case.format_version == 3
    check_case(case)
    assert decode_case(encode_case(case)) == case
    check_case(decode_case(encode_case(case)))
    document = json.loads(encode_case(case))
    assert len(document["result"]["clip"]["frames"]) == 6


@pytest.mark.parametrize("logits", [(-2.0,) * 7, (2.0, 2.0), (9.0, -0.2, -0.2, 9.0, -0.2)])
def test_so_does_one_that_is_real_or_uncertain(logits: tuple[float, ...]) -> None:
    check_case(a_case(*logits))


FORGED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("verdict", {"verdict": Verdict.REAL}, {}),
    ("verdict", {"verdict": Verdict.UNCERTAIN, "reason": Reason.FRAMES}, {}),
    ("prediction", {"prediction": 0.6, "confidence": 0.2}, {}),
    ("logit", {"logit": 0.1}, {}),
    ("format_version", {}, {}),
    ("clip", {}, {"share_above": 0.5}),
    ("clip", {}, {"highest_mean": 0.5}),
    ("clip", {}, {"highest_from": 3.0}),
    ("clip", {}, {"judged_until": 59.0}),
]


@pytest.mark.parametrize(("name", "result", "clip"), FORGED)
def test_what_was_forged_is_found(name: str, result: dict[str, Any], clip: dict[str, Any]) -> None:
    case = a_case(2.0, 2.5, 1.5, 2.0, 3.0, -1.0)
    told = case.result.clip_verdict
    assert told is not None
    changed = replace(case.result, **result, clip=replace(told, **clip).to_json())
    forged = replace(case, result=changed, format_version=2 if name == "format_version" else 3)
    with pytest.raises(EvidenceContradictory, match=name):
        check_case(forged)


@pytest.mark.parametrize(
    "change", [{"prediction": 0.1}, {"verdict": Verdict.REAL}, {"logit": -3.0}, {"time": 9.0}]
)
def test_so_is_a_frame_that_was_forged(change: dict[str, Any]) -> None:
    case = a_case(2.0, 2.5, 1.5, 2.0, 3.0, -1.0)
    told = case.result.clip_verdict
    assert told is not None
    frames = (replace(told.frames[0], **change), *told.frames[1:])
    changed = replace(case.result, clip=replace(told, frames=frames).to_json())
    with pytest.raises(EvidenceContradictory, match="clip"):
        check_case(replace(case, result=changed))
    broken = replace(case.result, clip='{"frames": 3}')
    with pytest.raises(EvidenceContradictory, match="its clip cannot be read"):
        check_case(replace(case, result=broken))


def test_the_report_draws_the_course_and_says_what_was_not_seen() -> None:
    case = a_case(2.0, 2.5, 1.5, 2.0, 3.0, -1.0)
    report = report_of(case, key_id=None, heatmap=False)
    titles = [one.title for one in report.sections]
    assert titles[0] == "The course of the clip"
    text = " ".join(one for section in report.sections for one in section.paragraphs)
    assert "five frames in a row" in text
    assert "judged as far as it goes" in text
    assert "high dynamic range" in text
    points = [one for section in report.sections for one in section.points]
    assert any("6 of them were judged" in one for one in points)
    assert any("video compression" in one for one in points)
    page = reports(case, None, None).html.decode()
    assert page.count("<rect") >= 6
    assert "Frames of the clip" not in page


def test_another_threshold_is_applied_to_each_frame() -> None:
    case = a_case(0.5, 0.6, 0.4, 0.5, 0.6)
    assert case.assess(()).verdict is Verdict.FAKE
    assert case.assess((), threshold=0.9).verdict is Verdict.REAL
