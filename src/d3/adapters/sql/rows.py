"""Between the domain's records and rows of the tables."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

import sqlalchemy as sa

from d3.adapters.sql.tables import InferenceResult
from d3.domain.history import HistoryEntry, NewEntry, RequestRecord
from d3.domain.models import ModelReference
from d3.domain.records import ImageRecord, fields_of
from d3.domain.scans import Scan, ScanCounts, ScanState
from d3.domain.text import storable

COLUMNS = tuple(InferenceResult.__table__.c[name] for name in fields_of(HistoryEntry))
"""Those that make an entry."""

_R = TypeVar("_R", bound=ImageRecord)


def row_of(entry: NewEntry) -> dict[str, Any]:
    """The columns of an entry, all but its id."""
    return values_of(entry) | {"demo": entry.is_demo}


def values_of(record: ImageRecord) -> dict[str, Any]:
    """A record's fields as a database takes them, by name."""
    names, read, texts = _reading(type(record))
    values = dict(zip(names, read(record), strict=True))
    for name, length in texts:
        if (text := values[name]) is not None:
            values[name] = storable(text, length)
    return values


def record_of(record: type[_R], values: dict[str, Any]) -> _R:
    """The record of a row's values by name; words become members of their enumeration."""
    for name, kind in _words(record):
        if (word := values[name]) is not None:
            values[name] = kind(word)
    return record(**values)


def entry_of_row(row: sa.Row[Any]) -> HistoryEntry:
    """The entry of a row with :data:`COLUMNS`."""
    return record_of(HistoryEntry, dict(zip(row._fields, row, strict=True)))


@cache
def _reading(
    record: type[Any],
) -> tuple[tuple[str, ...], Callable[[ImageRecord], tuple[Any, ...]], list[tuple[str, int]]]:
    """The names of a record's fields, what reads them in this order, and how long texts may be."""
    found = fields_of(record)
    texts = [(name, one.length) for name, one in found.items() if one.length is not None]
    return tuple(found), attrgetter(*found), texts


@cache
def _words(record: type[Any]) -> list[tuple[str, type[Any]]]:
    found = fields_of(record).items()
    return [(name, one.kind) for name, one in found if issubclass(one.kind, StrEnum)]


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
