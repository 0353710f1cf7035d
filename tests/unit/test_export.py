"""Exports read back as what they were made of, and harm no spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from d3.domain.history import HistoryEntry, NewEntry
from d3.domain.services.export import COLUMNS, csv_chunks, document, json_lines_chunks
from tests.support.history import a_real_entry, an_entry


def stored(entry: NewEntry, id_: int = 7) -> HistoryEntry:
    return HistoryEntry(id=id_, **{one.name: getattr(entry, one.name) for one in fields(NewEntry)})


def rows(*entries: HistoryEntry) -> list[dict[str, str]]:
    text = b"".join(csv_chunks(entries)).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


@given(st.text(max_size=60))
def test_any_name_survives_csv_and_json(name):
    entry = stored(an_entry(name))
    (row,) = rows(entry)
    assert row["image_name"].removeprefix("'") == entry.image_name.removeprefix("'")
    assert json.loads(b"".join(json_lines_chunks([entry])))["image_name"] == entry.image_name


def test_a_name_is_no_formula():
    for name in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1"):  # noqa: RUF001
        (row,) = rows(stored(an_entry(name)))
        assert row["image_name"] == f"'{name}"


def test_a_negative_number_stays_a_number():
    (row,) = rows(stored(a_real_entry(logit=-1.5)))
    assert float(row["logit"]) == -1.5


def test_csv_tells_truth_and_nothing_plainly():
    (row,) = rows(stored(an_entry(image=None, model=None, user_id=None)))
    assert (row["is_fake"], row["cached"]) == ("true", "true")
    assert (row["image_sha256"], row["model_name"], row["user_id"]) == ("", "", "")
    assert list(row) == list(COLUMNS)


def test_no_entries_leave_a_header_and_no_lines():
    assert b"".join(csv_chunks([])).decode() == ",".join(COLUMNS) + "\r\n"
    assert list(json_lines_chunks([])) == []


def test_a_document_holds_all_of_an_entry():
    reported = document(stored(an_entry("a.jpg")))
    assert reported["model"] == {"name": "starter", "version": 2, "sha256": "b" * 64}
    assert reported["image"]["format"] == "JPEG"
    assert reported["image_sha256"] == "a" * 64
    assert reported["calibration"] == {"name": "temperature", "scale": 1.5, "bias": -0.25}
    assert reported["abstain"] == {"below": 0.1, "above": 0.2}
    assert reported["created_at"] == "2026-03-01T12:00:00+00:00"
    assert document(stored(an_entry(image=None, model=None)))["model"] is None
    json.dumps(reported, allow_nan=False)


def test_a_long_history_takes_little_memory():
    entry = stored(an_entry())
    tracemalloc.start()
    size = sum(len(chunk) for chunk in csv_chunks(entry for _ in range(20_000)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 5_000_000
    assert peak < 1_000_000
