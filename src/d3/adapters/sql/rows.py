"""Between the domain's records and rows of the tables."""

from __future__ import annotations

import json
from enum import StrEnum
from operator import attrgetter
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from d3.adapters.sql.tables import InferenceResult
from d3.domain.history import HistoryEntry, NewEntry, RequestRecord
from d3.domain.models import ModelReference
from d3.domain.panels import PanelRule
from d3.domain.records import ImageRecord, fields_of
from d3.domain.scans import Scan, ScanCounts, ScanRow, ScanState
from d3.domain.text import searchable, storable

_R = TypeVar("_R", bound=ImageRecord)


class RecordRows(Generic[_R]):
    """Between records of one kind and rows with a column for each of their fields.

    Args:
        record: the kind.
    """

    def __init__(self, record: type[_R]) -> None:
        found = fields_of(record).items()
        self.names = tuple(name for name, _ in found)
        self._record = record
        self._read = attrgetter(*self.names)
        self._texts = [(name, one.length) for name, one in found if one.length is not None]
        self._words = [(name, one.kind) for name, one in found if issubclass(one.kind, StrEnum)]

    def values(self, record: _R) -> dict[str, Any]:
        """The record's fields as a database takes them, by name."""
        values = dict(zip(self.names, self._read(record), strict=True))
        for name, length in self._texts:
            if (text := values[name]) is not None:
                values[name] = storable(text, length)
        return values

    def record(self, values: dict[str, Any]) -> _R:
        """The record of a row's values by name; words become members of their enumeration."""
        for name, kind in self._words:
            if (word := values[name]) is not None:
                values[name] = kind(word)
        return self._record(**values)


SCAN_ROWS = RecordRows(ScanRow)
_NEW, _KEPT = RecordRows(NewEntry), RecordRows(HistoryEntry)

COLUMNS = tuple(InferenceResult.__table__.c[name] for name in _KEPT.names)
"""Those that make an entry."""


def row_of(entry: NewEntry) -> dict[str, Any]:
    """The columns of an entry, all but its id."""
    return _NEW.values(entry) | {
        "demo": entry.is_demo,
        "label": None,
        "searchable_name": searchable(entry.image_name),
    }


def entry_of_row(row: sa.Row[Any]) -> HistoryEntry:
    """The entry of a row with :data:`COLUMNS`."""
    return _KEPT.record(dict(zip(_KEPT.names, row, strict=True)))


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
        panel=tuple(ModelReference(**one) for one in json.loads(found.panel or "[]")),
        panel_rule=PanelRule(found.panel_rule),
        stability=found.stability,
        video=found.video,
    )
