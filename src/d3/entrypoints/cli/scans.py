"""``d3 scans``: the scans there are, and their rows."""

from __future__ import annotations

from pathlib import Path

import click

from d3.domain.panels import Agreement
from d3.entrypoints.cli.opening import opened
from d3.entrypoints.cli.options import JSON
from d3.entrypoints.cli.output import complain, counted, out, print_json, printable
from d3.entrypoints.cli.progress import progress, told_of
from d3.entrypoints.cli.scan import to_dict

_ID = click.argument("scan_id", metavar="ID")


@click.group()
def scans() -> None:
    """List, show, cancel, remove and export bulk scans."""


@scans.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@JSON
def list_scans(*, limit: int, as_json: bool) -> None:
    """Show the newest scans."""
    found = opened().scan_ledger().newest(limit)
    if as_json:
        for one in found:
            print_json(to_dict(one))
        return
    if not found:
        complain("There are no scans yet. Start one with `d3 scan SOURCE`.", kind="note")
        return
    titles = ("IMAGES", "FAKE", "UNCERTAIN", "ERRORS")
    widths = (10, 9, 9, 7)
    header = " ".join(f"{one:>{width}}" for one, width in zip(titles, widths, strict=True))
    out().print(f"{'ID':<24} {'STATE':<10} {header}  SOURCE")
    for one in found:
        counts = one.counts
        values = (counts.rows, counts.fake, counts.uncertain, counts.error)
        numbers = " ".join(f"{n:>{width},}" for n, width in zip(values, widths, strict=True))
        demo = " (demo)" if one.notice else ""
        row = f"{one.name:<24} {one.state.value:<10} {numbers}  {printable(one.source)}{demo}"
        out().print(row, markup=False)
    for notice in sorted({one.notice for one in found if one.notice}):
        complain(f"(demo) {notice}", kind="note")


@scans.command()
@_ID
@JSON
def show(scan_id: str, *, as_json: bool) -> None:
    """Show one scan."""
    ledger = opened().scan_ledger()
    scan = ledger.get(scan_id)
    found = to_dict(scan)
    if scan.panel:
        found["agreement"] = ledger.agreement(scan.id)
    if as_json:
        print_json(found)
        return
    del found["model"], found["panel"]
    for one in scan.members:
        title = "model" if one == scan.model else "member"
        out().print(f"{title:<12} {one.name} version {one.version}, {one.sha256}", markup=False)
    if scan.panel:
        counts = found["agreement"].items()
        found["agreement"] = ", ".join(f"{number:,} {word}" for word, number in counts)
    for name, value in found.items():
        if value not in (None, "", False):
            out().print(f"{name.replace('_', ' '):<12} {value}", markup=False)


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
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
def remove(scan_id: str, *, yes: bool) -> None:
    """Remove a scan that is over, with all its rows."""
    container = opened()
    scan = container.scan_ledger().get(scan_id)
    what = f"the scan {scan.name} with {counted(scan.counts.rows, 'row')}"
    if not yes and not click.confirm(f"Permanently remove {what}?"):
        complain("Nothing was removed.", "note")
        return
    container.scans().remove(scan.name)
    out().print(f"Removed {what}.", markup=False)


@scans.command()
@_ID
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--disagree", is_flag=True, help="Only images on which the models of a panel disagree."
)
def export(scan_id: str, file: Path, *, disagree: bool) -> None:
    """Write every row of a scan into FILE: .csv, .jsonl or .parquet."""
    from d3.evaluation.scans import FORMATS, rows_of, write_rows

    form = file.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise click.BadParameter(f"The name {file.name!r} must end in one of {', '.join(FORMATS)}.")
    ledger = opened().scan_ledger()
    found = ledger.get(scan_id)
    number = ledger.agreement(found.id).get(Agreement.DISAGREE, 0) if disagree else None
    number = found.counts.rows if number is None else number
    with progress("Writing") as tell:
        rows = rows_of(ledger, found.id, disagree=disagree or None)
        write_rows(told_of(rows, tell, "Writing", number), file, form)
    out().print(f"{counted(number, 'row')} in {file}", markup=False)
    if found.notice:
        complain(found.notice, kind="note")
