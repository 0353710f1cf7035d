"""``d3 jobs``: the jobs there are, and their results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from d3.domain.files import replacing, storage_errors
from d3.domain.jobs import JobItem
from d3.domain.ports.jobs import JobLedger
from d3.domain.services.export import job_csv_chunks, job_json_lines_chunks
from d3.entrypoints.cli.opening import opened
from d3.entrypoints.cli.options import JSON
from d3.entrypoints.cli.output import complain, counted, out, print_json, printable

_ID = click.argument("job_id", metavar="ID")
_PAGE = 500
_FORMS = {".csv": job_csv_chunks, ".jsonl": job_json_lines_chunks}


@click.group()
def jobs() -> None:
    """List, show, cancel and export jobs."""


@jobs.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@JSON
def list_jobs(*, limit: int, as_json: bool) -> None:
    """Show the newest jobs."""
    found = opened().job_ledger().newest(limit)
    if as_json:
        for one in found:
            print_json(one.to_dict())
        return
    if not found:
        complain("There are no jobs. Send one to POST /api/jobs.", kind="note")
        return
    titles = ("IMAGES", "WAITING", "FAKE", "UNCERTAIN", "ERRORS")
    header = " ".join(f"{one:>9}" for one in titles)
    out().print(f"{'ID':<16} {'STATE':<10} {header}  BEGUN")
    for one in found:
        counts = one.counts
        values = (counts.items, counts.waiting, counts.fake, counts.uncertain, counts.error)
        numbers = " ".join(f"{n:>9,}" for n in values)
        begun = f"{one.created_at:%Y-%m-%d %H:%M}"
        out().print(f"{one.name:<16} {one.state.value:<10} {numbers}  {begun}", markup=False)


@jobs.command()
@_ID
@JSON
def show(job_id: str, *, as_json: bool) -> None:
    """Show one job."""
    job = opened().job_ledger().get(job_id)
    found = job.to_dict()
    if as_json:
        print_json(found)
        return
    for name, value in (found | found.pop("counts")).items():
        if value is not None:
            out().print(f"{name.replace('_', ' '):<12} {printable(str(value))}", markup=False)


@jobs.command()
@_ID
def cancel(job_id: str) -> None:
    """Stop a job.

    What has begun is still judged, and its results are kept.
    """
    found = opened().jobs().cancel(job_id)
    out().print(f"Job {found.name} is {found.state.value}.", markup=False)


@jobs.command()
@_ID
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def export(job_id: str, file: Path) -> None:
    """Write every image of a job with its result into FILE: .csv or .jsonl."""
    chunks = _FORMS.get(file.suffix.lower())
    if chunks is None:
        raise click.BadParameter(f"The name {file.name!r} must end in .csv or .jsonl.")
    ledger = opened().job_ledger()
    job = ledger.get(job_id)
    with (
        storage_errors("The file cannot be written"),
        replacing(file) as partial,
        partial.open("wb") as stream,
    ):
        stream.writelines(chunks(_items(ledger, job.id)))
    out().print(f"{counted(job.counts.items, 'row')} in {file}", markup=False)


def _items(ledger: JobLedger, job_id: int) -> Iterator[JobItem]:
    after = 0
    while page := ledger.items(job_id, after, _PAGE):
        yield from page
        after = page[-1].number
