"""From an evaluation to the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from d3.domain.ports.images import ImageDecoder
from d3.domain.scoring import Reason, Share
from d3.evaluation.evaluate import Evaluation, versions
from d3.evaluation.measures import overall
from d3.evaluation.report.drawing import SWEEP_TITLES, plain_charts, sweep_charts
from d3.evaluation.report.pictures import SIDE, picture, short_name
from d3.evaluation.scores import Row

COLUMNS = {
    "accuracy_real": ("right on real", True),
    "accuracy_fake": ("right on fake", True),
    "accuracy": ("accuracy", True),
    "ap": ("AP", True),
    "auroc": ("AUROC", True),
    "balanced_accuracy": ("balanced", True),
    "fpr_at_95_tpr": ("FPR at 95 % TPR", False),
    "tpr_at_1_fpr": ("TPR at 1 % FPR", True),
    "ece": ("ECE", False),
}
"""The table's columns: what stands above each, and whether more is better."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A mistake with a small picture of it.

    Attributes:
        row: the image's scores.
        source: a data URL; empty where the image is no longer there.
        name: its path, shortened from the front.
    """

    row: Row
    source: str
    name: str


def render(evaluation: Evaluation, decoder: ImageDecoder) -> str:
    """The whole report as HTML; nothing in it points elsewhere."""
    return fill(
        "report.html.j2",
        e=evaluation,
        manifest=evaluation.manifest,
        title=", ".join(Path(one).name or one for one in evaluation.sources),
        main=overall(evaluation.groups),
        columns=COLUMNS,
        charts=safe(plain_charts(evaluation)),
        sweeps=[
            (SWEEP_TITLES[kind], points, safe(sweep_charts(kind, points)))
            for kind, points in evaluation.sweeps.items()
        ],
        overall=overall,
        worst={
            kind: [_thumbnail(row, decoder) for row in rows]
            for kind, rows in evaluation.worst.items()
        },
        versions=versions(),
    )


def fill(template: str, **values: Any) -> str:
    """A page of this folder with the reports' style."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "spread": spread, "count": "{:,}".format}
    environment.filters["sentence"] = lambda reason: Reason(reason).sentence
    folder = resources.files("d3.evaluation.report")
    page = environment.from_string((folder / template).read_text(encoding="utf-8"))
    style = Markup((folder / "report.css").read_text(encoding="utf-8"))  # noqa: S704  our own
    return page.render(style=style, **values)


def percent(value: float) -> str:
    """A share for people: ``97.3``; a dash where there is none."""
    return "–" if math.isnan(value) else f"{100 * value:.1f}"  # noqa: RUF001


def spread(figure: Share) -> str:
    """An interval for people, in percent."""
    if math.isnan(figure.low):
        return ""
    return f"{percent(figure.low)}–{percent(figure.high)}"  # noqa: RUF001


def safe(drawings: Sequence[str]) -> list[Markup]:
    """Charts escape what they are given themselves."""
    return [Markup(one) for one in drawings]  # noqa: S704


def _thumbnail(row: Row, decoder: ImageDecoder) -> Thumbnail:
    source = picture(lambda: decoder.picture(Path(row.path), SIDE))
    return Thumbnail(row, source, short_name(row.path))
