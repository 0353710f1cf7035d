"""The report of an evaluation or a scan, with thumbnails of mistakes or suspects."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from d3.domain.errors import D3Error
from d3.domain.images import Pixels
from d3.domain.ports.images import ImageDecoder
from d3.domain.scans import Scan, ScanRow
from d3.domain.scoring import Reason, Share
from d3.domain.services.reporting import clock
from d3.evaluation.charts import Axis, Chart, Line, histogram, line_chart
from d3.evaluation.evaluate import Evaluation, Panel, Point
from d3.evaluation.measures import ALL, IN_DOMAIN, OUT_OF_DOMAIN, TOTAL, Group, overall
from d3.evaluation.outputs import versions
from d3.evaluation.panels import RATES, said_of
from d3.evaluation.scans import Summary
from d3.evaluation.scores import Row

SWEEP_TITLES = {
    "jpeg": ("JPEG compression", "quality"),
    "blur": ("Gaussian blur", "sigma in pixels"),
    "resize": ("Scaling", "factor"),
    "double-jpeg": ("JPEG twice: quality 75 first", "quality of the second"),
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
    charts = []
    for metric, name in _SWEPT.items():
        lines = [_line(one, places, metric) for one in _lines_of(points[0].groups)]
        kept = [one for one in lines if one.points]
        if kept:
            charts.append(line_chart(f"{title}: {name}", *_swept_axes(unit, name, points), kept))
    return charts


def _swept_axes(unit: str, name: str, points: Sequence[Point]) -> tuple[Axis, Axis]:
    """Of a perturbation's strength, from none to strong, and of a metric over it."""
    ticks = [(n, "none" if one.level is None else f"{one.level:g}") for n, one in enumerate(points)]
    return (
        Axis(unit, 0, max(len(points) - 1, 1), ticks),
        Axis(name, 0.4, 1, [(n / 10, f"{n / 10:g}") for n in range(4, 11)]),
    )


def _lines_of(groups: Sequence[Group]) -> list[str]:
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


SIDE = 144
"""The longer side of a thumbnail, in pixels."""
_NAME = 60
COLUMNS = {
    "accuracy_real": ("correct on real", True),
    "accuracy_fake": ("correct on fake", True),
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
        source: a data URL; empty where the image is no longer there.
    """

    row: Row
    source: str
    name: str


def render(evaluation: Evaluation, decoder: ImageDecoder) -> str:
    """The whole report as HTML; nothing in it points elsewhere."""
    panel = evaluation.panel
    return fill(
        "report.html.j2",
        e=evaluation,
        **({} if panel is None else _panel_parts(panel, decoder)),
        manifest=evaluation.manifest,
        title=", ".join(Path(one).name or one for one in evaluation.sources),
        main=overall(evaluation.groups),
        columns=COLUMNS,
        charts=plain_charts(evaluation),
        sweeps=[
            (SWEEP_TITLES[kind], points, sweep_charts(kind, points))
            for kind, points in evaluation.sweeps.items()
        ],
        overall=overall,
        worst={
            kind: [_thumbnail(row, decoder) for row in rows]
            for kind, rows in evaluation.worst.items()
        },
        versions=versions(),
    )


def panel_charts(panel: Panel) -> list[Chart]:
    """The members' curves in one chart of each kind, and one for each perturbation."""
    members = panel.members

    def together(title: str, x: str, y: str, kind: str, *, diagonal: bool) -> Chart:
        lines = [
            Line(one.manifest.name, points)
            for one in members
            for points in getattr(one.curves, kind).values()
        ]
        return line_chart(f"{title} of the members", Axis(x), Axis(y), lines, diagonal=diagonal)

    charts = []
    if members[0].curves.roc:
        sides = "false positive rate", "true positive rate"
        charts.append(together("ROC curves", *sides, "roc", diagonal=True))
        charts.append(together("Precision and recall", "recall", "precision", "pr", diagonal=False))
    for kind in members[0].sweeps:
        title, unit = SWEEP_TITLES[kind]
        for metric, name in _SWEPT.items():
            lines = [
                replace(
                    _line(overall(one.groups).name, [*enumerate(one.sweeps[kind])], metric),
                    name=one.manifest.name,
                )
                for one in members
            ]
            axes = _swept_axes(unit, name, members[0].sweeps[kind])
            charts.append(line_chart(f"{title}: {name}, by member", *axes, lines))
    return charts


def _panel_parts(panel: Panel, decoder: ImageDecoder) -> dict[str, Any]:
    """What the panel's part of the report needs beside the evaluation."""
    names = [one.manifest.name for one in panel.members]

    def said(row: Row) -> str:
        return ", ".join(
            f"{name} {verdict} {prediction:.3f}"
            for name, (verdict, prediction) in zip(names, said_of(row), strict=True)
            if verdict
        )

    return {
        "panel_charts": panel_charts(panel),
        "member_charts": {one.manifest.name: plain_charts(one) for one in panel.members[1:]},
        "disputes": {
            kind: [(_thumbnail(row, decoder), said(row)) for row in rows]
            for kind, rows in panel.measured.worst.items()
        },
        "rates": RATES,
        "everything": ALL,
    }


def fill(template: str, **values: Any) -> str:
    """A page of this folder with the reports' style."""
    folder = resources.files("d3.evaluation.report")
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
    )
    environment.filters |= {"percent": percent, "spread": spread, "count": "{:,}".format}
    environment.filters["points"] = points
    environment.filters["sentence"] = lambda reason: Reason(reason).sentence
    page = environment.get_template(template)
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


def points(figure: Share) -> str:
    """A change for people, in percentage points with its interval."""
    return f"{100 * figure.value:+.1f} ({100 * figure.low:+.1f} to {100 * figure.high:+.1f})"


def picture(pixels: Callable[[], Pixels]) -> str:
    """A data URL with a thumbnail of uint8 RGB (height, width, 3); empty if it is not to be had."""
    try:
        image = Image.fromarray(pixels())
    except D3Error:
        return ""
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=70)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def short_name(path: str) -> str:
    """The path, shortened from the front, with escapes for what is no text."""
    name = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return name if len(name) <= _NAME else f"…{name[1 - _NAME :]}"


def _thumbnail(row: Row, decoder: ImageDecoder) -> Thumbnail:
    source = picture(lambda: decoder.picture(Path(row.path), SIDE))
    return Thumbnail(row, source, short_name(row.path))


_SHOWN = 100
_COURSE_WIDTH = 200


def render_scan(
    scan: Scan,
    summary: Summary,
    pixels: Callable[[ScanRow], Pixels] | None = None,
) -> str:
    """The whole report as HTML; nothing in it points elsewhere.

    Args:
        scan: as it stands.
        summary: of its rows.
        pixels: opens a suspect for its thumbnail; None shows none.
    """
    chart = histogram(
        "Predictions of all images",
        Axis("prediction (probability of fake)"),
        {"images": summary.histogram},
        mark=(scan.threshold, f"threshold {scan.threshold:.3g}"),
    )
    prefixes = sorted(summary.prefixes.items(), key=lambda item: (-item[1].images, item[0]))
    return fill(
        "scan.html.j2",
        scan=scan,
        notice=scan.notice,
        reasons=summary.reasons.most_common(),
        nan=float("nan"),
        chart=chart,
        prefixes=prefixes[:_SHOWN],
        found=len(prefixes),
        suspects=[
            (row, short_name(row.uri), _shown(row, pixels), *_course(row, scan.threshold))
            for row in summary.suspects
        ],
        errors=summary.errors.most_common(),
        first_errors=summary.first_errors,
        versions=versions(),
    )


def _course(row: ScanRow, threshold: float) -> tuple[str, Markup]:
    """What was seen over a clip's time, in words and as a drawing; empty for a still."""
    clip = row.clip_verdict
    if clip is None:
        return "", Markup()
    words = (
        f"{len(clip.frames)} frames over {clock(clip.duration)}, {clip.share_above:.0%} above the "
        f"threshold, the highest mean from {clock(clip.highest_from)}"
    )
    length = max(clip.duration, clip.judged_until, 0.001)
    wide = 0.8 * _COURSE_WIDTH / len(clip.frames)
    bars = "".join(
        f'<rect x="{(_COURSE_WIDTH - wide) * one.time / length:.1f}" '
        f'y="{100 * (1 - one.prediction):.1f}" width="{wide:.1f}" '
        f'height="{100 * one.prediction:.1f}"/>'
        for one in clip.frames
    )
    level = 100 * (1 - threshold)
    drawing = (
        f'<svg class="course" viewBox="0 0 {_COURSE_WIDTH} 100" preserveAspectRatio="none" '
        f'role="img" aria-label="{words}">{bars}'
        f'<path d="M0 {level:.1f}H{_COURSE_WIDTH}" stroke="currentColor"/></svg>'
    )
    return words, Markup(drawing)  # noqa: S704  numbers and our own words


def _shown(row: ScanRow, pixels: Callable[[ScanRow], Pixels] | None) -> str:
    return "" if pixels is None else picture(lambda: pixels(row))
