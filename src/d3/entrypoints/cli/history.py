"""``d3 history``: the results that were stored, and letting go of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import click

from d3.domain.errors import ResultNotFound
from d3.domain.history import LARGEST_ID, MAX_PAGE, HistoryEntry, HistoryFilter
from d3.domain.labels import LabelIs
from d3.domain.ordering import Order, SortKey
from d3.domain.ports.history import History
from d3.domain.provenance import Says
from d3.domain.scoring import Verdict
from d3.domain.services.export import csv_chunks, document, flat, json_lines_chunks
from d3.entrypoints.cli.opening import opened
from d3.entrypoints.cli.options import YES, complete_model
from d3.entrypoints.cli.output import complain, confirmed, counted, out
from d3.entrypoints.cli.progress import progress, told_of
from d3.entrypoints.cli.results import (
    STDOUT,
    Column,
    Form,
    export_form,
    moment,
    print_facts,
    print_rows,
    shows,
    write_export,
)
from d3.entrypoints.cli.spans import lifetime

Command = TypeVar("Command", bound=Callable[..., Any])

_FORMS = {"csv": csv_chunks, "jsonl": json_lines_chunks}
_RESULT = click.IntRange(1, LARGEST_ID)
_SHA256 = 64


def _verdict(entry: HistoryEntry) -> str:
    return f"{entry.verdict.value}{' demo' if entry.notice else ''}"


def _share(entry: HistoryEntry) -> str:
    return f"{entry.prediction:.3f}"


_COLUMNS: list[Column[HistoryEntry]] = [
    Column("id", lambda one: one.id, right=True, whole=True),
    Column(
        "created_at",
        lambda one: one.created_at,
        lambda one: moment(one.created_at),
        "UTC",
        whole=True,
    ),
    Column("verdict", lambda one: one.verdict.value, _verdict),
    Column(
        "prediction", lambda one: one.prediction, lambda one: f"{one.prediction:.3f}", right=True
    ),
    Column("label", lambda one: one.label),
    Column("model", lambda one: one.model_name),
    Column("image_name", lambda one: one.image_name, title="IMAGE"),
]


@click.group()
def history() -> None:
    """List, show, export and delete stored results."""


def _words(kind: type[Any]) -> click.Choice[str]:
    return click.Choice([one.value for one in kind])


def _time(_: click.Context, __: click.Parameter, given: str | None) -> datetime | None:
    """A callback of click: a moment, or a time from now back."""
    if given is None:
        return None
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        try:
            return datetime.now(UTC) - lifetime(given)
        except (click.BadParameter, OverflowError) as error:
            raise click.BadParameter(
                f"{given!r} is not a time. Write 2026-01-31, 2026-01-31T12:00Z, or 7d for seven "
                "days ago."
            ) from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _sha256(_: click.Context, __: click.Parameter, given: str | None) -> str | None:
    """A callback of click: only a SHA-256 passes."""
    if given is not None and (len(given) != _SHA256 or set(given.lower()) - {*"0123456789abcdef"}):
        raise click.BadParameter("A SHA-256 has 64 hexadecimal digits.")
    return given


_FILTERS = (
    click.option("--verdict", type=_words(Verdict), help="Only this verdict."),
    click.option(
        "--model",
        metavar="NAME",
        shell_complete=complete_model,
        help="Only results of this model.",
    ),
    click.option("--label", type=_words(LabelIs), help="Only this label; none: only without one."),
    click.option(
        "--since", metavar="TIME", callback=_time, help="Judged then or later: 2026-01-31 or 7d."
    ),
    click.option("--until", metavar="TIME", callback=_time, help="Judged before that time."),
    click.option("--contains", metavar="TEXT", help="Only images whose name contains this."),
    click.option(
        "--sha256",
        "image_sha256",
        metavar="DIGITS",
        callback=_sha256,
        help="Only results of this file.",
    ),
    click.option(
        "--provenance", type=_words(Says), help="Only images whose file says this of itself."
    ),
    click.option("--disagree", is_flag=True, help="Only where the models of a panel disagree."),
    click.option("--user", "username", metavar="USERNAME", help="Only results of this user."),
)


def filtered(command: Command) -> Command:
    """Give a command the filters of the history, as the service has them."""
    for one in reversed(_FILTERS):
        command = one(command)
    return command


def _where(container: Any, asked: dict[str, Any]) -> HistoryFilter:
    username = asked.pop("username")
    kinds = {"verdict": Verdict, "label": LabelIs, "provenance": Says}
    for name, kind in kinds.items():
        asked[name] = None if asked[name] is None else kind(asked[name])
    asked["disagree"] = asked["disagree"] or None
    user_id = None if username is None else container.accounts().user(username).id
    return HistoryFilter(**asked, user_id=user_id)


@history.command("list")
@filtered
@click.option(
    "--sort",
    type=_words(SortKey),
    default=SortKey.CREATED_AT.value,
    show_default=True,
    help="What decides the order, the newest or largest first.",
)
@click.option("--reverse", is_flag=True, help="The oldest or smallest first.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Most results."
)
@click.option("--all", "everything", is_flag=True, help="All that match, whatever --limit says.")
@shows
def list_results(
    *, sort: str, reverse: bool, limit: int, everything: bool, form: Form, **asked: Any
) -> None:
    """Show stored results, newest first.

    Times without a time zone are UTC. CSV and JSON have all that `d3 history export` writes.
    """
    container = opened()
    where, order = _where(container, asked), Order(SortKey(sort), descending=not reverse)
    entries = _entries(container.history(), where, order)
    found = entries if everything else islice(entries, min(limit, sys.maxsize))
    if form is Form.CSV:
        for chunk in csv_chunks(found):
            sys.stdout.write(chunk.decode())
        sys.stdout.flush()
        return
    notices: set[str] = set()

    def seen() -> Iterator[HistoryEntry]:
        for one in found:
            notices.add(one.notice)
            yield one

    print_rows(form, seen(), _COLUMNS, document, none="No stored result matches.")
    for notice in sorted(notices - {""}) if form is Form.TABLE else ():
        complain(f"(demo) {notice}", "note")


def _entries(history: History, where: HistoryFilter, order: Order) -> Iterator[HistoryEntry]:
    """All that match, page by page."""
    cursor = None
    while True:
        page = history.page_after(where, MAX_PAGE, cursor, order)
        yield from page.entries
        if (cursor := page.next_cursor) is None:
            return


@history.command()
@click.argument("result_id", type=_RESULT, metavar="ID")
@shows
def show(result_id: int, *, form: Form) -> None:
    """Show all that is stored of the result with this ID."""
    entry = opened().history().get(result_id)
    values = flat(entry)
    if form is Form.CSV:
        for chunk in csv_chunks([entry]):
            sys.stdout.write(chunk.decode())
        return
    print_facts(form, values.items(), document(entry))


@history.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice([*_FORMS]),
    help="Format of FILE.  [default: what its name ends in]",
)
@filtered
def export(file: Path, *, form: str | None, **asked: Any) -> None:
    """Write all results that match into FILE: .csv or .jsonl, or - for stdout.

    An existing FILE is replaced when all is written.
    """
    form = export_form(file, form, [*_FORMS])
    container = opened()
    where = _where(container, asked)
    total = container.history().page(where, 1).total
    with progress("Writing") as tell:
        entries: Iterable[HistoryEntry] = container.history().iterate(where)
        write_export(file, _FORMS[form](told_of(entries, tell, "Writing", total)))
    if file != STDOUT:
        out().print(f"{counted(total, 'result')} in {file}", markup=False)


@history.command()
@click.argument("result_ids", type=_RESULT, nargs=-1, required=True, metavar="ID...")
@YES
def delete(result_ids: tuple[int, ...], *, yes: bool) -> None:
    """Delete results for good, with their labels.

    If one of them is not there, none is deleted.
    """
    store = opened().history()
    ids = sorted({*result_ids})
    known = store.identify(ids)
    if missing := [one for one in ids if one not in known]:
        raise ResultNotFound(
            f"There is no result with the id {', '.join(map(str, missing))}.",
            "`d3 history list` shows the results. Nothing was deleted.",
        )
    what = counted(len(ids), "result")
    if not yes and not confirmed(f"Permanently delete {what}?"):
        complain("Nothing was deleted.", "note")
        return
    store.delete_many(ids)
    out().print(f"Deleted {what}.", markup=False)


@history.command()
@click.option(
    "--results", type=lifetime, metavar="SPAN", help="Delete results older than this, such as 365d."
)
@click.option(
    "--requests", type=lifetime, metavar="SPAN", help="Delete request records older than this."
)
def purge(*, results: timedelta | None, requests: timedelta | None) -> None:
    """Delete old results and request records.

    Without options, D3_HISTORY_DAYS and D3_REQUEST_LOG_DAYS set the age. The service does the same
    once an hour.
    """
    container = opened()
    settings, now = container.settings(), container.clock().now()

    def before(span: timedelta | None, days: int) -> datetime | None:
        span = span or (timedelta(days=days) if days else None)
        return None if span is None else now - span

    with progress("Deleting"):
        gone = container.history().forget(
            before(results, settings.history_days), before(requests, settings.request_log_days)
        )
    out().print(f"{counted(gone[0], 'result')} and {counted(gone[1], 'record')} deleted.")
