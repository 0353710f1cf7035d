"""From scores to figures: each generator, the means as the paper's table, and all together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from d3.domain.errors import RequestInvalid
from d3.domain.scoring import Share
from d3.evaluation.bootstrap import interval, replicates_at_once, replicates_for, resample
from d3.evaluation.metrics import METRICS, Numbers, Sample
from d3.evaluation.scores import Scores

Kind = Literal["generator", "mean", "together"]

IN_DOMAIN, OUT_OF_DOMAIN, TOTAL = "in-domain mean", "out-of-domain mean", "mean of generators"
ALIKE, ALL = "all, generators alike", "all images"


@dataclass(frozen=True, slots=True)
class Group:
    """The figures of one line of the table.

    Attributes:
        name: a generator's, or one of this module's names.
        kind: whether it is a generator, a mean over generators, or images put together.
        in_domain: of a generator, whether the user says it was trained on; None where nothing was
            said.
    """

    name: str
    kind: Kind
    in_domain: bool | None
    real: int
    fake: int
    uncertain: float
    figures: dict[str, Share]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A line of the table with the bootstrap replicates behind its intervals.

    Attributes:
        group: the line.
        draws: [replicates] of each metric.
    """

    group: Group
    draws: dict[str, Numbers]


@dataclass(frozen=True, slots=True)
class Layout:
    """Which images belong to which generator, and the strata of the bootstrap.

    Attributes:
        members: places in the scores of each generator's images, its real ones with them.
        strata: [n] a number for each generator and kind.
        weights: [n] with which every generator counts the same: each one's images are repeated to
            the size of the largest; a real image that stands against several counts with each.
    """

    members: dict[str, NDArray[np.int64]]
    strata: NDArray[np.int64]
    weights: Numbers


def layout(scores: Scores) -> Layout:
    """Sort images by generator."""
    names = np.array(scores.names, dtype=object)
    with_fakes = set(scores.generator[scores.fake].tolist())
    own = np.isin(scores.generator, list(with_fakes))
    shared = ~scores.fake & ~own
    members = {
        str(names[one]): np.flatnonzero((scores.generator == one) | shared)
        for one in sorted(with_fakes, key=lambda one: names[one])
    }
    weights = np.zeros(len(scores.fake))
    largest = max(map(len, members.values()), default=1)
    for places in members.values():
        weights[places] += largest / len(places)
    # Numbers that follow from the names, so that two runs draw the same replicates.
    ranks = {one: rank for rank, one in enumerate(sorted(scores.names))}
    numbers = np.array([ranks[name] for name in scores.names], dtype=np.int64)
    return Layout(members, 2 * numbers[scores.generator] + scores.fake, weights)


def check_in_domain(named: Collection[str], generators: Collection[str]) -> None:
    """Make sure that every generator named is there.

    Raises:
        RequestInvalid: one is not; those that are there are listed.
    """
    unknown = sorted(set(named) - set(generators))
    if unknown:
        raise RequestInvalid(
            f"The data set has no generator called {', '.join(map(repr, unknown))}.",
            f"Its generators are {', '.join(sorted(generators)) or 'none'}.",
        )


def measure(
    scores: Scores, *, threshold: float, in_domain: Collection[str] = (), seed: int = 0
) -> list[Group]:
    """The table of :func:`measure_with_draws`, without the replicates."""
    found = measure_with_draws(scores, threshold=threshold, in_domain=in_domain, seed=seed)
    return [one.group for one in found]


def measure_with_draws(
    scores: Scores, *, threshold: float, in_domain: Collection[str] = (), seed: int = 0
) -> list[Drawn]:
    """The table: generators by name, means over them, then all images together.

    Args:
        scores: of one condition.
        threshold: applied to predictions.
        in_domain: generators that the model was trained on; the others are out-of-domain. Without
            any, only the mean over all is there.
        seed: of the bootstrap.
    """
    plan = layout(scores)
    count = len(scores.fake)
    replicates, at_once = replicates_for(count), replicates_at_once(count)

    def sampled(
        places: NDArray[np.int64] | slice, weights: Numbers | None = None
    ) -> tuple[dict[str, Numbers], dict[str, Numbers]]:
        sample = Sample(
            scores.fake[places], scores.logit[places], scores.prediction[places], threshold
        )
        drawn = resample(
            sample,
            plan.strata[places],
            seed=seed,
            replicates=replicates,
            at_once=at_once,
            weights=weights,
        )
        return sample.measure(weights), drawn

    lines: list[Drawn] = []
    values, draws = {}, {}
    for name, places in plan.members.items():
        values[name], draws[name] = sampled(places)
        known = name in in_domain if in_domain else None
        line = _group(scores, name, "generator", known, places, values[name], draws[name])
        lines.append(Drawn(line, draws[name]))
    if len(plan.members) > 1:
        for name, chosen in _means(list(plan.members), in_domain).items():
            # One replicate of the mean is the mean of the generators' same replicate.
            mean = {one: _mean([values[g][one] for g in chosen]) for one in METRICS}
            spread = {one: _mean([draws[g][one] for g in chosen]) for one in METRICS}
            places = np.unique(np.concatenate([plan.members[g] for g in chosen]))
            line = _group(scores, name, "mean", None, places, mean, spread)
            open_share = np.mean([one.group.uncertain for one in lines if one.group.name in chosen])
            lines.append(Drawn(replace(line, uncertain=float(open_share)), spread))
        lines.append(_together(scores, ALIKE, *sampled(slice(None), plan.weights)))
    if len(plan.members) != 1:
        lines.append(_together(scores, ALL, *sampled(slice(None))))
    return lines


def overall(groups: list[Group]) -> Group:
    """The line that stands for the whole: the mean of the generators, or the only one."""
    return next((one for one in groups if one.name == TOTAL), groups[-1])


def _means(generators: list[str], in_domain: Collection[str]) -> Mapping[str, list[str]]:
    means = {}
    if inside := [one for one in generators if one in in_domain]:
        means[IN_DOMAIN] = inside
        if outside := [one for one in generators if one not in in_domain]:
            means[OUT_OF_DOMAIN] = outside
    return means | {TOTAL: generators}


def _mean(values: list[Numbers]) -> Numbers:
    return np.asarray(np.mean(np.array(values), axis=0))


def _together(
    scores: Scores, name: str, values: Mapping[str, Numbers], draws: dict[str, Numbers]
) -> Drawn:
    return Drawn(_group(scores, name, "together", None, slice(None), values, draws), draws)


def _group(  # noqa: PLR0917  the columns of one line of the table
    scores: Scores,
    name: str,
    kind: Kind,
    in_domain: bool | None,  # noqa: FBT001
    places: NDArray[np.int64] | slice,
    values: Mapping[str, Numbers],
    draws: Mapping[str, Numbers],
) -> Group:
    fake = scores.fake[places]
    return Group(
        name=name,
        kind=kind,
        in_domain=in_domain,
        real=int(np.count_nonzero(~fake)),
        fake=int(np.count_nonzero(fake)),
        uncertain=float(np.mean(scores.uncertain[places])) if len(fake) else float("nan"),
        figures={one: Share(float(values[one]), *interval(draws[one])) for one in METRICS},
    )
