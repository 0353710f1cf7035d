"""``d3 labels``: what people say images truly are."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from d3.domain.errors import LabelsRefused
from d3.domain.labels import LabelChange
from d3.entrypoints.cli.opening import opened
from d3.entrypoints.cli.options import FILE
from d3.entrypoints.cli.output import complain, counted, out
from d3.entrypoints.cli.progress import progress
from d3.entrypoints.cli.results import Column, Form, moment, print_rows, shows


def _since(change: LabelChange) -> str:
    return moment(change.created_at)


_COLUMNS: list[Column[LabelChange]] = [
    Column("result_id", lambda one: one.result_id, printed=False),
    Column("label", lambda one: one.label.value),
    Column("source", lambda one: one.source),
    Column("note", lambda one: one.note),
    Column("created_at", lambda one: one.created_at, _since, "SINCE (UTC)"),
    Column("user_id", lambda one: one.user_id),
]


@click.group()
def labels() -> None:
    """Say what images truly are.

    A label is `real`, `generated` or `unknown`. It stands beside the verdict of a result and never
    changes it. `unknown` takes back what was said before. `d3 calibrate --from-history` learns
    from labels.
    """


@labels.command("set")
@click.argument("result_id", type=click.IntRange(min=1), metavar="ID")
@click.argument("label", metavar="real|generated|unknown")
@click.option("--source", default="", help="How it is known, such as photographer.")
@click.option("--note", default="", help="Anything else.")
def set_label(result_id: int, label: str, *, source: str, note: str) -> None:
    """Label the result with this ID."""
    from d3.domain.labels import NewLabel, label_of

    said = NewLabel(result_id=result_id, label=label_of(label), source=source, note=note)
    container = opened()
    container.history().label([said], container.clock().now())
    out().print(f"Result {result_id} is labelled {said.label}.")


@labels.command("list")
@click.argument("result_id", type=click.IntRange(min=1), metavar="ID")
@shows
def list_labels(result_id: int, *, form: Form) -> None:
    """Show all that was said about the image of a result, newest first."""
    print_rows(form, opened().history().labels(result_id), _COLUMNS, asdict)


@labels.command("import")
@click.argument("file", type=FILE)
def import_file(file: str) -> None:
    """Label results as FILE, a CSV table, says. All lines are taken or none is.

    Its first line names the columns: `label`, and `id` or `image_sha256`; `source` and `note` may
    follow. An image_sha256 labels every result of that image. An exported history with a filled-in
    column `label` will do: lines without a label are passed over.
    """
    from d3.domain.services.labelling import import_labels

    text = _text_of(Path(file))
    container = opened()
    try:
        with progress("Reading") as tell:
            done = import_labels(container.history(), container.clock(), text, tell)
    except LabelsRefused as error:
        for one in error.mistakes:
            complain(one)
        raise
    out().print(f"{counted(done.results, 'result')} labelled by {counted(done.lines, 'line')}.")
    if done.unchanged:
        same = f"{counted(done.unchanged, 'result')} already had the label and stay as they are."
        complain(same, "note")
    if done.empty:
        complain(f"{counted(done.empty, 'line')} without a label passed over.", "note")
    if done.ignored:
        names = ", ".join(one or "(no name)" for one in done.ignored)
        complain(f"Columns that were not read: {names}.", "note")


def _text_of(file: Path) -> str:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return stream.read()
    except UnicodeDecodeError as error:
        raise LabelsRefused(
            f"{file.name} is not text in UTF-8.", "Save it as CSV in UTF-8."
        ) from error
    except OSError as error:
        raise LabelsRefused(
            f"{file.name} cannot be read ({error.strerror}).", "Check the file and its permissions."
        ) from error
