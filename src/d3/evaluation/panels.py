"""What a panel's members and rules did on a data set: who agrees with whom, and at what price.

Shares have Wilson's interval; changes and coefficients that of the paired bootstrap.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from d3.domain.intervals import wilson
from d3.domain.panels import Agreement, PanelRule
from d3.domain.scoring import Share, Verdict
from d3.evaluation.bootstrap import draws, interval, replicates_at_once, replicates_for
from d3.evaluation.measures import ALL, layout
from d3.evaluation.metrics import Numbers
from d3.evaluation.scores import Row, Said, Scores

WORST = 12
"""Disputed images of each kind that are shown."""

RATES = (
    *("coverage", "coverage_real", "coverage_fake"),
    *("fpr", "tpr", "fpr_decided", "tpr_decided"),
)
"""What is measured of whoever gives verdicts, each in [0, 1].

``coverage`` is the share of images with a verdict other than ``uncertain``, of all, of the real and
of the generated ones. ``fpr`` and ``tpr`` are the shares of real and of generated images called
``fake``, among all of them and among those decided."""

Codes: TypeAlias = NDArray[np.int8]

_REAL, _OPEN, _FAKE = range(3)
_CODES: dict[str, int] = {"real": _REAL, "uncertain": _OPEN, "fake": _FAKE, "": -1}
_OUTCOMES = ("right", "wrong", "uncertain")
_DISTANCES = np.abs(np.subtract.outer(np.arange(3), np.arange(3))) / 2
_KINDS = ("real", "fake")


@dataclass(frozen=True, slots=True)
class Judge:
    """A member or a rule, and what its verdicts are worth.

    Attributes:
        name: the model's or the rule's.
        is_rule: which of the two.
        images: that it judged.
        rates: :data:`RATES` by generator, each with its real images, and for all images.
        changes: of all images, from the chief alone to this; empty for the chief.
    """

    name: str
    is_rule: bool
    images: int
    rates: dict[str, dict[str, Share]]
    changes: dict[str, Share]


@dataclass(frozen=True, slots=True)
class Likeness:
    """How far two members say the same of some images.

    Attributes:
        images: that both judged.
        same: the share with the same verdict.
        opposite: the share that one called ``fake`` and the other ``real``.
        kappa: Cohen's (1968), chance taken off, where ``uncertain`` lies halfway between ``real``
            and ``fake``: 1 is perfect agreement, 0 what chance gives; NaN where neither varies.
    """

    images: int
    same: Share
    opposite: Share
    kappa: Share


@dataclass(frozen=True, slots=True)
class Pair:
    """Two members, compared on all images and on each kind alone.

    The whole mixes two causes: both are often right. Within a kind only the second is left, that
    they err on the same images.

    Attributes:
        on: ``all``, ``real`` and ``fake``, as far as there are images.
    """

    first: str
    second: str
    on: dict[str, Likeness]


@dataclass(frozen=True, slots=True)
class Tally:
    """How often the members agreed on the images of one kind and generator."""

    kind: str
    generator: str
    agree: int
    partial: int
    disagree: int


@dataclass(frozen=True, slots=True)
class Measured:
    """All of it.

    Attributes:
        judges: the members, the chief first, then the rules.
        pairs: of members.
        agreement: real images first, then generator by generator.
        disputed: of the images that members contradict each other on, how many each member called
            ``right``, ``wrong`` and ``uncertain``, by member and kind.
        worst: the disputed images of each kind with the widest gap between the highest prediction
            of a member that says ``fake`` and the lowest of one that says ``real``.
    """

    judges: list[Judge]
    pairs: list[Pair]
    agreement: list[Tally]
    disputed: dict[str, dict[str, dict[str, int]]]
    worst: dict[str, list[Row]]


def kappa(tables: Numbers) -> Numbers:
    """Cohen's weighted kappa of tables [..., 3, 3]: counts of one's verdicts by the other's."""
    total = tables.sum(axis=(-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = np.einsum("...i,...j->...ij", tables.sum(axis=-1), tables.sum(axis=-2))
        chance = (expected * _DISTANCES).sum(axis=(-2, -1)) / total
        found = (tables * _DISTANCES).sum(axis=(-2, -1))
        return np.where(chance > 0, 1 - found / chance, np.nan)


def measure_panel(
    rows: Iterable[Row], names: Sequence[str], scores: Scores, *, seed: int = 0
) -> Measured:
    """Measure a panel.

    Args:
        rows: of unchanged images that were judged.
        names: of the members, the chief's first.
        scores: the chief's of the same images, in the same order.
        seed: of the bootstrap.
    """
    seen = _Seen(names)
    for row in rows:
        seen.add(row)
    columns, fake = seen.columns(), scores.fake
    plan, count = layout(scores), len(fake)

    def drawn() -> Iterator[Numbers]:
        return draws(plan.strata, seed, replicates_for(count), replicates_at_once(count))

    groups = {**plan.members, ALL: np.arange(count)}
    judges = [
        Judge(
            name,
            is_rule=place >= len(names),
            images=int(np.count_nonzero(said >= 0)),
            rates={group: _rates(said[some], fake[some]) for group, some in groups.items()},
            changes=_changes(columns[0], said, fake, drawn()) if place else {},
        )
        for place, (name, said) in enumerate(zip((*names, *PanelRule), columns, strict=True))
    ]
    pairs = [
        _pair(names[one], names[other], columns[one], columns[other], fake, drawn)
        for one, other in combinations(range(len(names)), 2)
    ]
    return Measured(judges, pairs, seen.agreement(), seen.disputes(), seen.worst())


def said_of(row: Row) -> list[tuple[str, float]]:
    """Each member's verdict, empty where it gave none, and prediction; the chief's first."""
    everybody: list[Row | Said] = [row, *row.others]
    return [(one.verdict, one.prediction if one.prediction is not None else 0) for one in everybody]


class _Seen:
    """What is kept of the rows, in little memory."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._codes = array("b")
        self._tallies: dict[tuple[str, str], Counter[str]] = {}
        self._disputes = {name: {kind: Counter[str]() for kind in _KINDS} for name in names}
        self._worst: dict[str, list[tuple[float, int, Row]]] = {kind: [] for kind in _KINDS}

    def add(self, row: Row) -> None:
        said = said_of(row)
        self._codes.extend(_CODES[one] for one in (*(one for one, _ in said), *row.by_rule))
        self._tallies.setdefault((row.label, row.generator), Counter())[row.agreement] += 1
        if row.agreement != Agreement.DISAGREE:
            return
        for name, (verdict, _) in zip(self._names, said, strict=True):
            if verdict:
                word = "right" if verdict == row.label else "wrong"
                word = verdict if verdict == Verdict.UNCERTAIN else word
                self._disputes[name][row.label][word] += 1
        gap = max(number for verdict, number in said if verdict == Verdict.FAKE) - min(
            number for verdict, number in said if verdict == Verdict.REAL
        )
        heap = self._worst[row.label]
        entry = (gap, -len(self._codes), row)  # of equal gaps the first stay
        (heapq.heappush if len(heap) < WORST else heapq.heappushpop)(heap, entry)

    def columns(self) -> list[Codes]:
        """The verdicts [n] of each member, then by each rule; -1 where there is none."""
        table = np.frombuffer(self._codes, dtype=np.int8)
        return list(table.reshape(-1, len(self._names) + len(PanelRule)).T)

    def agreement(self) -> list[Tally]:
        ordered = sorted(self._tallies, key=lambda one: (one[0] == "fake", one[1]))
        return [Tally(*one, *(self._tallies[one][word] for word in Agreement)) for one in ordered]

    def disputes(self) -> dict[str, dict[str, dict[str, int]]]:
        return {
            name: {kind: {word: found[word] for word in _OUTCOMES} for kind, found in kinds.items()}
            for name, kinds in self._disputes.items()
        }

    def worst(self) -> dict[str, list[Row]]:
        return {
            kind: [row for _, _, row in sorted(heap, reverse=True)]
            for kind, heap in self._worst.items()
        }


def _counts(said: Codes, fake: NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """Which images count above and below the line of each of :data:`RATES`: [n, rates] each."""
    judged, decided, called = said >= 0, np.isin(said, (_REAL, _FAKE)), said == _FAKE
    above = (decided, decided & ~fake, decided & fake, *2 * (called & ~fake, called & fake))
    below = (
        *(judged, judged & ~fake, judged & fake),
        *(judged & ~fake, judged & fake, decided & ~fake, decided & fake),
    )
    return np.stack(above, axis=1).astype(float), np.stack(below, axis=1).astype(float)


def _rates(said: Codes, fake: NDArray[np.bool_]) -> dict[str, Share]:
    above, below = (one.sum(axis=0).tolist() for one in _counts(said, fake))
    return {name: _share(*pair) for name, *pair in zip(RATES, above, below, strict=True)}


def _changes(
    before: Codes, after: Codes, fake: NDArray[np.bool_], drawn: Iterable[Numbers]
) -> dict[str, Share]:
    """How the rates change, with the interval of the paired bootstrap."""
    sides = [_counts(one, fake) for one in (before, after)]
    with np.errstate(invalid="ignore", divide="ignore"):
        old, new = (above.sum(axis=0) / below.sum(axis=0) for above, below in sides)
        chunks = [
            [(counts @ above) / (counts @ below) for above, below in sides] for counts in drawn
        ]
    spread = np.concatenate([second - first for first, second in chunks])
    return {
        name: Share(float(new[place] - old[place]), *interval(spread[:, place]))
        for place, name in enumerate(RATES)
    }


def _pair(  # noqa: PLR0917  two names, their verdicts, and what is known of the images
    first: str,
    second: str,
    one: Codes,
    other: Codes,
    fake: NDArray[np.bool_],
    drawn: Callable[[], Iterable[Numbers]],
) -> Pair:
    both = (one >= 0) & (other >= 0)
    groups = {"all": both, "real": both & ~fake, "fake": both & fake}
    cells = np.eye(9)[np.where(both, 3 * one.astype(np.int64) + other, 0)]
    masked = {name: cells * mask[:, None] for name, mask in groups.items() if mask.any()}
    spread: dict[str, list[Numbers]] = {name: [] for name in masked}
    for counts in drawn():
        for name, of_group in masked.items():
            spread[name].append(kappa((counts @ of_group).reshape(-1, 3, 3)))
    on = {}
    for name, of_group in masked.items():
        table = of_group.sum(axis=0).reshape(3, 3)
        images = int(table.sum())
        value = float(kappa(table))
        on[name] = Likeness(
            images,
            same=_share(float(np.trace(table)), images),
            opposite=_share(float(table[_REAL, _FAKE] + table[_FAKE, _REAL]), images),
            kappa=Share(value, *interval(np.concatenate(spread[name]))),
        )
    return Pair(first, second, on)


def _share(hits: float, total: float) -> Share:
    return Share(hits / total if total else math.nan, *wilson(hits, int(total)))
