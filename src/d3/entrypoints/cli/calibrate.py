"""``d3 calibrate``: make a model's probabilities, threshold and doubt fit one's own images."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from d3.domain.errors import ModelProtected
from d3.entrypoints.cli.evaluate import (
    loaded_members,
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
from d3.entrypoints.cli.options import JSON, MODEL_VERSION, SEED, check_panel
from d3.entrypoints.cli.output import complain, counted, out, print_json, remark
from d3.entrypoints.cli.progress import progress

if TYPE_CHECKING:
    from d3.container import Container
    from d3.domain.models import Manifest
    from d3.domain.scoring import Calibration, Share
    from d3.evaluation.calibration import Calibrated, Fitted
    from d3.evaluation.dataset import Counts, Dataset
    from d3.evaluation.scores import Scores

_RATE = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command()
@DATASETS_OR_HISTORY
@FROM_HISTORY
@SINCE
@click.option(
    "--max-fpr",
    type=_RATE,
    default=0.01,
    show_default=True,
    help="Highest share of real images that may be judged fake. Sets the threshold.",
)
@click.option(
    "--max-miss",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Highest share of generated images that may be judged real. Sets the abstain band.",
)
@MODEL_VERSION
@click.option(
    "--panel",
    callback=check_panel,
    metavar="NAME,NAME",
    help="Calibrate these models, each for itself, in one pass over the images.",
)
@click.option(
    "--as", "target", metavar="NAME", help="Store the calibrated model under another name."
)
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for scores and metrics. The folder of a `d3 evaluate` on the same images saves "
    "time.",
)
@click.option("--dry-run", is_flag=True, help="Only measure; store nothing.")
@SEED
@JSON
def calibrate(
    datasets: tuple[str, ...],
    *,
    from_history: bool,
    since: timedelta | None,
    max_fpr: float,
    max_miss: float,
    model: str | None,
    panel: tuple[str, ...] | None,
    target: str | None,
    folder: Path | None,
    dry_run: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Fit a model's probabilities and threshold to your images.

    The abstain band is fitted too. DATASET holds real and generated images, as for `d3 evaluate`.
    The result is a new version of the model with the same weights. The values AFTER the fit are
    measured on images that were not used for it (five folds).

    With --from-history the images are those of labelled results that these weights judged.

    A model of a panel has a vote once it is calibrated. --panel calibrates several, each for
    itself.
    """
    import msgspec

    from d3.domain.files import put
    from d3.domain.models import checked_name
    from d3.evaluation.files import writing

    check_source(datasets, since, from_history=from_history)
    if panel is not None and (model is not None or target is not None):
        raise click.UsageError("--panel cannot be used with --model or --as.")
    if from_history:
        container = build_container()
        members = [described(container, one) for one in (panel or [model])]
    else:
        dataset, counts = looked_through(datasets)
        container, members = loaded_members(model, panel, alone=panel is None)
    targets = [one.name if target is None else checked_name(target) for one in members]
    if not dry_run:
        _check_targets(container, targets)
    known = "panel" if panel is not None else f"{members[0].name}-{members[0].version}"
    folder = folder or Path(f"d3-calibration-{known}")
    if from_history:
        images = [_of_history(container, one, since, max_fpr) for one in members]
    else:
        images = _of_dataset(container, members, dataset, counts, folder)
    asked = _Asked(max_fpr, max_miss, seed, store=not dry_run)
    records = [
        _calibrated(container, *one, asked, as_json=as_json)
        for one in zip(members, targets, images, strict=True)
    ]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        whole = records[0] if panel is None else {"panel": records}
        put(folder / "calibration.json", msgspec.json.format(msgspec.json.encode(whole)) + b"\n")
    if panel is None and not dry_run and container.host().chosen() != targets[0]:
        complain(f"Run `d3 models use {targets[0]}` to make it the default model.", "note")


class _Asked(NamedTuple):
    """The options of a fit, as on the command line; ``store`` is False for a dry run."""

    max_fpr: float
    max_miss: float
    seed: int
    store: bool


def _calibrated(
    container: Container,
    manifest: Manifest,
    target: str,
    images: _Images,
    asked: _Asked,
    *,
    as_json: bool,
) -> dict[str, Any]:
    """Fit one model, store the result under a name, and tell of it; what there is to record."""
    from d3.evaluation.calibration import calibrate as fitted

    with progress("Fitting"):
        result = fitted(
            images.scores,
            before=manifest.calibration,
            threshold=manifest.threshold,
            band=manifest.abstain_band,
            max_fpr=asked.max_fpr,
            max_miss=asked.max_miss,
            seed=asked.seed,
        )
    record: dict[str, Any] = {"model": manifest.name, "version": manifest.version}
    record["notice"] = manifest.notice
    record |= {"max_fpr": asked.max_fpr, "max_miss": asked.max_miss, "seed": asked.seed}
    record |= result.record()
    stored = None
    if asked.store:
        today = datetime.now(UTC).strftime("%Y-%m-%d")
        named = f"{images.source}, {today}, FPR {asked.max_fpr:g}"
        calibration = result.calibration(named, images.source)
        stored = _store(container, manifest, target, result.fitted, calibration)
        record["stored"] = {"name": stored.name, "version": stored.version}
    if as_json:
        print_json(record)
    else:
        _print(result, manifest)
    if manifest.notice:
        complain(manifest.notice, kind="note")
    for sentence in (*images.warnings, *result.warnings):
        complain(sentence, kind="warning")
    if stored is not None:
        what = f"{stored.name} version {stored.version}"
        remark(f"Stored as {what}. The weights are unchanged.")
    return record


class _Images(NamedTuple):
    """What a calibration is fitted on.

    Attributes:
        source: where the images are from.
        warnings: what is to be said of them, as sentences.
    """

    scores: Scores
    source: str
    warnings: list[str]


def _of_dataset(
    container: Container,
    members: list[Manifest],
    dataset: Dataset,
    counts: Counts,
    folder: Path,
) -> list[_Images]:
    """What each member says of the images, which are decoded once for all of them."""
    from d3.evaluation.perturbations import ORIGINAL, UNCHANGED
    from d3.evaluation.scores import gather, of_member

    with scoring(counts.total) as scored:
        file, unreadable = scorer_of(container).score(
            dataset, folder, [UNCHANGED], members=members, total=counts.total, progress=scored
        )
    tell_unreadable(unreadable)
    source = ", ".join(Path(one).resolve().name for one in dataset.sources)[:100]
    return [
        _Images(gather(of_member(file.rows(), number))[ORIGINAL], source, [])
        for number in range(len(members))
    ]


def _of_history(
    container: Container, manifest: Manifest, since: timedelta | None, max_fpr: float
) -> _Images:
    from d3.evaluation.calibration import FEWEST, fewest_reals
    from d3.evaluation.perturbations import ORIGINAL
    from d3.evaluation.scores import gather

    found = labelled(container, manifest, since)
    reals = max(FEWEST, fewest_reals(max_fpr))
    found.check_enough(reals, FEWEST, f"a false positive rate of {max_fpr:g}")
    return _Images(gather(found.rows)[ORIGINAL], "labelled results", found.warnings)


def _check_targets(container: Container, names: list[str]) -> None:
    """A packaged model cannot get another version: say so before the work."""
    for one in container.models().list():
        name = one.manifest.name
        if one.packaged and name in names:
            raise ModelProtected(
                f"The model {name!r} ships with D3 and cannot be changed.",
                f"Calibrate it alone and store it under another name: --model {name} "
                f"--as {name}-calibrated.",
            )


def _store(
    container: Container,
    manifest: Manifest,
    name: str,
    fitted: Fitted,
    calibration: Calibration,
) -> Manifest:
    """The next version of the manifest, with the same files."""
    from d3.domain.models import derived_notice

    registry = container.registry()
    model = registry.open(manifest.name, manifest.version)
    changed = replace(
        manifest,
        name=name,
        threshold=fitted.threshold,
        calibration=calibration,
        abstain_band=fitted.band,
        notice=derived_notice(manifest),
        created_at="",
    )
    stored: Manifest = registry.put(replace(model, manifest=changed))
    return stored


def _print(result: Calibrated, manifest: Manifest) -> None:
    from rich import box
    from rich.table import Table

    before, after = result.before, result.after
    name = f"{manifest.name} version {manifest.version}"
    table = Table(name, "BEFORE", "AFTER", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_row("threshold", f"{before.threshold:.4f}", f"{after.threshold:.4f}")
    table.add_row("real images judged fake (FPR)", _told(before.fpr), _told(after.fpr))
    table.add_row("generated images judged fake (TPR)", _told(before.tpr), _told(after.tpr))
    table.add_row("calibration error (ECE)", _told(before.ece), _told(after.ece))
    table.add_row("uncertain verdicts", f"{before.uncertain:.1%}", f"{after.uncertain:.1%}")
    table.caption = (
        f"{counted(result.real, 'real image')}, {result.fake:,} generated. Brackets hold 95 % "
        "intervals. AFTER is measured on images that were not used for the fit."
    )
    table.caption_justify = "left"
    out().print(table)
    fitted = result.fitted
    out().print(f"temperature {1 / fitted.scale:.4g}, bias {fitted.bias:.4g}", style="dim")


def _told(share: Share) -> str:
    return f"{share.value:6.1%}  [{share.low:.1%} to {share.high:.1%}]"
