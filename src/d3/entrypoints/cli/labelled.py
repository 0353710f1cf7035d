"""Labelled results of the history, for the commands that take them instead of a data set."""

from __future__ import annotations

from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING

import click

from d3.entrypoints.cli.evaluate import named_version
from d3.entrypoints.cli.opening import opened
from d3.entrypoints.cli.options import FILE
from d3.entrypoints.cli.output import counted, remark
from d3.entrypoints.cli.progress import progress
from d3.entrypoints.cli.spans import lifetime

if TYPE_CHECKING:
    from d3.container import Container
    from d3.domain.models import Manifest
    from d3.evaluation.labelled import Labelled

DATASETS_OR_HISTORY = click.argument(
    "datasets", nargs=-1, type=FILE, metavar="DATASET...|--from-history"
)
FROM_HISTORY = click.option(
    "--from-history",
    is_flag=True,
    help="Use the labelled results of the history instead of a DATASET; see `d3 labels`.",
)
SINCE = click.option(
    "--since",
    type=lifetime,
    metavar="SPAN",
    help="With --from-history: only results of this last time, such as 90d.",
)


def check_source(datasets: tuple[str, ...], since: timedelta | None, *, from_history: bool) -> None:
    """Make sure that images come from data sets or from the history.

    Raises:
        click.UsageError: they come from both or from neither.
    """
    if from_history and datasets:
        raise click.UsageError("Use either DATASET or --from-history.")
    if not (from_history or datasets):
        raise click.UsageError("Missing argument 'DATASET...'. Or use --from-history.")
    if since is not None and not from_history:
        raise click.UsageError("--since needs --from-history.")


def described(container: Container, model: str | None) -> Manifest:
    """A model that need not be loaded: the one in use, or NAME, or NAME@VERSION."""
    name, version = named_version(model)
    manifest: Manifest = container.models().info(name or container.host().chosen(), version)
    return manifest


def labelled(container: Container, manifest: Manifest, since: timedelta | None) -> Labelled:
    """The labelled images that the weights of a model judged, which are counted aloud."""
    from d3.domain.history import HistoryFilter
    from d3.domain.labels import LabelIs
    from d3.evaluation.labelled import labelled_rows

    opened(container)
    start = None if since is None else container.clock().now() - since
    with progress("Reading the history"):
        entries = chain.from_iterable(
            container.history().iterate(HistoryFilter(label=one, since=start))
            for one in (LabelIs.REAL, LabelIs.GENERATED)
        )
        found = labelled_rows(entries, manifest.sha256)
    reals = sum(one.label == "real" for one in found.rows)
    generated = len(found.rows) - reals
    remark(
        f"{counted(reals, 'image')} labelled real and {generated:,} labelled generated, judged "
        f"with {counted(found.views, 'view')}"
    )
    return found
