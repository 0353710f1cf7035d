"""From an evaluation or a scan to its page, with small pictures of mistakes or suspects."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from d3.domain.errors import D3Error
from d3.domain.images import Pixels
from d3.domain.ports.images import ImageDecoder
from d3.domain.scans import Scan, ScanRow
from d3.domain.scoring import Reason, Share
from d3.evaluation.charts import Axis, histogram
from d3.evaluation.evaluate import Evaluation, versions
from d3.evaluation.measures import overall
from d3.evaluation.report.drawing import SWEEP_TITLES, plain_charts, sweep_charts
from d3.evaluation.scan_summary import Summary
from d3.evaluation.scores import Row

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
        suspects=[(row, short_name(row.uri), _shown(row, pixels)) for row in summary.suspects],
        errors=summary.errors.most_common(),
        first_errors=summary.first_errors,
        versions=versions(),
    )


def _shown(row: ScanRow, pixels: Callable[[ScanRow], Pixels] | None) -> str:
    return "" if pixels is None else picture(lambda: pixels(row))
