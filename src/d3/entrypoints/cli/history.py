"""``d3 history``: letting go of what was kept."""

from __future__ import annotations

from datetime import datetime, timedelta

import click

from d3.entrypoints.cli.opening import opened
from d3.entrypoints.cli.output import counted, out
from d3.entrypoints.cli.progress import progress
from d3.entrypoints.cli.spans import lifetime


@click.group()
def history() -> None:
    """Delete old results and request records."""


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
