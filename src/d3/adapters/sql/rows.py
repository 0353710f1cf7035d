"""Between entries of the domain and rows of the tables."""

from __future__ import annotations

from typing import Any

from d3.adapters.sql.tables import InferenceResult
from d3.domain.history import HistoryEntry, NewEntry, RequestRecord
from d3.domain.images import Content, ImageFacts, Note
from d3.domain.models import ModelReference
from d3.domain.scans import Scan, ScanCounts, ScanState
from d3.domain.scoring import AbstainBand, Calibration, Reason, Verdict
from d3.domain.text import storable

COLUMNS = tuple(InferenceResult.__table__.columns)
_AS_THEY_ARE = (
    *("prediction", "is_fake", "confidence", "threshold", "processing_time", "created_at"),
    *("user_id", "logit", "views", "spread", "cached"),
)
_CONTENTS = frozenset(one.value for one in Content)


def row_of(entry: NewEntry) -> dict[str, Any]:
    """The columns of an entry, all but its id."""
    image, model = entry.image, entry.model
    row: dict[str, Any] = {name: getattr(entry, name) for name in _AS_THEY_ARE}
    return row | {
        "image_name": storable(entry.image_name),
        "verdict": entry.verdict.value,
        "image_sha256": image and image.sha256,
        "image_format": image and storable(image.format, 32),
        "image_width": image and image.width,
        "image_height": image and image.height,
        "image_frames": image and image.frames,
        "image_bytes": image and image.size_bytes,
        "image_note": image and image.note and image.note.value,
        "model_name": model and storable(model.name),
        "model_version": model and model.version,
        "model_sha256": model and model.sha256,
        "engine": storable(entry.engine, 32),
        "precision": storable(entry.precision, 16),
        "calibration_name": storable(entry.calibration.name),
        "calibration_scale": entry.calibration.scale,
        "calibration_bias": entry.calibration.bias,
        "abstain_below": entry.abstain_band.below,
        "abstain_above": entry.abstain_band.above,
        "d3_version": storable(entry.d3_version, 64),
        "request_id": None if entry.request_id is None else storable(entry.request_id),
        "reason": entry.reason and entry.reason.value,
        "notice": entry.notice,
        "demo": entry.is_demo,
    }


def entry_of_row(row: Any) -> HistoryEntry:
    """The entry a row with :data:`COLUMNS` stands for."""
    image = model = None
    if row.image_sha256 is not None:
        image = ImageFacts(
            format=row.image_format,
            width=row.image_width,
            height=row.image_height,
            frames=row.image_frames,
            size_bytes=row.image_bytes,
            sha256=row.image_sha256,
            content=Content(row.reason) if row.reason in _CONTENTS else Content.PICTURE,
            note=None if row.image_note is None else Note(row.image_note),
        )
    if row.model_sha256 is not None:
        model = ModelReference(row.model_name, row.model_version, row.model_sha256)
    return HistoryEntry(
        id=row.id,
        image_name=row.image_name,
        verdict=Verdict(row.verdict),
        image=image,
        model=model,
        engine=row.engine,
        precision=row.precision,
        calibration=Calibration(row.calibration_scale, row.calibration_bias, row.calibration_name),
        abstain_band=AbstainBand(row.abstain_below, row.abstain_above),
        d3_version=row.d3_version,
        request_id=row.request_id,
        reason=None if row.reason is None else Reason(row.reason),
        notice=row.notice,
        **{name: getattr(row, name) for name in _AS_THEY_ARE},
    )


def log_row_of(record: RequestRecord) -> dict[str, Any]:
    """The columns of a request's record, all but its id."""
    return {
        "endpoint": storable(record.endpoint),
        "method": storable(record.method, 16),
        "status_code": record.status_code,
        "ip_address": None if record.ip_address is None else storable(record.ip_address, 64),
        "response_time": record.response_time,
        "created_at": record.created_at,
        "request_id": None if record.request_id is None else storable(record.request_id),
        "user_id": record.user_id,
        "requests": record.requests,
    }


def scan_of(found: Any, counts: ScanCounts) -> Scan:
    """A scan out of its row."""
    return Scan(
        id=found.id,
        name=found.name,
        source=found.source,
        model=ModelReference(found.model_name, found.model_version, found.model_sha256),
        threshold=found.threshold,
        views=found.views,
        created_at=found.created_at,
        by_service=found.by_service,
        state=ScanState(found.state),
        listed=found.listed,
        shards=found.shards,
        finished_at=found.finished_at,
        counts=counts,
        trouble=found.trouble,
        notice=found.notice,
    )
