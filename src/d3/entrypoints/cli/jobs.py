"""``d3 jobs``: the jobs there are, and their results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from d3.domain.files import replacing, storage_errors
from d3.domain.jobs import Job, JobItem
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
            print_json(_shown(one))
        return
    if not found:
        complain("There are no jobs. Send one to POST /api/jobs.", kind="note")
        return
    titles = ("IMAGES", "WAITING", "FAKE", "REAL", "UNCERTAIN", "ERRORS")
    header = " ".join(f"{one:>9}" for one in titles)
    out().print(f"{'ID':<16} {'STATE':<10} {header}  BEGUN")
    for one in found:
        counts = one.counts
        judged = counts.fake, counts.real, counts.uncertain, counts.error
        values = (counts.items, counts.waiting, *judged)
        numbers = " ".join(f"{n:>9,}" for n in values)
        begun = f"{one.created_at:%Y-%m-%d %H:%M}"
        out().print(f"{one.name:<16} {one.state.value:<10} {numbers}  {begun}", markup=False)


@jobs.command()
@_ID
@JSON
def show(job_id: str, *, as_json: bool) -> None:
    """Show one job. `d3 jobs export` writes its results."""
    found = _shown(opened().job_ledger().get(job_id))
    if as_json:
        print_json(found)
        return
    for name, value in (found | found.pop("counts")).items():
        if value is not None:
            out().print(f"{name.replace('_', ' '):<12} {printable(str(value))}", markup=False)


@jobs.command()
@_ID
@JSON
def cancel(job_id: str, *, as_json: bool) -> None:
    """Cancel every image of a job that has no result yet. Results are kept."""
    found = opened().jobs().cancel(job_id)
    if as_json:
        print_json(_shown(found))
        return
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


def _shown(job: Job) -> dict[str, Any]:
    """What an event says of it, and who is told, whom not all who get events need to know."""
    return job.to_dict() | {"callback": None if job.callback is None else job.callback.url}


def _items(ledger: JobLedger, job_id: int) -> Iterator[JobItem]:
    after = 0
    while page := ledger.items(job_id, after, _PAGE):
        yield from page
        after = page[-1].number
