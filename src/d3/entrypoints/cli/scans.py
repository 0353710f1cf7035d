"""``d3 scans``: the scans there are, and their rows."""

from __future__ import annotations

from pathlib import Path

import click

from d3.domain.panels import Agreement
from d3.domain.scans import Scan
from d3.entrypoints.cli.opening import opened
from d3.entrypoints.cli.options import LIMIT, YES
from d3.entrypoints.cli.output import complain, confirmed, counted, out
from d3.entrypoints.cli.progress import progress, told_of
from d3.entrypoints.cli.results import (
    STDOUT,
    Column,
    Form,
    count_column,
    export_form,
    print_facts,
    print_rows,
    shows,
    write_export,
)
from d3.entrypoints.cli.scan import to_dict

_ID = click.argument("scan_id", metavar="ID")


def _source(scan: Scan) -> str:
    return f"{scan.source}{' (demo)' if scan.notice else ''}"


_COLUMNS: list[Column[Scan]] = [
    Column("id", lambda scan: scan.name, whole=True),
    Column("state", lambda scan: scan.state.value),
    count_column("rows", "IMAGES"),
    *map(count_column, ("fake", "uncertain")),
    Column("real", lambda scan: scan.counts.real, printed=False),
    count_column("error", "ERRORS"),
    Column("created_at", lambda scan: scan.created_at, printed=False),
    Column("finished_at", lambda scan: scan.finished_at, printed=False),
    Column("source", lambda scan: scan.source, _source),
    Column("notice", lambda scan: scan.notice, printed=False),
]


@click.group()
def scans() -> None:
    """List, show, cancel, remove and export bulk scans."""


@scans.command("list")
@LIMIT
@shows
def list_scans(*, limit: int, form: Form) -> None:
    """Show the newest scans."""
    found = opened().scan_ledger().newest(limit)
    none = "There are no scans yet. Start one with `d3 scan SOURCE`."
    print_rows(form, found, _COLUMNS, to_dict, none=none)
    if form is Form.TABLE:
        for notice in sorted({one.notice for one in found if one.notice}):
            complain(f"(demo) {notice}", kind="note")


@scans.command()
@_ID
@shows
def show(scan_id: str, *, form: Form) -> None:
    """Show one scan."""
    ledger = opened().scan_ledger()
    scan = ledger.get(scan_id)
    found = to_dict(scan)
    agreement = ledger.agreement(scan.id) if scan.panel else {}
    if scan.panel:
        found["agreement"] = agreement
    told = {name: value for name, value in found.items() if name not in {"model", "panel"}}
    if scan.panel:
        counts = ((number, word) for word, number in agreement.items())
        told["agreement"] = ", ".join(f"{number:,} {word}" for number, word in counts)
    models = [
        (
            "model" if one == scan.model else "member",
            f"{one.name} version {one.version}, {one.sha256}",
        )
        for one in scan.members
    ]
    print_facts(form, [*models, *told.items()], found)


@scans.command()
@_ID
def cancel(scan_id: str) -> None:
    """Stop a scan.

    Every worker stops when its shard is done. `d3 scan --scan-id ID` continues the scan.
    """
    found = opened().scans().cancel(scan_id)
    out().print(f"Scan {found.name} is {found.state.value}.", markup=False)


@scans.command()
@_ID
@YES
def remove(scan_id: str, *, yes: bool) -> None:
    """Remove a scan that is over, with all its rows."""
    container = opened()
    scan = container.scan_ledger().get(scan_id)
    what = f"the scan {scan.name} with {counted(scan.counts.rows, 'row')}"
    if not yes and not confirmed(f"Permanently remove {what}?"):
        complain("Nothing was removed.", "note")
        return
    container.scans().remove(scan.name)
    out().print(f"Removed {what}.", markup=False)


@scans.command()
@_ID
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "jsonl", "parquet"]),
    help="Format of FILE.  [default: what its name ends in]",
)
@click.option(
    "--disagree", is_flag=True, help="Only images on which the models of a panel disagree."
)
def export(scan_id: str, file: Path, *, form: str | None, disagree: bool) -> None:
    """Write every row of a scan into FILE: .csv, .jsonl or .parquet, or - for stdout.

    An existing FILE is replaced when all is written.
    """
    from d3.evaluation.scans import FORMATS, chunks_of, rows_of, write_rows

    form = export_form(file, form, FORMATS)
    if file == STDOUT and form == "parquet":
        raise click.UsageError("Parquet needs the name of a file: it is not written to stdout.")
    ledger = opened().scan_ledger()
    found = ledger.get(scan_id)
    number = ledger.agreement(found.id).get(Agreement.DISAGREE, 0) if disagree else None
    number = found.counts.rows if number is None else number
    with progress("Writing") as tell:
        rows = told_of(
            rows_of(ledger, found.id, disagree=disagree or None), tell, "Writing", number
        )
        if file == STDOUT:
            write_export(file, chunks_of(rows, form))
        else:
            write_rows(rows, file, form)
    if file != STDOUT:
        out().print(f"{counted(number, 'row')} in {file}", markup=False)
    if found.notice:
        complain(found.notice, kind="note")
