"""An evaluation as tables and sentences, for ``d3 evaluate``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from d3.entrypoints.cli.output import counted, out, printable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from d3.domain.scoring import Share
    from d3.evaluation.evaluate import Evaluation, Panel

_WITH_INTERVALS = 128
_RATES = {
    "coverage": "DECIDED",
    "fpr": "FPR",
    "tpr": "TPR",
    "fpr_decided": "FPR, DECIDED",
    "tpr_decided": "TPR, DECIDED",
}
_COLUMNS = {
    "accuracy_real": "REAL",
    "accuracy_fake": "FAKE",
    "accuracy": "ACC",
    "ap": "AP",
    "auroc": "AUROC",
    "fpr_at_95_tpr": "FPR95",
    "ece": "ECE",
}


def print_evaluation(evaluation: Evaluation) -> None:
    """Print what was measured of a model, or of a panel and all its members."""
    intervals, panel = out().width >= _WITH_INTERVALS, evaluation.panel
    everybody = (evaluation,) if panel is None else panel.members
    out().print(_table(everybody, intervals=intervals))
    if panel is None:
        _tell_verdicts(evaluation.counts, evaluation.verdicts)
    else:
        out().print(_table_of_rules(panel, intervals=intervals))
        _tell_agreement(panel)
        out().print(f"By the rule {panel.rule}:")
        _tell_verdicts(evaluation.counts, panel.verdicts)
    for one in everybody:
        _tell_sweeps(one, "" if panel is None else f" {one.manifest.name}")


def _table(members: Sequence[Evaluation], *, intervals: bool) -> Table:
    """The figures by generator, those of a panel's members one below the other."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    several = len(members) > 1
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    table.caption = f"In percent{', ± half of the 95 % interval' if intervals else ''}."
    table.add_column("GENERATOR", no_wrap=True)
    if several:
        table.add_column("MODEL", no_wrap=True)
    table.add_column("IMAGES", justify="right", no_wrap=True)
    for title in _COLUMNS.values():
        table.add_column(title, justify="right", no_wrap=True)
    before = "generator"
    for one in members[0].groups:
        if one.kind != before == "generator":
            table.add_section()
        before = one.kind
        style = "" if one.kind == "generator" else "bold"
        mark = {True: " (in)", False: " (out)", None: ""}[one.in_domain]
        name = Text(printable(one.name), style=style).append(mark, style="dim")
        for member in members:
            group = next((same for same in member.groups if same.name == one.name), None)
            if group is None:
                continue
            table.add_row(
                name if member is members[0] else "",
                *((Text(member.manifest.name, style=style),) if several else ()),
                Text(f"{group.real + group.fake:,}", style="dim"),
                *(_cell(group.figures[key], intervals=intervals) for key in _COLUMNS),
            )
    return table


def _table_of_rules(panel: Panel, *, intervals: bool) -> Table:
    """What each member alone and each rule decides, of all images."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from d3.evaluation.measures import ALL

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    table.add_column("VERDICTS", no_wrap=True)
    for title in (*_RATES.values(), "COST"):
        table.add_column(title, justify="right", no_wrap=True)
    members = len(panel.members)
    for place, one in enumerate(panel.measured.judges):
        if place == members:
            table.add_section()
        rates = one.rates[ALL]
        name = f"rule {one.name}" if one.is_rule else one.name
        rates_shown = (_with_ends(rates[key], intervals=intervals) for key in _RATES)
        cost = one.changes.get("coverage") if one.is_rule else None
        told = (
            Text("-", style="dim")
            if cost is None
            else _with_ends(cost, intervals=intervals, sign="+")
        )
        table.add_row(name, *rates_shown, told)
    table.caption = (
        f"In percent of all images{', with 95 % intervals' if intervals else ''}. DECIDED: other "
        "than uncertain. COST: the change of DECIDED from the chief alone."
    )
    return table


def _with_ends(figure: Share, *, intervals: bool, sign: str = "") -> Text:
    from rich.text import Text

    if math.isnan(figure.value):
        return Text("-", style="dim")
    low, high = (format(100 * end, f"{sign}.1f") for end in (figure.low, figure.high))
    to = " to " if sign else "-"
    ends = f" [{low}{to}{high}]" if intervals else ""
    return Text(format(100 * figure.value, f"{sign}.1f")).append(ends, style="dim")


def _tell_agreement(panel: Panel) -> None:
    """How often the members contradict each other, and how far two of them say the same."""
    for kind, title in (("real", "real"), ("fake", "generated")):
        tallies = [one for one in panel.measured.agreement if one.kind == kind]
        images = sum(one.agree + one.partial + one.disagree for one in tallies)
        if images:
            disagree = sum(one.disagree for one in tallies)
            out().print(
                f"The members contradict each other on {disagree:,} of "
                f"{counted(images, f'{title} image')}."
            )
    for pair in panel.measured.pairs:
        if (like := pair.on.get("all")) is None:
            continue  # no image has an opinion of both
        kappa = (
            "undefined"
            if math.isnan(like.kappa.value)
            else f"{like.kappa.value:.2f} [{like.kappa.low:.2f} to {like.kappa.high:.2f}]"
        )
        out().print(
            f"{pair.first} and {pair.second}: the same verdict on {like.same.value:.1%}, opposite "
            f"ones on {like.opposite.value:.1%}, kappa {kappa}",
            markup=False,
        )


def _cell(figure: Share, *, intervals: bool) -> Text:
    from rich.text import Text

    if math.isnan(figure.value):
        return Text("-", style="dim")
    half = f" ±{50 * (figure.high - figure.low):.1f}" if intervals else ""
    return Text(f"{100 * figure.value:.1f}").append(half, style="dim")


def _tell_verdicts(counts: dict[str, int], verdicts: dict[str, dict[str, int]]) -> None:
    """One line for each kind: how many were called what."""
    for kind, title in (("real", "real"), ("fake", "generated")):
        if images := counts[kind]:
            said = verdicts[kind]
            out().print(
                f"Of {counted(images, f'{title} image')}: {said['fake']:,} fake, {said['real']:,} "
                f"real, {said['uncertain']:,} uncertain."
            )


def _tell_sweeps(evaluation: Evaluation, whose: str) -> None:
    """One line for each perturbation: the AUROC from mild to strong."""
    from rich import box
    from rich.table import Table

    from d3.evaluation.measures import overall

    for kind, points in evaluation.sweeps.items():
        levels = ["none" if one.level is None else f"{one.level:g}" for one in points]
        table = Table(f"{kind.upper()}{whose}", *levels, box=box.SIMPLE_HEAD, pad_edge=False)
        for metric, name in (("auroc", "AUROC"), ("accuracy", "ACC")):
            values = [overall(one.groups).figures[metric].value for one in points]
            shown = ["-" if math.isnan(one) else f"{100 * one:.1f}" for one in values]
            table.add_row(name, *shown)
        out().print(table)
