"""Drift: whether the images of today are still like those that a model was calibrated on.

Today's images are another mixture of real and generated ones than the calibration's, which no
distance should be blamed on. So the share of generated images is fitted first, and scores are
compared with the reference in that mixture. What is left is a change within the real or within the
generated images, and only such a change makes the calibration's rates wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from d3.domain.history import VerdictCounts
from d3.domain.intervals import excess, wilson
from d3.domain.models import Manifest
from d3.domain.scoring import BINS, Reference, Share

FEWEST_IMAGES = 100
"""Images without which scores are not compared."""
FEWEST_LABELS = 10
"""Labelled images without which no rate is said."""
WATCH, DRIFTED = 0.1, 0.25
"""The usual marks of the population stability index."""
_LEAST = 0.05
_SMOOTHING = 0.5


class Level(StrEnum):
    """What a population stability index means; :attr:`sentence` says it to people."""

    STABLE = "stable"
    WATCH = "watch"
    DRIFTED = "drifted"
    UNCLEAR = "unclear"

    @property
    def sentence(self) -> str:
        """One sentence for people."""
        return _SENTENCES[self]


_SENTENCES = {
    Level.STABLE: "The scores are distributed like those of the calibration.",
    Level.WATCH: "The scores have changed since the calibration. Check and label some images.",
    Level.DRIFTED: (
        "The scores are no longer like those of the calibration, so its rates may not hold. Label "
        "images, then run `d3 calibrate --from-history`."
    ),
    Level.UNCLEAR: "There are too few images to tell.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the history holds of some results.

    Attributes:
        scores: how many probabilities lie in each of the :data:`~d3.domain.scoring.BINS`.
        by_verdict: results by verdict.
        labelled_real: those whose image somebody says is real.
        labelled_generated: those whose image somebody says is generated.
    """

    scores: tuple[int, ...]
    by_verdict: VerdictCounts
    labelled_real: VerdictCounts = VerdictCounts()
    labelled_generated: VerdictCounts = VerdictCounts()


@dataclass(frozen=True, slots=True, kw_only=True)
class DayCounts(Counts):
    """The same of one version of a model and one day.

    Attributes:
        start: the day's first moment, in UTC.
        model_name: None where it was never recorded.
        model_version: likewise.
    """

    start: datetime
    model_name: str | None
    model_version: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift(Counts):
    """How the results of some time compare with the calibration; None where too few are there.

    Attributes:
        images: results, however often an image was sent.
        uncertain: the share of results whose verdict is ``uncertain``.
        psi: the population stability index, less what chance adds to it, with its 95 % interval.
        level: what it means.
        generated_share: the share of generated images with which the reference fits best.
        agreement: of the labelled results with the verdict ``fake`` or ``real``, the share that is
            as the label says.
        fpr: of the images labelled real, the share whose verdict is ``fake``.
        tpr: of the images labelled generated, the share whose verdict is ``fake``.
    """

    images: int
    uncertain: Share | None
    psi: Share | None
    level: Level
    generated_share: Share | None
    agreement: Share | None
    fpr: Share | None
    tpr: Share | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DayDrift(Drift):
    """The same of one day.

    Attributes:
        start: its first moment, in UTC.
    """

    start: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """Whether the results of a model are still like its calibration, in all and by day.

    Attributes:
        model_name: of the model.
        model_version: only results of this version are compared: another one has another
            calibration.
        calibration: the name of its calibration.
        reference: its images' probabilities; None if they were never counted, see ``note``.
        calibration_fpr: the false positive rate measured at the calibration; None if it was not.
        calibration_tpr: the true positive rate likewise.
        since: results of this time or later.
        until: results of before.
        total: all days together.
        days: oldest first, without those that have no results.
        others: results of other models and versions, which are not compared.
        note: what is missing for a comparison, and how to get it; empty if nothing is.
        notice: what must be said beside the model's verdicts; may be empty.
    """

    model_name: str
    model_version: int
    calibration: str
    reference: Reference | None
    calibration_fpr: Share | None
    calibration_tpr: Share | None
    since: datetime | None
    until: datetime | None
    total: Drift
    days: tuple[DayDrift, ...]
    others: int
    note: str
    notice: str


def report(
    manifest: Manifest,
    counted: Sequence[DayCounts],
    since: datetime | None = None,
    until: datetime | None = None,
) -> DriftReport:
    """Compare what the history counted with the calibration of one version of a model."""
    mine = (manifest.name, manifest.version)
    own = [one for one in counted if (one.model_name, one.model_version) == mine]
    calibration = manifest.calibration
    reference, measured = calibration.reference, calibration.measured
    total = Drift(**_figures(_sum(own), reference))
    note = ""
    if reference is None:
        note = (
            f"The calibration of {manifest.name} version {manifest.version} did not count the "
            "probabilities of its images. Run `d3 calibrate` to make a version that did."
        )
    elif total.images < FEWEST_IMAGES:
        note = f"{total.images} results are too few: {FEWEST_IMAGES} are needed."
    return DriftReport(
        model_name=manifest.name,
        model_version=manifest.version,
        calibration=calibration.name,
        reference=reference,
        calibration_fpr=measured and measured.fpr,
        calibration_tpr=measured and measured.tpr,
        since=since,
        until=until,
        total=total,
        days=tuple(
            DayDrift(start=one.start, **_figures(one, reference))
            for one in sorted(own, key=lambda one: one.start)
        ),
        others=sum(sum(one.scores) for one in counted) - total.images,
        note=note,
        notice=manifest.notice,
    )


def compare(scores: Sequence[int], reference: Reference) -> tuple[Share, Share]:
    """The population stability index of scores, and the share of generated images they suggest.

    With the shares ``p`` of the scores and ``q`` of the reference in each bin, the index is the sum
    of ``(p - q) * ln(p / q)``, where ``q`` mixes real and generated images as fits best.
    Neighbouring bins are joined until they hold 5 % of both, and half an image is added to each.
    Were there no drift, its value times ``n * m / (n + m)`` would be chi-squared (Yurdakul, 2018),
    for so many images ``n`` and ``m``; with drift it is noncentral. So the interval is that of the
    noncentrality, and the value is less what chance adds on average.

    Args:
        scores: counts of the :data:`~d3.domain.scoring.BINS`, not all zero.
        reference: of the calibration.
    """
    share = _generated_share(scores, reference)
    real, fake = 1 - share.value, share.value
    reals, fakes, images = map(sum, (reference.real, reference.fake, scores))
    size = 1 / (real**2 / reals + fake**2 / fakes)  # of a single sample that is as exact
    mixed = [
        size * (real * one / reals + fake * other / fakes)
        for one, other in zip(reference.real, reference.fake, strict=True)
    ]
    joined = _joined(scores, mixed)
    now, then = (_shares(counts) for counts in zip(*joined, strict=True))
    index = math.fsum((p - q) * math.log(p / q) for p, q in zip(now, then, strict=True))
    scale = images * size / (images + size)
    freedom = max(len(joined) - 1, 1)
    low, high = (one / scale for one in excess(scale * index, freedom))
    return Share(min(max(index - freedom / scale, low), high), low, high), share


def level_of(psi: Share) -> Level:
    """What an index means, as far as its interval allows."""
    if psi.low >= DRIFTED:
        return Level.DRIFTED
    if psi.low >= WATCH:
        return Level.WATCH
    return Level.STABLE if psi.high < WATCH else Level.UNCLEAR


def _generated_share(scores: Sequence[int], reference: Reference) -> Share:
    """The most likely share of generated images, with its interval."""
    real, fake = _shares(reference.real), _shares(reference.fake)
    apart = [two - one for one, two in zip(real, fake, strict=True)]

    def mixed(share: float) -> list[float]:
        return [one + share * gap for one, gap in zip(real, apart, strict=True)]

    def slope(share: float) -> float:
        parts = zip(scores, apart, mixed(share), strict=True)
        return math.fsum(count * gap / mass for count, gap, mass in parts)

    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    share, images = (low + high) / 2, sum(scores)
    pull = [gap / mass for gap, mass in zip(apart, mixed(share), strict=True)]
    told = math.fsum(gap * one for gap, one in zip(apart, pull, strict=True))
    samples = (
        (1.0, [one / images for one in scores], images),
        (1 - share, real, sum(reference.real)),
        (share, fake, sum(reference.fake)),
    )
    spread = math.fsum(
        weight**2 * _variance(shares, pull) / size for weight, shares, size in samples
    )
    reach = 1.96 * math.sqrt(spread) / told if told else 1.0
    return Share(share, max(0.0, share - reach), min(1.0, share + reach))


def _variance(shares: Sequence[float], values: Sequence[float]) -> float:
    """Of values that come with these probabilities."""
    mean = math.fsum(p * one for p, one in zip(shares, values, strict=True))
    return math.fsum(p * (one - mean) ** 2 for p, one in zip(shares, values, strict=True))


def _joined(first: Sequence[float], second: Sequence[float]) -> list[tuple[float, float]]:
    """Counts of both in neighbouring bins joined until they hold a part of all."""
    totals = sum(first), sum(second)
    groups: list[tuple[float, float]] = []
    one = two = 0.0
    for a, b in zip(first, second, strict=True):
        one, two = one + a, two + b
        if one / totals[0] + two / totals[1] >= 2 * _LEAST:
            groups.append((one, two))
            one = two = 0.0
    last = groups.pop()
    return [*groups, (last[0] + one, last[1] + two)]


def _shares(counts: Sequence[float]) -> list[float]:
    """Each count's share of all; none is 0."""
    total = sum(counts) + _SMOOTHING * len(counts)
    return [(one + _SMOOTHING) / total for one in counts]


def _figures(counts: Counts, reference: Reference | None) -> dict[str, Any]:
    """What a :class:`Drift` says of these results."""
    images = sum(counts.scores)
    real, generated = counts.labelled_real, counts.labelled_generated
    psi = share = None
    if reference is not None and images >= FEWEST_IMAGES:
        psi, share = compare(counts.scores, reference)
    return {name: getattr(counts, name) for name in Counts.__dataclass_fields__} | {
        "images": images,
        "uncertain": _rate(counts.by_verdict.uncertain, images, 1),
        "psi": psi,
        "level": Level.UNCLEAR if psi is None else level_of(psi),
        "generated_share": share,
        "agreement": _rate(
            real.real + generated.fake,
            real.real + real.fake + generated.real + generated.fake,
        ),
        "fpr": _rate(real.fake, _all(real)),
        "tpr": _rate(generated.fake, _all(generated)),
    }


def _rate(hits: int, total: int, fewest: int = FEWEST_LABELS) -> Share | None:
    return Share(hits / total, *wilson(hits, total)) if total >= fewest else None


def _all(counts: VerdictCounts) -> int:
    return counts.fake + counts.real + counts.uncertain


def _sum(parts: Iterable[Counts]) -> Counts:
    """All of them together."""
    parts = list(parts)

    def verdicts(name: str) -> VerdictCounts:
        return VerdictCounts(
            **{
                one: sum(getattr(getattr(part, name), one) for part in parts)
                for one in VerdictCounts.__dataclass_fields__
            }
        )

    return Counts(
        scores=tuple(map(sum, zip((0,) * BINS, *(one.scores for one in parts), strict=True))),
        **{name: verdicts(name) for name in ("by_verdict", "labelled_real", "labelled_generated")},
    )
