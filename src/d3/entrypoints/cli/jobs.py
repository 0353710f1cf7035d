"""``d3 jobs``: the jobs there are, and their results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from d3.domain.jobs import Job, JobItem
from d3.domain.ports.jobs import JobLedger
from d3.domain.services.export import job_csv_chunks, job_json_lines_chunks
from d3.entrypoints.cli.opening import opened
from d3.entrypoints.cli.options import JSON, LIMIT
from d3.entrypoints.cli.output import counted, out, print_json
from d3.entrypoints.cli.results import (
    STDOUT,
    Column,
    Form,
    count_column,
    export_form,
    moment,
    print_facts,
    print_rows,
    shows,
    write_export,
)

_ID = click.argument("job_id", metavar="ID")
_PAGE = 500
_FORMS = {"csv": job_csv_chunks, "jsonl": job_json_lines_chunks}


_COLUMNS: list[Column[Job]] = [
    Column("id", lambda job: job.name, whole=True),
    Column("state", lambda job: job.state.value),
    count_column("items", "IMAGES"),
    *map(count_column, ("waiting", "fake", "real", "uncertain")),
    count_column("error", "ERRORS"),
    Column("cancelled", lambda job: job.counts.cancelled, printed=False),
    Column("created_at", lambda job: job.created_at, lambda job: moment(job.created_at), "BEGUN"),
    Column("finished_at", lambda job: job.finished_at, printed=False),
    Column("trouble", lambda job: job.trouble, printed=False),
]


@click.group()
def jobs() -> None:
    """List, show, cancel and export jobs."""


@jobs.command("list")
@LIMIT
@shows
def list_jobs(*, limit: int, form: Form) -> None:
    """Show the newest jobs."""
    found = opened().job_ledger().newest(limit)
    none = "There are no jobs. Send one to POST /api/jobs."
    print_rows(form, found, _COLUMNS, _shown, none=none)


@jobs.command()
@_ID
@shows
def show(job_id: str, *, form: Form) -> None:
    """Show one job. `d3 jobs export` writes its results."""
    document = _shown(opened().job_ledger().get(job_id))
    facts = [*document.items(), *document["counts"].items()]
    print_facts(form, (one for one in facts if one[0] != "counts"), document)


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
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice([*_FORMS]),
    help="Format of FILE.  [default: what its name ends in]",
)
def export(job_id: str, file: Path, *, form: str | None) -> None:
    """Write every image of a job with its result into FILE: .csv or .jsonl, or - for stdout.

    An existing FILE is replaced when all is written.
    """
    form = export_form(file, form, [*_FORMS])
    ledger = opened().job_ledger()
    job = ledger.get(job_id)
    write_export(file, _FORMS[form](_items(ledger, job.id)))
    if file != STDOUT:
        out().print(f"{counted(job.counts.items, 'row')} in {file}", markup=False)


def _shown(job: Job) -> dict[str, Any]:
    """What an event says of it, and who is told, whom not all who get events need to know."""
    return job.to_dict() | {"callback": None if job.callback is None else job.callback.url}


def _items(ledger: JobLedger, job_id: int) -> Iterator[JobItem]:
    after = 0
    while page := ledger.items(job_id, after, _PAGE):
        yield from page
        after = page[-1].number
