"""What later versions added has one name and one shape wherever a result is told."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from msgspec import structs

from d3.domain.detections import Detection
from d3.domain.history import HistoryEntry, NewEntry
from d3.domain.images import ImageFacts, Note, named_facts
from d3.domain.scans import ROW_FIELDS
from d3.domain.services.export import COLUMNS, document, flat
from d3.entrypoints.cli.detect import _show
from d3.entrypoints.http.api.scan_schemas import ScanResultItem
from d3.entrypoints.http.api.schemas import HistoryItem, Result, result_of
from tests.support.history import an_entry

FACTS = ImageFacts("JPEG", 640, 480, 2, 999, "a" * 64, note=Note.TWO_PICTURES)
NAMES = {"reason", "reason_text", "notice", *named_facts(FACTS)}


def test_every_table_and_answer_has_them() -> None:
    for kind in (Result, HistoryItem, ScanResultItem):
        assert {one.name for one in structs.fields(kind)} >= NAMES, kind
    assert set(COLUMNS) >= NAMES
    assert set(ROW_FIELDS) >= NAMES


def test_they_hold_the_same_wherever_a_result_is_told(
    detection: Detection, capsys: pytest.CaptureFixture[str]
) -> None:
    _show(detection, first=True, as_json=True)
    told = json.loads(capsys.readouterr().out)
    answered = structs.asdict(result_of(detection, cached=False))
    values = {one.name: getattr(an_entry(image=FACTS), one.name) for one in fields(NewEntry)}
    entry = HistoryEntry(id=1, **values)
    for name, value in named_facts(FACTS).items():
        assert told[name] == answered[name] == flat(entry)[name] == document(entry)[name] == value
    assert told["image_name"] == told["name"] == "photo.jpg"


@pytest.fixture
def detection() -> Detection:
    from d3.domain.models import ModelReference
    from d3.domain.scoring import Verdict

    return Detection(
        prediction=0.9,
        is_fake=True,
        confidence=0.8,
        verdict=Verdict.FAKE,
        logit=2.2,
        spread=0.0,
        threshold=0.5,
        name="photo.jpg",
        views=1,
        image=FACTS,
        model=ModelReference("m", 1, "b" * 64),
        engine="torch",
        precision="fp32",
        processing_time=0.1,
    )
