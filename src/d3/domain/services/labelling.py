"""Labels out of a table that people filled in: every mistake named with its line, or all kept."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from d3.domain.errors import LabelInvalid, LabelsRefused, shown
from d3.domain.files import Progress, no_progress
from d3.domain.history import LARGEST_ID
from d3.domain.labels import Label, LabelChange, NewLabel, label_of
from d3.domain.ports.clock import Clock
from d3.domain.ports.history import History
from d3.domain.tables import SAMPLE_CHARACTERS, delimiter_of

COLUMNS = ("id", "image_sha256", "label", "source", "note")
"""Those that are read; a table names its results by one of the first two."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[0-9]{1,19}")
_MOST_MISTAKES = 20


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did.

    Attributes:
        lines: with a label.
        results: that have a label from it; one file may have several.
        unchanged: results of which that was already said.
        empty: lines without a label, which say nothing.
        ignored: columns that were not read.
    """

    lines: int
    results: int
    unchanged: int
    empty: int
    ignored: tuple[str, ...]


@dataclass(slots=True)
class _Table:
    """What stands in a table.

    Attributes:
        said: what each line says about one result, or about a file by its hash.
        mistakes: with their lines.
    """

    said: list[tuple[int, int | str, NewLabel]] = field(default_factory=list)
    mistakes: list[tuple[int, str]] = field(default_factory=list)
    empty: int = 0
    ignored: tuple[str, ...] = ()


def import_labels(
    history: History, clock: Clock, text: str, progress: Progress = no_progress
) -> Imported:
    """Label results as a table says, in one transaction.

    The first line holds the columns' names: ``label``, and ``id`` or ``image_sha256`` or both, of
    which the id counts where there is one. A SHA-256 stands for every result of that file.
    ``source`` and ``note`` may follow; other columns are passed over. A line without a label says
    nothing, and one that repeats the label of a result adds nothing, unless its source or note is
    new.

    Raises:
        LabelsRefused: the table cannot be read, or some of its lines are wrong; nothing was kept.
    """
    table = _read(text, progress)
    meant = list(_resolved(history, table))
    if table.mistakes:
        raise _refusal(table.mistakes)
    before = history.last_labels({one.result_id for one in meant})
    labels = [one for one in meant if not _repeats(one, before.get(one.result_id))]
    progress("Storing", 0, len(labels))
    history.label(labels, clock.now())
    progress("Storing", len(labels), len(labels))
    return Imported(
        lines=len(table.said),
        results=len({one.result_id for one in labels}),
        unchanged=len({one.result_id for one in meant} - {one.result_id for one in labels}),
        empty=table.empty,
        ignored=table.ignored,
    )


def _read(text: str, progress: Progress) -> _Table:
    """The lines as they stand, without a look at the history."""
    delimiter = delimiter_of(text[:SAMPLE_CHARACTERS], lambda head: "label" in _names(head))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    table, total, line = _Table(), text.count("\n") + 1, 1
    try:
        names = _names(next(reader, []))
        _check_columns(names)
        table.ignored = tuple(one for one in names if one not in COLUMNS)
        line = reader.line_num + 1
        for row in reader:
            _take(table, line, names, row)
            progress("Reading", line, total)
            line = reader.line_num + 1
    except csv.Error as error:
        table.mistakes.append((line, f"The line is not CSV ({error})."))
    return table


def _names(head: Sequence[str]) -> list[str]:
    return [one.strip().lower() for one in head]


def _check_columns(names: Sequence[str]) -> None:
    if "label" not in names or not {"id", "image_sha256"} & set(names):
        raise LabelsRefused(
            "The first line does not name the columns that D3 needs.",
            "Name a column `label`, and one `id` or `image_sha256`; separate them by commas.",
        )
    twice = sorted({one for one in names if one in COLUMNS and names.count(one) > 1})
    if twice:
        raise LabelsRefused(f"The column `{twice[0]}` is there twice.", "Remove or rename one.")


def _take(table: _Table, line: int, names: Sequence[str], row: Sequence[str]) -> None:
    """Add what one line says, or its mistake."""
    if not any(one.strip() for one in row):
        return
    if len(row) > len(names):
        table.mistakes.append((line, f"It has {len(row)} values for {len(names)} columns."))
        return
    values = dict(zip(names, (one.strip() for one in row), strict=False))
    if not values.get("label"):
        table.empty += 1
        return
    try:
        which = _which(values.get("id", ""), values.get("image_sha256", "").lower())
        label = NewLabel(
            result_id=0,  # once it is known
            label=label_of(values["label"]),
            source=values.get("source", ""),
            note=values.get("note", ""),
        )
    except LabelInvalid as error:
        table.mistakes.append((line, str(error)))
    else:
        table.said.append((line, which, label))


def _which(id_: str, sha256: str) -> int | str:
    """The result's id, or the hash of its file."""
    if id_:
        if not _ID.fullmatch(id_) or not 1 <= int(id_) <= LARGEST_ID:
            raise LabelInvalid(f"{shown(id_)} is not the id of a result.")
        return int(id_)
    if not _SHA256.fullmatch(sha256):
        raise LabelInvalid(
            f"{shown(sha256)} is not a SHA-256." if sha256 else "It names no result.",
            "" if sha256 else "Give an id or an image_sha256.",
        )
    return sha256


def _resolved(history: History, table: _Table) -> Iterator[NewLabel]:
    """One label for each result that is meant; notes the lines that mean none or contradict."""
    results = history.identify({which for _, which, _ in table.said})
    before: dict[int, tuple[int, Label]] = {}
    for line, which, label in table.said:
        if which not in results:
            name = "id" if isinstance(which, int) else "image_sha256"
            table.mistakes.append((line, f"There is no result with the {name} {which}."))
        for id_ in results.get(which, ()):
            earlier, other = before.setdefault(id_, (line, label.label))
            if other is not label.label:
                sentence = f"Result {id_} is {label.label} here and {other} in line {earlier}."
                table.mistakes.append((line, sentence))
            else:
                yield replace(label, result_id=id_)


def _repeats(label: NewLabel, last: LabelChange | None) -> bool:
    """Whether a label says no more than the last one of its result."""
    return (
        last is not None
        and label.label is last.label
        and label.source in {"", last.source}
        and label.note in {"", last.note}
    )


def _refusal(mistakes: Sequence[tuple[int, str]]) -> LabelsRefused:
    told = [f"Line {line}: {what}" for line, what in sorted(mistakes)[:_MOST_MISTAKES]]
    if len(mistakes) > _MOST_MISTAKES:
        told.append(f"There are {len(mistakes) - _MOST_MISTAKES:,} more mistakes.")
    return LabelsRefused(
        "No label was stored, because some lines are wrong.",
        "Correct them and import the file again.",
        told,
    )
