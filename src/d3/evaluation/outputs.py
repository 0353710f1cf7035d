"""What an evaluation leaves beside its scores: all figures as JSON, and a report."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from d3.domain.files import put
from d3.domain.installation import DISTRIBUTION
from d3.domain.ports.images import ImageDecoder
from d3.domain.scoring import Share
from d3.evaluation.bootstrap import replicates_for
from d3.evaluation.evaluate import Evaluation, Panel
from d3.evaluation.files import write_parquet, writing
from d3.evaluation.measures import Group
from d3.evaluation.scores import ScoreFile


def record(evaluation: Evaluation) -> dict[str, Any]:
    """Everything that was measured, and all that is needed to measure it again."""
    options, panel = evaluation.options, evaluation.panel
    images = evaluation.counts["real"] + evaluation.counts["fake"]
    return {
        **_figures(evaluation),
        "views": options.views,
        "dataset": evaluation.sources,
        "unreadable": {
            "count": evaluation.unreadable.count,
            "first": [{"path": path, "code": code} for path, code in evaluation.unreadable.first],
        },
        "passed_over": evaluation.unreadable.passed_over + evaluation.outside,
        "in_domain": list(options.in_domain),
        **({} if panel is None else {"panel": _panel_record(panel)}),
        "bootstrap": {"seed": options.seed, "replicates": replicates_for(images), "level": 0.95},
        "command": options.command,
        "made_at": evaluation.made_at,
        "versions": versions(),
    }


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    """What was measured of one model."""
    manifest = evaluation.manifest
    return {
        "model": {
            "name": manifest.name,
            "version": manifest.version,
            "sha256": manifest.sha256,
            "architecture": manifest.architecture,
            "calibration": asdict(manifest.calibration),
            "abstain_band": asdict(manifest.abstain_band),
            "notice": manifest.notice,
        },
        "threshold": evaluation.threshold,
        "images": evaluation.counts,
        "verdicts": evaluation.verdicts,
        "reasons": evaluation.reasons,
        "groups": [_as_json(one) for one in evaluation.groups],
        "robustness": {
            kind: [
                {"level": one.level, "groups": [_as_json(group) for group in one.groups]}
                for one in points
            ]
            for kind, points in evaluation.sweeps.items()
        },
        "spread": evaluation.spread,
    }


def _panel_record(panel: Panel) -> dict[str, Any]:
    """What was measured of a panel; the worst disputes stand in the report alone."""
    found = panel.measured
    return {
        "rule": panel.rule,
        "verdicts": panel.verdicts,
        "members": [_figures(one) for one in panel.members],
        "judges": [
            {
                "name": one.name,
                "rule": one.is_rule,
                "images": one.images,
                "rates": {group: _shares(rates) for group, rates in one.rates.items()},
                "changes": _shares(one.changes),
            }
            for one in found.judges
        ],
        "pairs": [
            {
                "members": [one.first, one.second],
                "on": {
                    kind: {"images": like.images}
                    | _shares({"same": like.same, "opposite": like.opposite, "kappa": like.kappa})
                    for kind, like in one.on.items()
                },
            }
            for one in found.pairs
        ],
        "agreement": [asdict(one) for one in found.agreement],
        "disputed": found.disputed,
    }


def versions() -> dict[str, str]:
    """Of Python and the packages that matter."""
    names = {"d3": DISTRIBUTION, "numpy": "numpy", "pillow": "pillow", "torch": "torch"}
    return {"python": platform.python_version()} | {
        name: version(package) for name, package in names.items()
    }


def write_outputs(
    evaluation: Evaluation, file: ScoreFile, folder: Path, decoder: ImageDecoder
) -> list[Path]:
    """Write ``report.html``, ``metrics.json``, and ``scores.parquet`` where pyarrow is installed.

    Each appears whole or not at all. Returns what there is, the report first.

    Raises:
        StorageFailed: something cannot be written.
    """
    from d3.evaluation.report import render

    report = render(evaluation, decoder)
    figures = msgspec.json.format(msgspec.json.encode(record(evaluation)), indent=1) + b"\n"
    with writing(folder):
        put(folder / "report.html", report.encode())
        put(folder / "metrics.json", figures)
        written = [folder / "report.html", folder / "metrics.json", file.finished]
        table = folder / "scores.parquet"
        if write_parquet(file.records(), table, file.columns):
            written.append(table)
    return written


def _as_json(group: Group) -> dict[str, Any]:
    return {**asdict(group), "figures": _shares(group.figures)}


def _shares(figures: Mapping[str, Share]) -> dict[str, Any]:
    """Figures for JSON; NaN (undefined) becomes null."""
    return {
        name: None
        if math.isnan(one.value)
        else {"value": one.value, "low": one.low, "high": one.high}
        for name, one in figures.items()
    }
