"""A table of labels is taken as a whole, or every mistake in it is named with its line."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from d3.domain.errors import LabelInvalid, LabelsRefused
from d3.domain.history import HistoryFilter
from d3.domain.labels import Label, NewLabel
from d3.domain.services.labelling import Imported, import_labels
from tests.support.history import an_entry
from tests.support.memory.history import MemoryHistory

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ONE, TWO = "a" * 64, "b" * 64


class Clock:
    def now(self) -> datetime:
        return NOON

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
def history() -> MemoryHistory:
    """Results 1 and 3 of one file, 2 of another."""
    kept = MemoryHistory()
    kept.add_many([an_entry(image_sha256=sha256) for sha256 in (ONE, TWO, ONE)])
    return kept


def labels(history: MemoryHistory) -> dict[int, str | None]:
    found = history.iterate(HistoryFilter())
    return {entry.id: entry.label and entry.label.value for entry in found}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id,label\n1,real\n2,generated\n", {1: "real", 2: "generated", 3: None}),
        ("label;id\r\n real ; 3 \r\n\r\n", {1: None, 2: None, 3: "real"}),
        (
            f"image_sha256\tlabel\n{ONE.upper()}\tGenerated",
            {1: "generated", 2: None, 3: "generated"},
        ),
        (
            f"ID,Image_SHA256,Label\n2,{ONE},unknown\n,{ONE},real\n",
            {1: "real", 2: "unknown", 3: "real"},
        ),
        ("id,label,note\n1,real,one\n1,real,two\n", {1: "real", 2: None, 3: None}),
        ("id,label\n", {1: None, 2: None, 3: None}),
    ],
)
def test_a_table_labels_results_and_all_results_of_a_file(
    history: MemoryHistory, text: str, expected: dict[int, str | None]
) -> None:
    import_labels(history, Clock(), text)
    assert labels(history) == expected


def test_what_was_taken_and_what_not_is_counted(history: MemoryHistory) -> None:
    text = f'name,id,image_sha256,label,source,note\nx,,{ONE},real,agency,"two\nlines"\ny,2,,,,\n'
    told: list[tuple[str, int, int]] = []
    done = import_labels(history, Clock(), text, lambda *step: told.append(step))
    assert done == Imported(lines=1, results=2, unchanged=0, empty=1, ignored=("name",))
    (change,) = history.labels(3)
    assert (change.label, change.source, change.note) == (Label.REAL, "agency", "two\nlines")
    assert (change.created_at, change.user_id) == (NOON, None)
    assert told[-1] == ("Storing", 2, 2)


def test_every_mistake_is_named_with_its_line_and_nothing_is_kept(history: MemoryHistory) -> None:
    lines = [
        "id,image_sha256,label,note",
        "1,,real,good",
        "1,,fake,",
        '2,,real,"a note\nof two lines"',
        "99,,real,",
        "x,,real,",
        ",abc,real,",
        f",{'c' * 64},real,",
        ",,real,",
        "0,,real,",
        f"1,,real,{'n' * 2001}",
        "1,,real,,more",
        f",{ONE},generated,",
        "1,,real,bell \a",
        f"{2**63},,real,",
    ]
    with pytest.raises(LabelsRefused) as refusal:
        import_labels(history, Clock(), "\n".join(lines))
    said = refusal.value.mistakes
    assert "No label was stored, because some lines are wrong." in str(refusal.value)
    assert [line.split(": ")[0] for line in said] == [
        f"Line {n}" for n in (3, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
    ]
    for word, line in (
        *(("'fake' is not a label", 3), ("no result with the id 99", 6), ("'x' is not the id", 7)),
        *(("not a SHA-256", 8), ("no result with the image_sha256", 9), ("no result", 10)),
        *(("'0' is not the id", 11), ("2,001 characters", 12), ("5 values for 4 columns", 13)),
        *(("generated here and real in line 2", 14), ("control character", 15)),
    ):
        assert word in next(one for one in said if one.startswith(f"Line {line}:")), word
    assert set(labels(history).values()) == {None}


def test_of_many_mistakes_the_first_are_named(history: MemoryHistory) -> None:
    with pytest.raises(LabelsRefused) as refusal:
        import_labels(history, Clock(), "id,label\n" + "x,real\n" * 100)
    *lines, rest = refusal.value.mistakes
    assert [line.split(":")[0] for line in lines] == [f"Line {n}" for n in range(2, 22)]
    assert rest == "There are 80 more mistakes."


def test_a_table_that_is_imported_again_adds_nothing(history: MemoryHistory) -> None:
    table = "id,label,source\n1,real,photographer\n2,generated,\n"
    assert import_labels(history, Clock(), table).results == 2
    again = import_labels(history, Clock(), table)
    assert (again.results, again.unchanged) == (0, 2)
    assert import_labels(history, Clock(), "id,label\n1,real\n").results == 0
    assert [one.source for one in history.labels(1)] == ["photographer"]
    more = import_labels(history, Clock(), "id,label,note\n1,real,asked again\n2,real,\n")
    assert (more.results, more.unchanged) == (2, 0)
    assert [len(history.labels(one)) for one in (1, 2)] == [2, 2]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        *(("", "first line"), ("1,real\n", "first line"), ("id,lable\n1,real", "first line")),
        *(("path,label\nx,real", "first line"), ("id,label,label\n1,real,real", "twice")),
        *(
            ('id,label\n1,"' + "x" * 200_000, "not CSV"),
            ('id,label\n1,real\n2,"real', "Line 3: .* CSV"),
        ),
    ],
)
def test_a_table_without_the_columns_is_refused(
    history: MemoryHistory, text: str, word: str
) -> None:
    with pytest.raises(LabelsRefused) as refusal:
        import_labels(history, Clock(), text)
    assert re.search(word, " ".join([str(refusal.value), *refusal.value.mistakes]))


@pytest.mark.parametrize(
    "texts",
    [
        {"source": "two\nlines"},
        {"source": "s" * 256},
        {"note": "n" * 2001},
        {"note": "\x1b[0m"},
        {"note": "\u202e"},
    ],
)
def test_texts_that_are_too_long_or_hold_controls_are_refused(texts: dict[str, str]) -> None:
    with pytest.raises(LabelInvalid):
        NewLabel(result_id=1, label=Label.REAL, **texts)


def test_texts_of_any_script_are_kept() -> None:
    said = NewLabel(result_id=1, label=Label.REAL, source="写真家 🦄", note="a\r\nb\tc \ud800")
    assert (said.source, said.note) == ("写真家 🦄", "a\nb\tc \ufffd")
