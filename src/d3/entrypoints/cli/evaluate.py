"""``d3 evaluate``: does the detector hold on my images?"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from d3.domain.models import notice_of
from d3.domain.panels import PanelRule, check_complete
from d3.entrypoints.cli.measured import print_evaluation
from d3.entrypoints.cli.opening import build_container
from d3.entrypoints.cli.options import (
    DATASETS,
    JSON,
    MODEL_VERSION,
    PANEL,
    PANEL_RULE,
    SEED,
    THRESHOLD,
    VIEWS,
    check_one_chief,
    check_rule,
)
from d3.entrypoints.cli.output import complain, counted, print_json, remark
from d3.entrypoints.cli.progress import progress

if TYPE_CHECKING:
    from d3.container import Container
    from d3.domain.models import Manifest
    from d3.evaluation.dataset import Counts, Dataset
    from d3.evaluation.scoring import Scorer, Unreadable

_LISTED = 10
_SWEEPS = ("jpeg", "blur", "resize", "double-jpeg")


@click.command()
@DATASETS
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("d3-evaluation"),
    show_default=True,
    help="Folder for report.html, metrics.json and scores.csv.",
)
@MODEL_VERSION
@PANEL
@PANEL_RULE
@THRESHOLD
@VIEWS
@click.option(
    "--in-domain",
    metavar="NAME,...",
    default="",
    help="Generators that the model was trained on. Their mean and the mean of the others are "
    "shown.",
)
@click.option(
    "--robustness",
    metavar="[all|KIND,...]",
    is_flag=False,
    flag_value="all",
    default="",
    help=f"Also judge the images after each of these changes: {', '.join(_SWEEPS)}.",
)
@SEED
@JSON
def evaluate(
    datasets: tuple[str, ...],
    *,
    folder: Path,
    model: str | None,
    panel: tuple[str, ...] | None,
    panel_rule: str | None,
    threshold: float | None,
    views: int,
    in_domain: str,
    robustness: str,
    seed: int,
    as_json: bool,
) -> int:
    """Measure a model on real and generated images.

    DATASET is a folder with real/ and fake/ (or 0_real/ and 1_fake/, nature/ and ai/) at any depth,
    such as one folder for each generator, or a CSV file with the columns path,label,generator.

    After an interruption, run the same command again to continue. The report is a single HTML
    file. scores.csv holds the prediction of every image.

    With --panel, each image is decoded once for all members. They are shown side by side, with what
    each rule makes of their verdicts and where they disagree.
    """
    sweeps, known = _sweeps(robustness), _names(in_domain)
    dataset, counts = looked_through(datasets)
    from d3.evaluation.evaluate import Options, conditions_of
    from d3.evaluation.evaluate import evaluate as measured
    from d3.evaluation.measures import check_in_domain
    from d3.evaluation.outputs import record, write_outputs

    check_in_domain(known, counts.generators)
    container, members = loaded_members(model, panel, panel_rule)
    options = Options(
        threshold=threshold,
        views=views,
        in_domain=known,
        sweeps=sweeps,
        rule=PanelRule(container.settings().panel_rule),
        seed=seed,
        command=shlex.join(["d3", *sys.argv[1:]]),
    )
    with scoring(counts.total, len(conditions_of(options.sweeps))) as scored:
        evaluation, file = measured(
            scorer_of(container),
            dataset,
            members,
            options,
            folder,
            counts=counts,
            progress=scored,
        )
    with progress("Writing the report"):
        written = write_outputs(evaluation, file, folder, container.decoder())
    if as_json:
        print_json(record(evaluation) | {"written": [str(one) for one in written]})
    else:
        print_evaluation(evaluation)
    tell_unreadable(evaluation.unreadable)
    tell_voteless(members)
    if not evaluation.counts["real"] or not evaluation.counts["fake"]:
        kind = "generated" if evaluation.counts["fake"] else "real"
        complain(
            f"There are only {kind} images. AP, AUROC and ECE are meaningful only with both kinds.",
            kind="warning",
        )
    if notice := notice_of(members):
        complain(notice, kind="note")
    others = ", ".join(one.name for one in written[1:])
    remark(f"Report: {written[0]} (also written: {others})")
    return 0


def loaded(model: str | None, container: Container | None = None) -> tuple[Container, Manifest]:
    """D3 with a model loaded: the one in use, or NAME, or NAME@VERSION."""
    container = container or build_container()
    # However the command ends: a thread in the middle of a pass would take the process down hard.
    click.get_current_context().call_on_close(container.host().close)
    name, version = named_version(model)
    with progress("Loading the model"):
        manifest: Manifest = container.host().load(name, version).manifest
    return container, manifest


def loaded_members(
    model: str | None,
    panel: tuple[str, ...] | None,
    rule: str | None = None,
    *,
    alone: bool = False,
) -> tuple[Container, list[Manifest]]:
    """D3 with a panel loaded, the chief first: of --panel, or of the settings; or one model.

    Args:
        model: as for --model.
        panel: as for --panel.
        rule: as for --panel-rule.
        alone: whether the settings' panel does not count.

    Raises:
        click.UsageError: both are named, or a rule without a panel.
        D3Error: one of them cannot be loaded.
    """
    check_one_chief(model, panel)
    container = build_container(panel=panel, panel_rule=rule)
    names = () if alone or model is not None else container.settings().panel
    check_rule(rule, names)
    container, chief = loaded(model, container)
    return container, [chief, *loaded_beside(container, chief, names[1:])]


def loaded_beside(container: Container, chief: Manifest, others: Sequence[str]) -> list[Manifest]:
    """A panel's other models, loaded beside the chief.

    Raises:
        PanelIncomplete: one cannot be loaded.
    """
    if not others:
        return []
    with (
        progress("Loading the panel"),
        container.host().panel([chief.name, *others], load=True) as found,
    ):
        check_complete(found.missing)
        return [one.manifest for one in found.others]


def tell_voteless(members: Sequence[Manifest]) -> None:
    """Name the models of a panel whose opinion is shown and does not count."""
    for one in members[1:]:
        if not one.calibration.fitted:
            complain(
                f"{one.name} is not calibrated, so it has no vote. `d3 calibrate DATASET --model "
                f"{one.name}` gives it one.",
                "note",
            )


def named_version(text: str | None) -> tuple[str | None, int | None]:
    """``NAME`` or ``NAME@VERSION`` taken apart.

    Raises:
        click.BadParameter: the version is no number.
    """
    if text is None:
        return None, None
    from d3.domain.models import checked_name

    name, sign, version = text.partition("@")
    if sign and not (version.isascii() and version.isdigit() and int(version)):
        raise click.BadParameter(f"{text!r} is not NAME@VERSION, such as starter@1.")
    return checked_name(name), int(version) if sign else None


def scorer_of(container: Container) -> Scorer:
    """What scores data sets with the loaded model."""
    from d3.evaluation.scoring import Scorer

    settings = container.settings()
    return Scorer(container.host(), container.detection(), container.decoder(), settings.batch_size)


@contextmanager
def scoring(
    total: int, conditions: int = 1, title: str = "Scoring"
) -> Iterator[Callable[[str, int, int], None]]:
    """Show how far all conditions are; scores outlive a Ctrl-C."""
    with progress(title) as tell:
        seen: list[str] = []

        def scored(condition: str, done: int, _total: int) -> None:
            if condition not in seen:
                seen.append(condition)
            finished = (len(seen) - 1) * total + done
            tell(title, finished, total * conditions, condition if conditions > 1 else "")

        try:
            yield scored
        except KeyboardInterrupt:
            complain("Finished scores are kept. Run the same command again to continue.", "note")
            raise


def looked_through(datasets: Sequence[str]) -> tuple[Dataset, Counts]:
    """A data set, and what it is made of, which is said."""
    from d3.evaluation.dataset import Dataset

    with progress("Reading the data set"):
        dataset = Dataset(datasets)
        counts = dataset.count()
    _tell_counts(counts)
    return dataset, counts


def _tell_counts(counts: Counts) -> None:
    generators = f" of {len(counts.fake)} generators" if len(counts.fake) > 1 else ""
    text = f"{counts.real.total():,} real and {counts.fake.total():,} generated files{generators}"
    if counts.outside:
        text += (
            f"; {counted(counts.outside, 'file')} outside the folders for real and generated images"
        )
    remark(text)


def tell_unreadable(unreadable: Unreadable) -> None:
    """List what could not be judged."""
    for path, code in unreadable.first[:_LISTED]:
        complain(f"{path}: {code}", kind="warning")
    if unreadable.count:
        more = "; scores.csv lists all of them" if unreadable.count > _LISTED else ""
        number = counted(unreadable.count, "image")
        complain(f"{number} could not be judged{more}.", kind="warning")
    if unreadable.passed_over:
        passed_over = counted(unreadable.passed_over, "other file")
        complain(f"{passed_over} skipped.", kind="note")


def _names(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())


def _sweeps(text: str) -> tuple[str, ...]:
    chosen = _names(text)
    if chosen == ("all",):
        return _SWEEPS
    unknown = [one for one in chosen if one not in _SWEEPS]
    if unknown:
        raise click.BadParameter(
            f"{unknown[0]!r} is not a perturbation. Use all, or some of {', '.join(_SWEEPS)}.",
            param_hint="--robustness",
        )
    return chosen
