"""The bodies of webhooks' events, made by the functions that make them in a service."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import d3
from d3.adapters.sql.job_rows import event_of
from d3.adapters.sql.outbox import body_of
from d3.domain.drift import Drift, DriftOfDay, DriftReport, Level
from d3.domain.history import HistoryEntry, VerdictCounts
from d3.domain.jobs import Job, JobCounts, JobState
from d3.domain.models import ModelReference
from d3.domain.scans import Scan, ScanCounts, ScanState, scan_finished
from d3.domain.scoring import Share, Verdict
from d3.domain.services.event_watch import drift_alert, model_changed
from d3.domain.services.export import document
from d3.domain.webhooks import CHOICES, OF_THE_SERVICE, EventType, NewEvent

_AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
_DAY = timedelta(days=1)
_SHA256 = "8131f3b015ec86763d0baf5f7751e2a5ac69c34121733ef54017458846c981c3"
_MODEL = ModelReference("d3-vit-l14", 1, _SHA256)
_WHEN = {
    EventType.JOB_FINISHED: "A job is done or cancelled. `data.job` is the job without its items.",
    EventType.SCAN_FINISHED: "A scan is done.",
    EventType.RESULT_CREATED: "An image was judged and its result is in the history. `data` is a "
    "line of [`history.jsonl`](files.md#results-as-json-lines).",
    EventType.MODEL_CHANGED: "The service uses another model, or another version of it.",
    EventType.DRIFT_ALERT: "The scores of the last week, or of one day in it, have "
    "[drifted](../drift.md). `days` are those that drifted.",
}


def events() -> str:
    """A section for each event that a webhook can ask for."""
    return "\n".join(_section(one) for one in CHOICES)


def _section(kind: EventType) -> str:
    whose = "Administrators" if kind in OF_THE_SERVICE else "Everybody, for what is their own,"
    body = json.dumps(json.loads(body_of(_example(kind))), indent=2)
    return (
        f"(event-{kind.value})=\n## `{kind.value}`\n\n{_WHEN[kind]} {whose} can ask for it.\n\n"
        f"```json\n{body}\n```\n"
    )


def _example(kind: EventType) -> NewEvent:
    if kind is EventType.JOB_FINISHED:
        return event_of(_job(), _AT)
    if kind is EventType.SCAN_FINISHED:
        return scan_finished(_scan(), _AT)
    data: dict[EventType, Callable[[], Mapping[str, Any]]] = {
        EventType.RESULT_CREATED: lambda: document(_result()),
        EventType.MODEL_CHANGED: lambda: model_changed(_MODEL),
        EventType.DRIFT_ALERT: lambda: drift_alert(_report()),
    }
    return NewEvent(type=kind, data=data[kind](), at=_AT)


def _job() -> Job:
    return Job(
        id=1,
        name="20260131-115800-1f2e",
        created_at=_AT - timedelta(minutes=2),
        expires_at=_AT + 7 * _DAY,
        finished_at=_AT,
        state=JobState.DONE,
        counts=JobCounts(items=3, fake=1, real=1, uncertain=1),
    )


def _scan() -> Scan:
    return Scan(
        id=1,
        name="archive-2026",
        source="s3://archive/2026/",
        model=_MODEL,
        threshold=0.5,
        views=1,
        created_at=_AT - timedelta(hours=2),
        finished_at=_AT,
        state=ScanState.DONE,
        listed=True,
        shards=4,
        counts=ScanCounts(fake=12, real=980, uncertain=7, error=1, listed=1000),
    )


def _result() -> HistoryEntry:
    return HistoryEntry(
        id=17,
        created_at=_AT,
        image_name="photo.jpg",
        image_sha256=_SHA256[::-1],
        image_format="JPEG",
        image_width=640,
        image_height=427,
        image_frames=1,
        image_bytes=81920,
        prediction=0.75,
        is_fake=True,
        verdict=Verdict.FAKE,
        confidence=0.5,
        threshold=0.5,
        logit=1.0986,
        processing_time=0.123,
        model_name=_MODEL.name,
        model_version=_MODEL.version,
        model_sha256=_MODEL.sha256,
        engine="torch",
        precision="fp32",
        device="cpu",
        d3_version=d3.__version__,
    )


def _report() -> DriftReport:
    labelled = VerdictCounts(fake=0, real=0, uncertain=0)
    found: dict[str, Any] = {
        "images": 1840,
        "scores": (),
        "psi": Share(0.31, 0.27, 0.36),
        "level": Level.DRIFTED,
        "labelled_real": labelled,
        "labelled_generated": labelled,
    }
    return DriftReport(
        model_name=_MODEL.name,
        model_version=_MODEL.version,
        calibration="newsroom",
        since=_AT - 7 * _DAY,
        total=Drift(**found),
        days=(DriftOfDay(start=_AT - _DAY, **found),),
        note="",
        notice="",
    )
