"""From a scan's summary to its page."""

from __future__ import annotations

from collections.abc import Callable

from d3.domain.images import Pixels
from d3.domain.scans import Scan, ScanRow
from d3.evaluation.charts import Axis, histogram
from d3.evaluation.evaluate import versions
from d3.evaluation.report.page import fill, picture, short_name
from d3.evaluation.scan_summary import Summary

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
