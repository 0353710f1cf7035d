"""Drift: whether the images of today are still like those that a model was calibrated on.

Today's images are another mix of real and generated ones than the calibration's, which makes no
rate of the calibration wrong. So the share of generated images is fitted first, and scores are
compared with the reference in that mix. What is left is a change within the real or within the
generated images. One change hides in the mix: real images that now look just like generated ones.
Only labels tell it from more generated images, so the fitted share is always said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from d3.domain.history import Day, VerdictCounts
from d3.domain.intervals import excess, wilson
from d3.domain.labels import Label
from d3.domain.models import Manifest
from d3.domain.scoring import BINS, Reference, Share, Verdict

FEWEST_IMAGES = 100
"""Images without which scores are not compared."""
FEWEST_LABELS = 10
"""Labelled images without which no rate is said."""
WATCH, DRIFTED = 0.1, 0.25
"""The usual marks of the population stability index."""
_LEAST = 0.05
"""The share of all images that joined bins hold at least."""


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
    Level.STABLE: (
        "The scores are like those of the calibration with the share of generated images that is "
        "shown. If you expect another share, check and label some images."
    ),
    Level.WATCH: "The scores have changed since the calibration. Check and label some images.",
    Level.DRIFTED: (
        "The scores are no longer like those of the calibration, so its rates may not hold. Label "
        "images, then run `d3 calibrate --from-history`."
    ),
    Level.UNCLEAR: (
        "Nothing can be said yet: there are too few images now, or were too few at the calibration."
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How the results of some time compare with the calibration; None where too few are there.

    Attributes:
        images: results, however often an image was sent.
        scores: how many probabilities lie in each of the :data:`~d3.domain.scoring.BINS`.
        uncertain: the share of results whose verdict is ``uncertain``.
        psi: the population stability index, less what chance adds to it, with its 95 % interval;
            against the reference in the mix that fits best.
        level: what it means.
        generated_share: the share of generated images in that mix, roughly.
        psi_with_mix: the index against real and generated images in equal parts, as the calibration
            weighs them: another mix counts here, too.
        labelled_real: the verdicts on images labelled real.
        labelled_generated: the verdicts on images labelled generated.
        agreement: of the labelled images with the verdict ``fake`` or ``real``, the share that is
            as the label says.
        fpr: of the images labelled real, the share whose verdict is ``fake``.
        tpr: of the images labelled generated, the share whose verdict is ``fake``.
    """

    images: int
    scores: tuple[int, ...]
    uncertain: Share | None = None
    psi: Share | None = None
    level: Level
    generated_share: float | None = None
    psi_with_mix: Share | None = None
    labelled_real: VerdictCounts
    labelled_generated: VerdictCounts
    agreement: Share | None = None
    fpr: Share | None = None
    tpr: Share | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftOfDay(Drift):
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
        model_version: the one that is meant: another has another calibration.
        calibration: the name of its calibration.
        reference: its images' probabilities; None if they were never counted, see ``note``.
        calibration_fpr: the false positive rate measured at the calibration; None if it was not.
        calibration_tpr: the true positive rate likewise.
        since: results of this time or later.
        until: results of before; None up to now.
        total: all days together.
        days: oldest first, without those that have no results.
        note: why scores are not compared, and what helps; empty if they are.
        notice: what must be said beside the model's verdicts; may be empty.
    """

    model_name: str
    model_version: int
    calibration: str
    reference: Reference | None = None
    calibration_fpr: Share | None = None
    calibration_tpr: Share | None = None
    since: datetime | None = None
    until: datetime | None = None
    total: Drift
    days: tuple[DriftOfDay, ...]
    note: str
    notice: str


def report(
    manifest: Manifest,
    days: Sequence[Day],
    since: datetime | None = None,
    until: datetime | None = None,
) -> DriftReport:
    """Compare results with the calibration of their model.

    Args:
        manifest: of the version that judged them all.
        days: its results, in the :data:`~d3.domain.scoring.BINS`.
        since: for the record.
        until: likewise.
    """
    calibration = manifest.calibration
    reference, measured = calibration.reference, calibration.measured
    total = Drift(**_figures(days, reference))
    note = ""
    if reference is None:
        note = (
            f"The calibration of {manifest.name} version {manifest.version} did not count the "
            "probabilities of its images. Run `d3 calibrate` to make a version that did."
        )
    elif total.psi is None:
        note = f"There are {total.images} results. At least {FEWEST_IMAGES} are needed."
    return DriftReport(
        model_name=manifest.name,
        model_version=manifest.version,
        calibration=calibration.name,
        reference=reference,
        calibration_fpr=None if measured is None else measured.fpr,
        calibration_tpr=None if measured is None else measured.tpr,
        since=since,
        until=until,
        total=total,
        days=tuple(DriftOfDay(start=one.start, **_figures([one], reference)) for one in days),
        note=note,
        notice=manifest.notice,
    )


def compare(scores: Sequence[int], reference: Reference, share: float) -> Share:
    """The population stability index of scores.

    With the shares ``p`` of the scores and ``q`` of the reference in each bin, the index is the sum
    of ``(p - q) * ln(p / q)``. Neighbouring bins are joined until they hold 5 % of both on average,
    and half an image is added to each. Without drift, the sum times ``n * m / (n + m)`` is
    chi-squared for so many images ``n`` and ``m`` (Yurdakul, 2018); with drift it is noncentral. So
    the interval is that of the noncentrality, and the value is less what chance adds on average.

    Args:
        scores: counts of the :data:`~d3.domain.scoring.BINS`, not all zero.
        reference: of the calibration.
        share: of generated images in the reference, in [0, 1].
    """
    real, fake = 1 - share, share
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
    return Share(min(max(index - freedom / scale, low), high), low, high)


def level_of(psi: Share) -> Level:
    """What an index means, as far as its interval allows."""
    if psi.low >= DRIFTED:
        return Level.DRIFTED
    if psi.low >= WATCH:
        return Level.WATCH
    return Level.STABLE if psi.high < WATCH else Level.UNCLEAR


def generated_share(scores: Sequence[int], reference: Reference) -> float:
    """The share of generated images with which the reference fits these scores best."""
    real, fake = (_shares(counts, 0.05) for counts in (reference.real, reference.fake))
    gaps = [two - one for one, two in zip(real, fake, strict=True)]

    def slope(share: float) -> float:
        """Of the logarithm of the likelihood, which is concave."""
        parts = zip(scores, real, gaps, strict=True)
        return math.fsum(count * gap / (one + share * gap) for count, one, gap in parts)

    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return low if high < 1 else high


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


def _shares(counts: Sequence[float], more: float = 0.5) -> list[float]:
    """Each count's share of all, with a little more in each, so that none is 0."""
    total = sum(counts) + more * len(counts)
    return [(one + more) / total for one in counts]


def _figures(days: Sequence[Day], reference: Reference | None) -> dict[str, Any]:
    """What a :class:`Drift` says of these days together."""
    scores = tuple(map(sum, zip((0,) * BINS, *(one.scores for one in days), strict=True)))
    images = sum(scores)
    real, generated = (_labelled(days, label) for label in (Label.REAL, Label.GENERATED))
    psi = share = with_mix = None
    if reference is not None and images >= FEWEST_IMAGES:
        share = generated_share(scores, reference)
        psi, with_mix = (compare(scores, reference, one) for one in (share, 0.5))
    agreeing, decided = real.real + generated.fake, real.real + real.fake
    return {
        "images": images,
        "scores": scores,
        "uncertain": _rate(sum(one.uncertain for one in days), images, 1),
        "psi": psi,
        "level": Level.UNCLEAR if psi is None else level_of(psi),
        "generated_share": share,
        "psi_with_mix": with_mix,
        "labelled_real": real,
        "labelled_generated": generated,
        "agreement": _rate(agreeing, decided + generated.real + generated.fake),
        "fpr": _rate(real.fake, real.total),
        "tpr": _rate(generated.fake, generated.total),
    }


def _rate(hits: int, total: int, fewest: int = FEWEST_LABELS) -> Share | None:
    return Share(hits / total, *wilson(hits, total)) if total >= fewest else None


def _labelled(days: Sequence[Day], label: Label) -> VerdictCounts:
    """The verdicts on images with this label."""
    return VerdictCounts(
        **{one.value: sum(day.labelled.get((label, one), 0) for day in days) for one in Verdict}
    )
