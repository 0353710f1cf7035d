"""A result has one record, and each of its fields one name and one value wherever it is told."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from d3.adapters.sql.tables import InferenceResult, ScanResult
from d3.domain.clips import ClipEnd, ClipFrame, ClipVerdict, FrameSampling, course_of
from d3.domain.detections import Detection
from d3.domain.history import HistoryEntry, NewEntry, entry_of
from d3.domain.images import ImageFacts, Note
from d3.domain.models import ModelReference
from d3.domain.panels import Missing, Opinion, PanelRule, PanelVerdict
from d3.domain.records import ImageRecord, ResultRecord
from d3.domain.scans import ROW_FIELDS, ScanRow, row_of
from d3.domain.scoring import AbstainBand, Measured, Reason, Score, Share, Verdict
from d3.domain.services.export import COLUMNS, csv_chunks, document
from d3.entrypoints.cli.detect import _show, _Shown
from d3.entrypoints.cli.results import Form
from d3.entrypoints.http.api.scan_schemas import ScanResultItem
from d3.entrypoints.http.api.schemas import HistoryItem, Result, history_item, result_of

FACTS = ImageFacts("JPEG", 640, 480, 2, 999, "a" * 64, note=Note.TWO_PICTURES)
PARSED = {
    *("provenance_says", "provenance_sources", "view_logits"),
    *("panel", "stability_probabilities", "clip"),
}
"""Kept as columns; JSON has what they hold: ``provenance``, ``logits``, ``opinions`` and so on."""
OF_PANELS = {"opinions", "missing", "panel_rule", "stability"}
OF_IMAGES = {one.name for one in fields(ImageRecord)} | {"reason_text", "image_note_text"}
OF_IMAGES = (OF_IMAGES - PARSED) | {"provenance"} | OF_PANELS
OF_RESULTS = ({one.name for one in fields(ResultRecord)} - PARSED) | OF_IMAGES | {"logits"}
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_every_field_of_the_record_is_in_every_table_answer_and_file() -> None:
    for kind in (Result, HistoryItem, ScanResultItem):
        assert {*kind.__struct_fields__} >= OF_IMAGES, kind
    texts = {"reason_text", "image_note_text"}
    assert {*COLUMNS} >= {one.name for one in fields(HistoryEntry)} | texts
    assert {*ROW_FIELDS} >= {one.name for one in fields(ScanRow)} | texts
    columns = {*InferenceResult.__table__.c.keys()}
    assert columns == {one.name for one in fields(HistoryEntry)} | {"demo", "searchable_name"}
    columns = {*ScanResult.__table__.c.keys()}
    assert columns == {one.name for one in fields(ScanRow)} - {"notice"} | {"scan_id", "shard"}


def test_they_hold_the_same_wherever_a_result_is_told(
    detection: Detection, capsys: pytest.CaptureFixture[str]
) -> None:
    _show(detection, b"", _Shown(Form.JSON, provenance=False, prompts=None), first=True)
    shown = json.loads(capsys.readouterr().out)
    new = entry_of(detection, created_at=NOW, d3_version="0.1.0")
    entry = HistoryEntry(id=1, **{one.name: getattr(new, one.name) for one in fields(NewEntry)})
    text = b"".join(csv_chunks([entry])).decode()
    (cells,) = csv.DictReader(io.StringIO(text, newline=""))
    exported = _as_json(document(entry))
    for name in OF_RESULTS:
        value = _as_json(getattr(detection, name))
        assert shown[name] == value
        if name not in {"provenance", "logits", *OF_PANELS}:
            assert cells[name] == ("true" if value is True else str(value))
        if not name.startswith(("model_", "calibration_", "abstain_")):
            assert exported[name] == value
    reported = [result_of(detection, cached=False), history_item(entry)]
    for answer in map(_as_json, [*reported, row_of("/a.jpg", detection, NOW)]):
        for name in answer.keys() & OF_RESULTS:
            assert answer[name] == _as_json(getattr(detection, name))
    for answer in map(_as_json, reported):
        assert answer["calibration"] == "none"
        assert answer["model"] == shown["model"] == exported["model"]
    assert shown["image_name"] == shown["name"] == "photo.jpg"
    for name in ("panel", "stability_probabilities", "clip"):
        assert cells[name] == getattr(detection, name)
    for answer in map(_as_json, [shown, exported, *reported]):
        assert answer["stability"] == detection.stability == {"jpeg": 0.4, "mirrored": 0.8}
        assert [one["model"]["name"] for one in answer["opinions"]] == ["m", "other"]
        assert not answer.keys() & {"panel", "stability_probabilities"}
        assert answer["clip"] == _as_json(detection.clip_verdict)
        assert answer["clip"]["frames"][1]["time"] == 1


def test_the_parts_of_a_detection_are_what_it_was_made_of(detection: Detection) -> None:
    assert detection.image == FACTS
    assert detection.model == ModelReference("m", 1, "b" * 64)
    assert detection.measured is None


def test_rates_hold_for_their_threshold_alone(detection: Detection) -> None:
    rates = Share(0.05, 0.04, 0.06), Share(0.9, 0.8, 0.95)
    for threshold, measured in ((0.5, (0.05, 0.9)), (0.6, (None, None))):
        known = Measured(threshold, *rates, real=10, fake=10)
        made = {one.name: getattr(detection, one.name) for one in fields(Detection)}
        result = result_of(Detection(**(made | {"calibration_measured": known})), cached=False)
        assert (result.calibration_fpr, result.calibration_tpr) == measured


def _as_json(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


@pytest.fixture
def detection() -> Detection:
    score = Score(0.9, True, 0.8, Verdict.UNCERTAIN, 2.2, 0.0, 0.5, Reason.SPREAD)
    detection = Detection.of(
        score,
        name="photo.jpg",
        views=1,
        image=FACTS,
        model=ModelReference("m", 1, "b" * 64),
        engine="torch",
        precision="fp32",
        processing_time=0.1,
        notice="Demo model.",
    )
    object.__setattr__(detection, "panel", _PANEL.to_json())
    object.__setattr__(detection, "agreement", _PANEL.agreement)
    object.__setattr__(detection, "clip", _CLIP.to_json())
    object.__setattr__(detection, "stability_probabilities", '{"jpeg":0.4,"mirrored":0.8}')
    return detection


def _opinion(name: str, prediction: float, verdict: Verdict) -> Opinion:
    return Opinion(
        model=ModelReference(name, 1, "b" * 64),
        prediction=prediction,
        verdict=verdict,
        reason=None,
        threshold=0.5,
        logit=2.2,
        calibration="news",
        calibrated=True,
        seconds=0.1,
    )


_FRAMES = [ClipFrame(float(at), 0.9, Verdict.FAKE, logit=2.2) for at in range(3)]
_CLIP = ClipVerdict.of(
    _FRAMES,
    course_of(_FRAMES, 0.5, AbstainBand()),
    sampling=FrameSampling(),
    duration=3.0,
    end=ClipEnd.CUT_SHORT,
)
_PANEL = PanelVerdict(
    PanelRule.CHIEF,
    (_opinion("m", 0.9, Verdict.FAKE), _opinion("other", 0.1, Verdict.REAL)),
    (Missing("third", "model_not_loaded", "It is not loaded."),),
)
