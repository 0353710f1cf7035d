"""``d3 drift``: whether results are still like the calibration of their model."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from d3.entrypoints.cli.evaluate import named_version
from d3.entrypoints.cli.opening import opened
from d3.entrypoints.cli.options import JSON, MODEL_VERSION
from d3.entrypoints.cli.output import complain, out, print_json, printable
from d3.entrypoints.cli.progress import progress
from d3.entrypoints.cli.spans import lifetime

if TYPE_CHECKING:
    from d3.domain.drift import Drift, DriftReport
    from d3.domain.scoring import Share

_WITH_INTERVALS = 110
_STYLES = {"stable": "green", "watch": "yellow", "drifted": "red", "unclear": "dim"}


@click.command()
@MODEL_VERSION
@click.option(
    "--since",
    type=lifetime,
    metavar="SPAN",
    default="30d",
    show_default=True,
    help="Only results of this last time, such as 7d.",
)
@JSON
def drift(*, model: str | None, since: timedelta, as_json: bool) -> None:
    """Compare the results of the history with the model's calibration.

    PSI is the population stability index of the scores: below 0.1 they are stable, above 0.25 they
    have drifted. FPR and TPR are measured on labelled results; see `d3 labels`.
    """
    name, version = named_version(model)
    container = opened()
    with progress("Comparing"):
        found = container.drift().report(name, version, since=container.clock().now() - since)
    if as_json:
        print_json(found)
    else:
        _print(found)
    if found.note:
        complain(found.note, "note")
    if found.notice:
        complain(found.notice, "note")


def _print(found: DriftReport) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    wide = out().width >= _WITH_INTERVALS
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    table.add_column("DAY", no_wrap=True)
    for title in ("IMAGES", "PSI", "", "GENERATED", "UNCERTAIN", "LABELS", "AGREE", "FPR", "TPR"):
        table.add_column(title, justify="left" if not title else "right", no_wrap=True)

    def index(psi: Share | None) -> str:
        if psi is None:
            return "-"
        return f"{psi.value:.2f}" + (f" [{psi.low:.2f}-{psi.high:.2f}]" if wide else "")

    def add(title: str, one: Drift) -> None:
        level = Text(one.level.value, style=_STYLES[one.level.value])
        labels = one.labelled_real.total + one.labelled_generated.total
        share = "-" if one.generated_share is None else f"{one.generated_share:.0%}"
        table.add_row(
            title,
            f"{one.images:,}",
            index(one.psi),
            level,
            share,
            _percent(one.uncertain),
            f"{labels:,}",
            _percent(one.agreement),
            _percent(one.fpr),
            _percent(one.tpr),
        )

    for day in found.days:
        add(day.start.strftime("%Y-%m-%d"), day)
    table.add_section()
    add("all", found.total)
    table.caption = (
        f"Days in UTC{'; brackets hold 95 % intervals' if wide else ''}. GENERATED is the share "
        "that the scores suggest. A dash: too few images or labels."
    )
    out().print(
        f"{found.model_name} version {found.model_version}, calibration: "
        f"{printable(found.calibration)}",
        markup=False,
    )
    out().print(table)
    for what, measured, now in (
        ("FPR", found.calibration_fpr, found.total.fpr),
        ("TPR", found.calibration_tpr, found.total.tpr),
    ):
        if measured is not None and now is not None:
            out().print(f"{what}: {_interval(measured)} at the calibration, {_interval(now)} now")
    changed = [one for one in found.days if one.level.value in {"watch", "drifted"}]
    if changed:
        days = ", ".join(f"{one.start:%Y-%m-%d} ({one.level.value})" for one in changed)
        out().print(f"Days with other scores than at the calibration: {days}.")
    out().print(f"All days together: {found.total.level.sentence}")


def _percent(share: Share | None) -> str:
    return "-" if share is None else f"{share.value:.1%}"


def _interval(share: Share) -> str:
    return f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})"
