"""`d3 models diff`: what another model would change on a data set, before it is made the one."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from d3.domain.models import Manifest
from d3.domain.scoring import Reason, Share, assess
from d3.evaluation.bootstrap import interval
from d3.evaluation.dataset import DatasetInvalid
from d3.evaluation.measures import Group, measure_with_draws, overall
from d3.evaluation.metrics import METRICS
from d3.evaluation.scores import Row, Scores, gather, hash_of

Rows = Callable[[], Iterable[Row]]
"""Gives the rows of a model's scores, as often as need be."""

EXAMPLES = 5
VERDICTS = ("real", "uncertain", "fake")


@dataclass(frozen=True, slots=True)
class Change:
    """A figure before and after.

    Attributes:
        difference: after minus before, with the interval of the paired bootstrap.
    """

    before: float
    after: float
    difference: Share


@dataclass(frozen=True, slots=True)
class Example:
    """An image whose verdict changes."""

    path: str
    label: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Difference:
    """What the second model changes.

    Attributes:
        images: judged by both.
        left_out: judged by one of them only.
        whole: which line of an evaluation's table the changes are of.
        changes: by metric.
        flips: for each kind, how many images went from one verdict (rows) to another (columns), in
            the order of :data:`VERDICTS`.
        newly_right: images called rightly by the second alone, at its threshold.
        newly_wrong: by the first alone.
        shift: of the predictions: mean by kind, and quantiles of all.
        right: examples of those newly right, the largest changes first.
        wrong: of those newly wrong.
    """

    images: int
    left_out: int
    whole: str
    changes: dict[str, Change]
    flips: dict[str, list[list[int]]]
    newly_right: int
    newly_wrong: int
    shift: dict[str, float]
    right: list[Example]
    wrong: list[Example]


@dataclass(frozen=True, slots=True)
class _Side:
    scores: Scores
    hashes: NDArray[np.uint64]
    verdicts: NDArray[np.int8]

    def chosen(self, places: NDArray[np.int64]) -> _Side:
        one = self.scores
        kept = replace(
            one,
            fake=one.fake[places],
            generator=one.generator[places],
            logit=one.logit[places],
            prediction=one.prediction[places],
            spread=one.spread[places],
            uncertain=one.uncertain[places],
        )
        return _Side(kept, self.hashes[places], self.verdicts[places])


def recalibrated(rows: Rows, manifest: Manifest) -> Rows:
    """The rows as another calibration of the same weights would have them, for one view."""

    def changed() -> Iterator[Row]:
        for row in rows():
            if row.error:
                yield row
                continue
            assert row.logit is not None
            reason = Reason(row.reason) if row.reason else None
            score = assess(
                [row.logit],
                threshold=manifest.threshold,
                calibration=manifest.calibration,
                abstain_band=manifest.abstain_band,
                lack=reason if reason and reason.is_lack else None,
            )
            yield replace(
                row,
                prediction=score.prediction,
                verdict=score.verdict.value,
                reason=score.reason or "",
                notice=manifest.notice,
            )

    return changed


def compare(
    first: Rows, second: Rows, thresholds: tuple[float, float], *, seed: int = 0
) -> Difference:
    """Compare two models' scores of the same images.

    Args:
        first: scores of the model in use.
        second: of the one that may take its place.
        thresholds: of both.
        seed: of the bootstrap.

    Raises:
        DatasetInvalid: no image was judged by both.
    """
    sides = [_side(first()), _side(second())]
    _, left, right = np.intersect1d(sides[0].hashes, sides[1].hashes, return_indices=True)
    if not len(left):
        raise DatasetInvalid(
            "No image of the data set was judged by both models.",
            "`d3 dataset check` lists the problem of each.",
        )
    total = sum(len(one.hashes) for one in sides)
    before, after = sides[0].chosen(left), sides[1].chosen(right)
    fake = before.scores.fake
    called = [
        one.scores.prediction > threshold
        for one, threshold in zip((before, after), thresholds, strict=True)
    ]
    was, now = called[0] == fake, called[1] == fake
    shift = after.scores.prediction - before.scores.prediction
    whole, changes = _changes(before.scores, after.scores, thresholds, seed)
    return Difference(
        images=len(left),
        left_out=total - 2 * len(left),
        whole=whole.name,
        changes=changes,
        flips={
            kind: _flips(before.verdicts[fake == truth], after.verdicts[fake == truth])
            for kind, truth in (("real", False), ("fake", True))
        },
        newly_right=int((now & ~was).sum()),
        newly_wrong=int((was & ~now).sum()),
        shift=_shift(shift, fake),
        right=_examples(first, before, after, shift, now & ~was),
        wrong=_examples(first, before, after, shift, was & ~now),
    )


def _side(rows: Iterable[Row]) -> _Side:
    hashes, verdicts = array("Q"), array("b")

    def seen() -> Iterator[Row]:
        for row in rows:
            if not row.error:
                hashes.append(hash_of(row.condition, row.path))
                verdicts.append(VERDICTS.index(row.verdict))
            yield row

    scores = next(iter(gather(seen()).values()), None)
    if scores is None:
        raise DatasetInvalid(
            "None of the images in the data set can be read.",
            "`d3 dataset check` lists the problem of each.",
        )
    return _Side(
        scores, np.frombuffer(hashes, dtype=np.uint64), np.frombuffer(verdicts, dtype=np.int8)
    )


def _changes(
    before: Scores, after: Scores, thresholds: tuple[float, float], seed: int
) -> tuple[Group, dict[str, Change]]:
    """The figures of the line for the whole data set, and their changes."""
    tables = [
        measure_with_draws(scores, threshold=threshold, seed=seed)
        for scores, threshold in zip((before, after), thresholds, strict=True)
    ]
    whole = overall([one.group for one in tables[0]])
    lines = [next(one for one in table if one.group.name == whole.name) for table in tables]
    changes = {}
    for name in METRICS:
        old, new = (one.group.figures[name].value for one in lines)
        ends = interval(lines[1].draws[name] - lines[0].draws[name])
        changes[name] = Change(old, new, Share(new - old, *ends))
    return whole, changes


def _flips(before: NDArray[np.int8], after: NDArray[np.int8]) -> list[list[int]]:
    size = len(VERDICTS)
    pairs = before.astype(np.int64) * size + after
    table: list[list[int]] = np.bincount(pairs, minlength=size**2).reshape(size, size).tolist()
    return table


def _shift(shift: NDArray[np.float64], fake: NDArray[np.bool_]) -> dict[str, float]:
    means = {
        f"mean of {kind}": float(shift[fake == truth].mean())
        for kind, truth in (("real", False), ("fake", True))
        if (fake == truth).any()
    }
    quantiles = dict(
        zip(("5 %", "median", "95 %"), np.quantile(shift, [0.05, 0.5, 0.95]), strict=True)
    )
    return means | {name: float(value) for name, value in quantiles.items()}


def _examples(
    rows: Rows,
    before: _Side,
    after: _Side,
    shift: NDArray[np.float64],
    chosen: NDArray[np.bool_],
) -> list[Example]:
    """The images chosen whose prediction moved most; rows are read again for their names."""
    places = np.flatnonzero(chosen)
    places = places[np.argsort(-np.abs(shift[places]), kind="stable")][:EXAMPLES]
    wanted = {int(before.hashes[place]): int(place) for place in places}
    found: dict[int, Example] = {}
    if wanted:
        for row in rows():
            place = wanted.get(hash_of(row.condition, row.path))
            if place is not None:
                found[place] = Example(
                    row.path,
                    row.label,
                    float(before.scores.prediction[place]),
                    float(after.scores.prediction[place]),
                )
    return [found[int(place)] for place in places if int(place) in found]
