"""``d3 models diff``: what an upgrade would change, before it is made."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from d3.domain.errors import RequestInvalid
from d3.entrypoints.cli.evaluate import (
    loaded,
    looked_through,
    scorer_of,
    scoring,
    tell_unreadable,
)
from d3.entrypoints.cli.labelled import (
    DATASETS_OR_HISTORY,
    FROM_HISTORY,
    SINCE,
    check_source,
    described,
    labelled,
)
from d3.entrypoints.cli.opening import build_container
from d3.entrypoints.cli.options import JSON, SEED, VIEWS, complete_model
from d3.entrypoints.cli.output import complain, counted, out, print_json, printable
from d3.entrypoints.cli.progress import progress

if TYPE_CHECKING:
    from d3.domain.models import Manifest
    from d3.evaluation.diff import Difference, Example, Rows

_TITLES = {
    "accuracy_real": "correct on real images",
    "accuracy_fake": "correct on generated images",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "ap": "average precision",
    "auroc": "AUROC",
    "fpr_at_95_tpr": "FPR at 95 % TPR",
    "tpr_at_1_fpr": "TPR at 1 % FPR",
    "ece": "calibration error",
}


@click.command()
@click.argument("first", shell_complete=complete_model, metavar="A")
@click.argument("second", shell_complete=complete_model, metavar="B")
@DATASETS_OR_HISTORY
@FROM_HISTORY
@SINCE
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("d3-diff"),
    show_default=True,
    help="Folder for the scores of both models and diff.json.",
)
@VIEWS
@SEED
@JSON
def diff(
    first: str,
    second: str,
    datasets: tuple[str, ...],
    *,
    from_history: bool,
    since: timedelta | None,
    folder: Path,
    views: int,
    seed: int,
    as_json: bool,
) -> None:
    """Compare two models on real and generated images.

    A and B are NAME or NAME@VERSION, such as `mine@1 mine@2` before and after `d3 calibrate`. Shows
    how verdicts and predictions change, every metric of both models with the interval of the
    difference (both are resampled alike), and the images that change most.

    With --from-history, A and B are versions with the same weights, and the images are those of
    labelled results that these weights judged.
    """
    import msgspec

    from d3.domain.files import put
    from d3.evaluation.diff import compare
    from d3.evaluation.files import writing

    check_source(datasets, since, from_history=from_history)
    if from_history and views != 1:
        raise click.UsageError("--views needs a DATASET.")
    if from_history:
        models, rows = _of_history(first, second, since)
    else:
        models, rows = _of_datasets(first, second, datasets, folder, views)
    with progress("Comparing"):
        found = compare(rows[0], rows[1], (models[0].threshold, models[1].threshold), seed=seed)
    names = [f"{one.name} version {one.version}" for one in models]
    record = {"before": names[0], "after": names[1], "seed": seed} | asdict(found)
    record["notices"] = [one.notice for one in models]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        put(folder / "diff.json", msgspec.json.format(msgspec.json.encode(record)) + b"\n")
    if as_json:
        print_json(record)
    else:
        _print(found, names)
    for name, one in zip(names, models, strict=True):
        if one.notice:
            complain(f"{name}: {one.notice}", "note")
    if models[0].sha256 == models[1].sha256:
        complain(
            "Both models have the same weights. Only calibration and threshold differ.", "note"
        )


def _of_datasets(
    first: str, second: str, datasets: tuple[str, ...], folder: Path, views: int
) -> tuple[list[Manifest], list[Rows]]:
    """Both models and what they say of the images of data sets."""
    from d3.evaluation.diff import recalibrated
    from d3.evaluation.perturbations import UNCHANGED

    dataset, counts = looked_through(datasets)
    models: list[Manifest] = []
    rows: list[Rows] = []
    for which in (first, second):
        container, manifest = loaded(which)
        models.append(manifest)
        if rows and views == 1 and models[0].sha256 == manifest.sha256:
            # The same weights: their logits are known.
            rows.append(recalibrated(rows[0], manifest))
            continue
        place = folder / f"{manifest.name}-{manifest.version}"
        with scoring(counts.total, title=f"{manifest.name} version {manifest.version}") as scored:
            file, unreadable = scorer_of(container).score(
                dataset,
                place,
                [UNCHANGED],
                members=[manifest],
                total=counts.total,
                views=views,
                progress=scored,
            )
        rows.append(file.rows)
        container.host().close()
    tell_unreadable(unreadable)
    return models, rows


def _of_history(
    first: str, second: str, since: timedelta | None
) -> tuple[list[Manifest], list[Rows]]:
    """Both models and what they say of the images of labelled results."""
    from d3.evaluation.diff import recalibrated

    container = build_container()
    models = [described(container, one) for one in (first, second)]
    if models[0].sha256 != models[1].sha256:
        raise RequestInvalid(
            "The two models have different weights, so the history cannot compare them.",
            "Give a data set instead of --from-history.",
        )
    found = labelled(container, models[0], since)
    found.check_enough(1, 1, "a comparison")
    for sentence in found.warnings:
        complain(sentence, "warning")
    return models, [recalibrated(lambda: found.rows, one) for one in models]


def _print(found: Difference, names: list[str]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from d3.evaluation.diff import VERDICTS

    table = Table(
        "", printable(names[0]), printable(names[1]), "CHANGE", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for metric, title in _TITLES.items():
        one = found.changes[metric]
        if math.isnan(one.before):
            continue
        change = one.difference
        clear = change.low > 0 or change.high < 0
        better = (change.value < 0) == (metric in {"ece", "fpr_at_95_tpr"})
        style = ("green" if better else "red") if clear else "dim"
        told = f"{100 * change.value:+6.1f}  [{100 * change.low:+.1f} to {100 * change.high:+.1f}]"
        table.add_row(
            title, f"{100 * one.before:.1f}", f"{100 * one.after:.1f}", Text(told, style=style)
        )
    table.caption = (
        f"In percent, {found.whole}, {counted(found.images, 'image')}; brackets hold 95 % "
        "intervals of the change, coloured where they exclude 0."
    )
    table.caption_justify = "left"
    out().print(table)
    for kind, title in (("real", "REAL IMAGES"), ("fake", "GENERATED IMAGES")):
        moves = [
            f"{count:,} from {VERDICTS[old]} to {VERDICTS[new]}"
            for old, line in enumerate(found.flips[kind])
            for new, count in enumerate(line)
            if count and old != new
        ]
        out().print(f"{title:<17} {'; '.join(moves) or 'no verdict changes'}")
    out().print(
        f"At the threshold, {found.newly_right:,} become correct and {found.newly_wrong:,} become "
        "wrong."
    )
    shift = ", ".join(f"{name} {value:+.3f}" for name, value in found.shift.items())
    out().print(f"Change of the predictions: {shift}.")
    _print_examples("Newly wrong", found.wrong)
    _print_examples("Newly correct", found.right)


def _print_examples(title: str, examples: list[Example]) -> None:
    for one in examples:
        out().print(
            f"{title}: {one.before:.3f} -> {one.after:.3f}  {one.label}  {printable(one.path)}",
            markup=False,
        )
