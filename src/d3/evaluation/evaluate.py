"""`d3 evaluate`: scores a data set and measures it."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from d3.domain.files import Progress, no_progress
from d3.domain.models import Manifest
from d3.domain.panels import PanelRule
from d3.domain.scoring import Verdict
from d3.evaluation.calibration import balancing
from d3.evaluation.dataset import Counts, Dataset
from d3.evaluation.measures import Group, check_in_domain, measure
from d3.evaluation.metrics import Sample
from d3.evaluation.panels import Measured, measure_panel
from d3.evaluation.perturbations import ORIGINAL, SWEEPS, UNCHANGED, Perturbation
from d3.evaluation.scores import Row, ScoreFile, gather, of_member
from d3.evaluation.scoring import Scorer, Unreadable

WORST = 12
"""Mistakes of each kind that are shown."""

_CURVE_POINTS = 200
_HISTOGRAM_BINS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is asked of an evaluation.

    Attributes:
        threshold: in [0, 1]; None: the model's own.
        views: 1 to 16 permutations to average.
        in_domain: generators that the model was trained on.
        sweeps: of :data:`SWEEPS`, by name.
        rule: of a panel; all of them are measured, this one is shown first.
    """

    threshold: float | None = None
    views: int = 1
    in_domain: tuple[str, ...] = ()
    sweeps: tuple[str, ...] = ()
    rule: PanelRule = PanelRule.CHIEF
    seed: int = 0
    command: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """One strength of a perturbation.

    Attributes:
        level: None for the unchanged images.
        groups: their figures.
    """

    level: float | None
    groups: list[Group]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The result for one model: the only one, or a panel's chief with the panel beside it.

    Attributes:
        threshold: the one applied.
        counts: real and generated images that were judged.
        outside: files in no folder that says their kind.
        sweeps: of the robustness test, by kind.
        verdicts: of unchanged images, by their kind and by verdict.
        reasons: of verdicts left open.
        worst: real images called fake with the highest, then generated ones called real with the
            lowest predictions.
        spread: of the views.
        made_at: ISO 8601 in UTC.
        panel: of which the model is the chief; None where it judged alone.
    """

    manifest: Manifest
    threshold: float
    options: Options
    sources: list[str]
    counts: dict[str, int]
    outside: int
    unreadable: Unreadable
    groups: list[Group]
    sweeps: dict[str, list[Point]]
    curves: Curves
    verdicts: dict[str, dict[str, int]]
    reasons: dict[str, int]
    worst: dict[str, list[Row]]
    spread: dict[str, float]
    made_at: str
    panel: Panel | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """What there is to say of a panel beside its chief.

    Attributes:
        members: each one's own evaluation, the chief's first.
        verdicts: of unchanged images by the rule asked for, by their kind and by verdict.
    """

    rule: PanelRule
    members: tuple[Evaluation, ...]
    measured: Measured
    verdicts: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Curves:
    """What is drawn, thinned to a few hundred points.

    Attributes:
        roc: (false positive rate, true positive rate) by name.
        pr: (recall, precision) by name.
        reliability: (mean prediction, share generated, images) of each bin, with equal weight for
            both kinds.
        histograms: images in each of 40 bins of the prediction, by kind.
    """

    roc: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    pr: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    reliability: list[tuple[float, float, int]] = field(default_factory=list)
    histograms: dict[str, list[int]] = field(default_factory=dict)


def conditions_of(sweeps: Iterable[str]) -> list[Perturbation]:
    """The unchanged images, then each strength of each sweep."""
    return [UNCHANGED, *(one for name in sweeps for one in SWEEPS[name])]


def evaluate(
    scorer: Scorer,
    dataset: Dataset,
    members: Sequence[Manifest],
    options: Options,
    folder: Path,
    *,
    counts: Counts | None = None,
    progress: Progress = no_progress,
) -> tuple[Evaluation, ScoreFile]:
    """Score and measure a model, or a panel with its chief first.

    ``counts`` spares another look through the data set.

    Raises:
        D3Error: the data set or the options make no sense, or the folder cannot be written.
    """
    counts = counts or dataset.count()
    check_in_domain(options.in_domain, counts.generators)
    file, unreadable = scorer.score(
        dataset,
        folder,
        conditions_of(options.sweeps),
        members=members,
        total=counts.total,
        threshold=options.threshold,
        views=options.views,
        progress=progress,
    )

    def measured(number: int) -> Evaluation:
        own = options if number == 0 else replace(options, threshold=None)
        return _measured(
            lambda: of_member(file.rows(), number),
            members[number],
            own,
            dataset.sources,
            counts.outside,
            unreadable,
        )

    chief, *others = map(measured, range(len(members)))
    if not others:
        return chief, file
    found = measure_panel(
        _plain(file.rows()),
        [one.name for one in members],
        gather(_plain(file.rows()))[ORIGINAL],
        seed=options.seed,
    )
    verdicts, _ = _verdicts(_by_rule(file.rows(), options.rule))
    panel = Panel(options.rule, (chief, *others), found, verdicts)
    return replace(chief, panel=panel), file


def _measured(  # noqa: PLR0917  the rows, whose they are, and what else is told
    rows: Callable[[], Iterator[Row]],
    manifest: Manifest,
    options: Options,
    sources: list[str],
    outside: int,
    unreadable: Unreadable,
) -> Evaluation:
    """The evaluation of one model from its rows."""
    threshold = manifest.threshold if options.threshold is None else options.threshold
    scores = gather(rows())
    plain = scores.get(ORIGINAL)
    if plain is None or not len(plain.fake):
        raise _nothing_readable(unreadable)
    tables = {
        name: measure(one, threshold=threshold, in_domain=options.in_domain, seed=options.seed)
        for name, one in scores.items()
    }
    fakes = int(np.count_nonzero(plain.fake))
    verdicts, reasons = _verdicts(rows())
    return Evaluation(
        manifest=manifest,
        threshold=threshold,
        options=options,
        sources=sources,
        counts={"real": len(plain.fake) - fakes, "fake": fakes},
        outside=outside,
        unreadable=unreadable,
        groups=tables[ORIGINAL],
        sweeps={
            kind: [Point(None, tables[ORIGINAL])]
            + [Point(one.level, tables[one.name]) for one in SWEEPS[kind] if one.name in tables]
            for kind in options.sweeps
        },
        curves=_curves(plain.fake, plain.logit, plain.prediction),
        verdicts=verdicts,
        reasons=reasons,
        worst=_worst(rows()),
        spread={
            "mean": float(np.mean(plain.spread)),
            "median": float(np.median(plain.spread)),
            "largest": float(np.max(plain.spread)),
        },
        made_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _plain(rows: Iterable[Row]) -> Iterator[Row]:
    """Those of unchanged images that were judged."""
    return (row for row in rows if row.condition == ORIGINAL and not row.error)


def _by_rule(rows: Iterable[Row], rule: PanelRule) -> Iterator[Row]:
    """The rows with the panel's verdicts in place of the chief's."""
    place = list(PanelRule).index(rule)
    return (replace(row, verdict=row.by_rule[place], reason="") for row in _plain(rows))


def _curves(
    fake: np.ndarray[Any, Any], logit: np.ndarray[Any, Any], prediction: np.ndarray[Any, Any]
) -> Curves:
    sample = Sample(fake, logit, prediction)
    edges = np.linspace(0, 1, _HISTOGRAM_BINS + 1)
    curves = Curves(
        reliability=sample.reliability(balancing(fake)),
        histograms={
            name: np.histogram(prediction[fake == kind], edges)[0].tolist()
            for name, kind in (("real", False), ("fake", True))
        },
    )
    if fake.all() or not fake.any():
        return curves
    false, found, precision = sample.curves()
    roc = _thinned([(0.0, 0.0), *zip(false.tolist(), found.tolist(), strict=True)])
    pr = _thinned(list(zip(found.tolist(), precision.tolist(), strict=True)))
    curves.roc["all images"], curves.pr["all images"] = roc, pr
    return curves


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A few hundred points at most, evenly along the curve, with both ends."""
    if len(points) <= _CURVE_POINTS:
        return points
    steps = np.abs(np.diff(np.array(points), axis=0)).sum(axis=1)
    along = np.append(0, np.cumsum(steps))
    places = np.searchsorted(along, np.linspace(0, along[-1], _CURVE_POINTS))
    return [points[one] for one in np.unique(np.append(places, [0, len(points) - 1]))]


def _verdicts(rows: Iterable[Row]) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    """How many images of each kind have which verdict, and why verdicts were left open."""
    said: Counter[tuple[str, str]] = Counter()
    reasons: Counter[str] = Counter()
    for row in rows:
        if row.condition == ORIGINAL and not row.error:
            said[row.label, row.verdict] += 1
            reasons.update([row.reason] if row.reason else [])
    verdicts = {
        kind: {one.value: said[kind, one.value] for one in Verdict} for kind in ("real", "fake")
    }
    return verdicts, dict(reasons.most_common())


def _worst(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The most certain mistakes of each kind, the worst first; an open verdict is none."""
    heaps: dict[str, list[tuple[float, int, Row]]] = {"real": [], "fake": []}
    for number, row in enumerate(rows):
        wrong = row.verdict not in {row.label, Verdict.UNCERTAIN}
        if row.condition != ORIGINAL or row.error or not wrong:
            continue
        assert row.logit is not None
        badness = row.logit if row.label == "real" else -row.logit
        heap = heaps[row.label]
        entry = (badness, -number, row)
        if len(heap) < WORST:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)
    return {name: [row for _, _, row in sorted(heap, reverse=True)] for name, heap in heaps.items()}


def _nothing_readable(unreadable: Unreadable) -> Exception:
    from d3.evaluation.dataset import DatasetInvalid

    example = f" ({unreadable.first[0][0]}: {unreadable.first[0][1]})" if unreadable.first else ""
    return DatasetInvalid(
        f"None of the images in the data set can be read{example}.",
        "Check that the files are images. `d3 dataset check` lists the problem of each.",
    )
