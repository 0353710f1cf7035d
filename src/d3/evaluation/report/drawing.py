"""What an evaluation's charts show."""

from __future__ import annotations

import math
from collections.abc import Sequence

from d3.evaluation.charts import Axis, Chart, Line, histogram, line_chart
from d3.evaluation.evaluate import Evaluation, Point
from d3.evaluation.measures import IN_DOMAIN, OUT_OF_DOMAIN, TOTAL, Group, overall

SWEEP_TITLES = {
    "jpeg": ("JPEG compression", "quality"),
    "blur": ("Gaussian blur", "sigma in pixels"),
    "resize": ("Scaling", "factor"),
    "double-jpeg": ("JPEG twice: quality 75 first", "quality of the second compression"),
}
_SWEPT = {"auroc": "AUROC", "balanced_accuracy": "balanced accuracy"}


def plain_charts(evaluation: Evaluation) -> list[Chart]:
    """ROC, precision over recall, calibration, and the predictions of both kinds."""
    curves, charts = evaluation.curves, []
    if curves.roc:
        charts.append(
            line_chart(
                "ROC curve",
                Axis("false positive rate"),
                Axis("true positive rate"),
                [Line(name, points) for name, points in curves.roc.items()],
                diagonal=True,
            )
        )
        charts.append(
            line_chart(
                "Precision and recall",
                Axis("recall"),
                Axis("precision"),
                [Line(name, points) for name, points in curves.pr.items()],
            )
        )
        points = [(said, happened) for said, happened, _ in reversed(curves.reliability)]
        charts.append(
            line_chart(
                "Calibration, with equal weight for both kinds: on the diagonal, a prediction is "
                "the true probability",
                Axis("mean prediction of the bin"),
                Axis("share of generated images in the bin"),
                [Line("", points, marks=True)],
                diagonal=True,
            )
        )
    charts.append(
        histogram(
            "Predictions of real and generated images",
            Axis("prediction (probability of fake)"),
            {name: counts for name, counts in curves.histograms.items() if sum(counts)},
            mark=(evaluation.threshold, f"threshold {evaluation.threshold:.3g}"),
        )
    )
    return charts


def sweep_charts(kind: str, points: Sequence[Point]) -> list[Chart]:
    """A chart of the AUROC and one of the balanced accuracy over a perturbation's strength."""
    title, unit = SWEEP_TITLES[kind]
    places = [(number, one) for number, one in enumerate(points)]
    ticks = [(n, "none" if one.level is None else f"{one.level:g}") for n, one in places]
    x = Axis(unit, 0, max(len(points) - 1, 1), ticks)
    charts = []
    for metric, name in _SWEPT.items():
        y = Axis(name, 0.4, 1, [(n / 10, f"{n / 10:g}") for n in range(4, 11)])
        lines = [_line(one, places, metric) for one in _shown(points[0].groups)]
        kept = [one for one in lines if one.points]
        if kept:
            charts.append(line_chart(f"{title}: {name}", x, y, kept))
    return charts


def _shown(groups: Sequence[Group]) -> list[str]:
    means = [one.name for one in groups if one.name in (IN_DOMAIN, OUT_OF_DOMAIN, TOTAL)]
    if len(means) > 1:
        return means
    generators = [one.name for one in groups if one.kind == "generator"]
    return [*means, *generators[:7]] or [overall(list(groups)).name]


def _line(name: str, places: Sequence[tuple[int, Point]], metric: str) -> Line:
    found = []
    for place, point in places:
        group = next((one for one in point.groups if one.name == name), None)
        if group is not None and not math.isnan(group.figures[metric].value):
            found.append((place, group))
    figures = [(place, group.figures[metric]) for place, group in found]
    generator = bool(found) and found[0][1].kind == "generator" and len(places[0][1].groups) > 1
    return Line(
        name,
        [(place, one.value) for place, one in figures],
        band=() if generator else [(place, one.low, one.high) for place, one in figures],
        marks=True,
        faint=generator,
    )
