"""The history and jobs as CSV or JSON lines, written while they are read, in bounded memory."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from d3.domain.history import HistoryEntry
from d3.domain.jobs import JobItem
from d3.domain.records import in_order, parsed

_FIRST_COLUMNS = (
    *("id", "image_name", "prediction", "is_fake", "verdict", "confidence", "threshold"),
    *("logit", "views", "spread", "processing_time", "created_at", "user_id"),
    *("image_sha256", "image_format", "image_width", "image_height", "image_frames"),
    *("image_bytes", "model_name", "model_version", "model_sha256", "engine", "precision"),
    *("calibration_name", "calibration_scale", "calibration_bias"),
    *("abstain_below", "abstain_above", "cached", "d3_version", "request_id"),
    *("reason", "reason_text", "notice", "image_note", "image_note_text"),
    *("provenance_says", "provenance_sources", "view_logits", "device", "libraries", "label"),
)
COLUMNS = in_order(_FIRST_COLUMNS, HistoryEntry)
"""The columns of the CSV, in order; later versions add theirs behind these."""

_ITEM_FIELDS = ("number", "name", "external_id", "state", "result_id", "error", "code")
_ITEM_COLUMNS = ("number", "name", "external_id", "state", "inference_id", "error", "code")
_GROUPS = {
    group: {name: name.removeprefix(f"{group}_") for name in COLUMNS if name.startswith(group)}
    for group in ("image", "model", "calibration", "abstain")
}
del _GROUPS["image"]["image_name"]
_CHUNK_CHARACTERS = 64 * 1024
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")  # noqa: RUF001 -- full-width signs


def csv_chunks(entries: Iterable[HistoryEntry]) -> Iterator[bytes]:
    """RFC 4180 in UTF-8 with a header, in pieces of about 64 KiB.

    Booleans are ``true`` and ``false``, unknown values are empty. Text that a spreadsheet would
    take for a formula gets an apostrophe in front, since names come from outside.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for entry in entries:
        writer.writerow(map(_cell, flat(entry).values()))
        if text.tell() >= _CHUNK_CHARACTERS:
            yield _drained(text)
    yield _drained(text)


def json_lines_chunks(entries: Iterable[HistoryEntry]) -> Iterator[bytes]:
    """One :func:`document` a line in UTF-8, in pieces of about 64 KiB."""
    text = io.StringIO()
    for entry in entries:
        json.dump(document(entry), text, ensure_ascii=False, separators=(",", ":"))
        text.write("\n")
        if text.tell() >= _CHUNK_CHARACTERS:
            yield _drained(text)
    if text.tell():
        yield _drained(text)


def job_csv_chunks(items: Iterable[JobItem]) -> Iterator[bytes]:
    """The items of a job as :func:`csv_chunks`; what is not judged, or deleted, has no result."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow((*_ITEM_COLUMNS, *COLUMNS))
    for item in items:
        found = {} if item.entry is None else flat(item.entry)
        values = (*_item(item).values(), *(found.get(name) for name in COLUMNS))
        writer.writerow(map(_cell, values))
        if text.tell() >= _CHUNK_CHARACTERS:
            yield _drained(text)
    yield _drained(text)


def job_json_lines_chunks(items: Iterable[JobItem]) -> Iterator[bytes]:
    """One item a line in UTF-8, with the :func:`document` of its result, one by one."""
    for item in items:
        result = None if item.entry is None else document(item.entry)
        line = json.dumps(_item(item) | {"result": result}, ensure_ascii=False)
        yield f"{line}\n".encode()


def csv_line(values: Iterable[object]) -> str:
    """One line as :func:`csv_chunks` writes it, with its end; lists are written as JSON."""
    text = io.StringIO(newline="")
    csv.writer(text).writerow(map(_cell, values))
    return text.getvalue()


def _item(item: JobItem) -> dict[str, Any]:
    values = {name: getattr(item, name) for name in _ITEM_FIELDS}
    return dict(zip(_ITEM_COLUMNS, values.values(), strict=True))


def document(entry: HistoryEntry) -> dict[str, Any]:
    """The entry as JSON holds it.

    ``image``, ``model``, ``calibration`` and ``abstain`` are objects, or None where nothing of them
    was recorded. What is known of the image also stands beside them, by its columns.
    """
    values = flat(entry) | parsed(entry) | {"logits": entry.logits}
    del values["panel"], values["stability_probabilities"]  # what they hold stands there
    for group, names in _GROUPS.items():
        parts = {part: values[name] for name, part in names.items()}
        values[group] = None if set(parts.values()) == {None} else parts
        if group != "image":
            for name in names:
                del values[name]
    return values


def flat(entry: HistoryEntry) -> dict[str, Any]:
    """The entry by :data:`COLUMNS`; times are ISO 8601 in UTC."""
    values = {name: getattr(entry, name) for name in COLUMNS}
    return values | {"created_at": entry.created_at.isoformat()}


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value


def _drained(text: io.StringIO) -> bytes:
    content = text.getvalue().encode()
    text.seek(0)
    text.truncate()
    return content
