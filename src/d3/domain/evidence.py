"""Evidence: a case that can be checked and repeated years later, and what checking it found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import Self

from d3.domain.clips import ClipFrame, ClipVerdict, course_of, score_of
from d3.domain.errors import D3Error, EvidenceContradictory, ReplayImpossible
from d3.domain.history import HistoryEntry, NewEntry
from d3.domain.images import SMALLEST_SIDE
from d3.domain.inputs import CHANGES
from d3.domain.labels import LabelChange
from d3.domain.models import Manifest
from d3.domain.panels import Opinion, heard
from d3.domain.scoring import (
    AbstainBand,
    Calibration,
    Measured,
    Reason,
    Score,
    Verdict,
    assess,
)

IMAGE_STEM = "image."
"""How the name of an image in a bundle begins."""
FORMAT = "d3-evidence"
FORMAT_VERSION = 3
"""The newest format. It counts up when a field changes its meaning or goes; fields may be added
without it. In format 2 the verdict can be that of a panel, or doubted because of harmless changes
of the image, and need not follow from the logits alone. In format 3 it can be that on a clip, which
follows from those on its frames. Other cases are still written in format 1.
"""
MOST_LABELS = 100
"""Changes of labels that a case holds; its size would have no limit otherwise."""
_OF_OPINION = (
    *("prediction", "verdict", "reason", "threshold", "logit", "engine", "precision", "device"),
    *("calibration_scale", "calibration_bias", "abstain_below", "abstain_above"),
)
"""What an opinion and a result call by the same names."""
_SAME = 1e-6
"""Numbers of a case that differ by less are the same."""
_ROUNDED = 1e-5
"""What is rounded away of a frame's logit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseLabel(LabelChange):
    """What somebody said of the image.

    Attributes:
        labelled_by: their name; empty without an account.
    """

    labelled_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that is known of one verdict.

    Attributes:
        format: :data:`FORMAT`.
        format_version: see :data:`FORMAT_VERSION`.
        made_at: when the bundle was made, in UTC.
        made_by: for whom; empty without an account.
        d3_version: of the software that made the bundle.
        result: what was recorded of the verdict. Its ``d3_version`` is that of the verdict.
        result_id: in the history; None where it was never stored.
        asked_by: whose request the verdict answered; empty without an account.
        manifest: of the model; None where it is no longer in the registry.
        labels: what people said of the image, newest first; the newest :data:`MOST_LABELS`.
        label_changes: how often somebody said something; 0 where it was not counted.
    """

    format: str = FORMAT
    format_version: int = 1
    made_at: datetime
    made_by: str = ""
    d3_version: str
    result: NewEntry
    result_id: int | None = None
    asked_by: str = ""
    manifest: Manifest | None = None
    labels: tuple[CaseLabel, ...] = ()
    label_changes: int = 0

    @property
    def calibration(self) -> Calibration:
        """What was applied to the logits, with its rates where they were measured."""
        result, known = self.result, self.manifest and self.manifest.calibration
        applied = (result.calibration_scale, result.calibration_bias, result.calibration_name)
        same = known and applied == (known.scale, known.bias, known.name)
        return Calibration(*applied, known.measured if known and same else None)

    @property
    def measured(self) -> Measured | None:
        """The rates measured for the threshold applied; None where nobody measured them."""
        known = self.calibration.measured
        return known if known is not None and known.threshold == self.result.threshold else None

    @property
    def band(self) -> AbstainBand:
        """Where the model abstained."""
        return AbstainBand(self.result.abstain_below, self.result.abstain_above)

    @property
    def lack(self) -> Reason | None:
        """Why the image carried nothing to judge."""
        reason = self.result.reason
        return reason if reason is not None and reason.is_lack else None

    @property
    def own_threshold(self) -> float | None:
        """The model's own threshold, which a request may replace; None where it is not known."""
        own, judge = self.manifest, self.result.model
        if own is None or judge is None:
            return None
        return own.threshold if (own.name, own.version) == (judge.name, judge.version) else None

    @property
    def own_verdict(self) -> Verdict | None:
        """The verdict by the model's own threshold; None where it cannot be known."""
        own, logits = self.own_threshold, self.result.logits
        return self.assess(logits, own).verdict if own is not None and logits else None

    def assess(self, logits: tuple[float, ...], threshold: float | None = None) -> Score:
        """Read logits of the image as this verdict was read, or by another threshold.

        What the image's changes and the other models of a panel gave stays as it is recorded. Of a
        clip the logits are not looked at: each frame has its own.
        """
        applied = self.result.threshold if threshold is None else threshold
        clip = self.result.clip_verdict
        score = (
            assess(
                logits,
                threshold=applied,
                calibration=self.calibration,
                abstain_band=self.band,
                lack=self.lack,
            )
            if clip is None
            else score_of(course_of(self._frames(clip, threshold), applied, self.band), applied)
        ).tried(self.result.stability.values())
        panel = self.result.panel_verdict
        return score if panel is None else heard(score, panel.rule, panel.opinions)

    def _frames(self, clip: ClipVerdict, threshold: float | None) -> list[ClipFrame]:
        """The frames as they were judged, or by another threshold."""
        if threshold is None:
            return list(clip.frames)
        return [
            replace(
                frame,
                verdict=Verdict.FAKE if frame.prediction > threshold else Verdict.REAL,
                reason=None,
            )
            if frame.counts and not self.band.holds(frame.prediction, threshold)
            else replace(frame, verdict=Verdict.UNCERTAIN, reason=frame.reason)
            for frame in clip.frames
        ]

    def of_member(self, opinion: Opinion) -> Case:
        """The case of one model of the panel, as if it had judged alone.

        Raises:
            ValueError: from numbers that no model gives.
        """
        calibration = Calibration(opinion.calibration_scale, opinion.calibration_bias)
        views = [calibration.probability(one) for one in opinion.logits] or [opinion.prediction]
        result = replace(
            self.result,
            **{f"model_{name}": value for name, value in asdict(opinion.model).items()},
            **{name: getattr(opinion, name) for name in _OF_OPINION},
            is_fake=opinion.prediction > opinion.threshold,
            confidence=2 * abs(opinion.prediction - 0.5),
            calibration_name=opinion.calibration,
            views=len(views),
            view_logits=json.dumps(opinion.logits) if opinion.logits else "",
            spread=max(views) - min(views),
            libraries="",
            panel="",
            agreement=None,
            stability_probabilities="",
        )
        return replace(self, result=result, manifest=None)


def check_image(case: Case, image: bytes) -> None:
    """Check that an image is the one that the case is about.

    Raises:
        ReplayImpossible: it is not, or nobody knows which one that was.
    """
    recorded, found = case.result.image_sha256, hashlib.sha256(image).hexdigest()
    if recorded is None:
        raise ReplayImpossible("The case does not say which image it is about (no SHA-256).")
    if found != recorded:
        raise ReplayImpossible(
            f"This is not the image of the case: its SHA-256 is {found}, and the case's is "
            f"{recorded}.",
            "Name the original file. A copy that was opened and saved again is another file.",
        )


def check_case(case: Case) -> None:
    """Check that the verdict of a case, and each number, follows from the rest of it.

    Whoever signs can write what they like. Rows of an older D3 lack views' logits or reasons; of
    them, what they hold is checked.

    Raises:
        EvidenceContradictory: something does not follow.
    """
    what = "panel"
    try:
        _ = case.result.panel_verdict
        what = "clip"
        _ = case.result.clip_verdict
    except ValueError as error:
        raise EvidenceContradictory(
            f"What the case holds of its {what} cannot be read: {error}.",
            "Do not rely on it. If a later D3 made it, check it with that one.",
        ) from error
    try:
        wrong = [name for name, follows in _checks(case) if not follows]
    except (D3Error, ValueError, TypeError, ArithmeticError, RecursionError):
        wrong = ["prediction"]  # from numbers that no model gives
    if wrong:
        raise EvidenceContradictory(
            "The case contradicts itself. This does not follow from the rest of it: "
            f"{', '.join(dict.fromkeys(wrong))}.",
            "Do not rely on it, whoever signed it.",
        )


def format_of(result: NewEntry) -> int:
    """The first format that can hold the case of a result."""
    if result.clip:
        return 3
    return 2 if result.panel or result.stability else 1


def _checks(case: Case) -> Iterator[tuple[str, bool]]:
    """Names of what a case holds, and whether it follows from the rest."""
    yield "format_version", case.format_version >= format_of(case.result)
    result, logits, threshold = case.result, case.result.logits, case.result.threshold
    decided = result.verdict is not Verdict.UNCERTAIN
    smaller = min(result.image_width or 0, result.image_height or 0)
    yield "is_fake", result.is_fake is (result.prediction > threshold)
    yield "confidence", _same(result.confidence, 2 * abs(result.prediction - 0.5))
    yield "reason", not (decided and result.reason)
    yield "reason", result.reason is not Reason.TOO_SMALL or smaller < SMALLEST_SIDE
    if result.stability:
        changed = result.stability
        yield "stability", changed.keys() == set(CHANGES) and _are_shares(changed.values())
    if case.manifest is not None:
        yield "manifest", case.manifest.sha256 == result.model_sha256
    if result.logit is not None and not result.clip:
        yield "prediction", _same(result.prediction, case.calibration.probability(result.logit))
    panel = result.panel_verdict
    yield "agreement", result.agreement is (None if panel is None else panel.agreement)
    names = [one.model.name for one in result.opinions] + [one.model for one in result.missing]
    yield "opinions", len(set(names)) == len(names)
    if result.clip:
        yield from _checks_of_clip(case)
        return
    for number, opinion in enumerate(result.opinions):
        member = case.of_member(opinion)
        yield (
            "opinions",
            member.lack is case.lack and all(follows for _, follows in _checks(member)),
        )
        yield "opinions", opinion.calibrated is member.calibration.fitted
        yield "opinions", number > 0 or _is_of_chief(opinion, result)
    if not logits:
        yield "view_logits", panel is None
        held = case.band.holds(result.prediction, threshold)
        yield "verdict", not decided or (result.verdict is Verdict.FAKE) is result.is_fake
        yield "verdict", not (decided and held)
        return
    score = case.assess(logits)
    yield "view_logits", len(logits) == result.views
    yield "logit", result.logit is not None and _same(result.logit, score.logit)
    yield "prediction", _same(result.prediction, score.prediction)
    yield "spread", _same(result.spread, score.spread)
    yield "reason", result.reason in {None, score.reason}
    # As an older D3 wrote it.
    unexplained = case.format_version == 1 and not decided and result.reason is None
    yield "verdict", unexplained or result.verdict is score.verdict


def _checks_of_clip(case: Case) -> Iterator[tuple[str, bool]]:
    """The same of what a case holds of a clip: all follows from its frames."""
    result, clip = case.result, case.result.clip_verdict
    assert clip is not None
    course = course_of(clip.frames, result.threshold, case.band)
    times = [one.time for one in clip.frames]
    yield "clip", times == sorted(set(times))
    for frame in clip.frames:
        probability = case.calibration.probability(frame.logit)
        yield (
            "clip",
            abs(frame.prediction - probability) <= _SAME + _ROUNDED * case.calibration.scale,
        )
        decided = frame.verdict is not Verdict.UNCERTAIN
        fake = frame.prediction > result.threshold
        yield "clip", decided is (frame.reason is None)
        yield "clip", not decided or (frame.verdict is Verdict.FAKE) is fake
        yield "clip", not (decided and case.band.holds(frame.prediction, result.threshold))
    yield "clip", _same(clip.share_above, course.share) and _same(clip.highest_mean, course.highest)
    yield (
        "clip",
        (clip.highest_from, clip.highest_until) == (times[course.first], times[course.last]),
    )
    yield "clip", clip.judged_until == times[-1]
    yield "prediction", _same(result.prediction, course.highest)
    yield "logit", result.logit is not None and abs(result.logit - course.logit) <= _ROUNDED
    score = case.assess(())
    yield "verdict", result.verdict is score.verdict
    yield "reason", result.reason is score.reason
    for number, opinion in enumerate(result.opinions):
        yield "opinions", _are_shares([opinion.prediction, opinion.threshold])
        yield "opinions", number > 0 or opinion.model == result.model


def differences(opinion: Opinion, manifest: Manifest, *, chief: bool) -> tuple[str, ...]:
    """What an opinion says of its model otherwise than a manifest: names of its fields.

    Args:
        opinion: of a panel's member.
        manifest: of a model with the same weights.
        chief: whether it is the first, whose threshold a request may set.
    """
    calibration, band = manifest.calibration, manifest.abstain_band
    own = {
        "threshold": opinion.threshold if chief else manifest.threshold,
        "calibration": calibration.name,
        "calibration_scale": calibration.scale,
        "calibration_bias": calibration.bias,
        "calibrated": calibration.fitted,
        "abstain_below": band.below,
        "abstain_above": band.above,
    }
    return tuple(name for name, value in own.items() if getattr(opinion, name) != value)


def _is_of_chief(opinion: Opinion, result: NewEntry) -> bool:
    """Whether the first opinion is the recorded model's."""
    alike = ("model", *(one for one in _OF_OPINION if one not in {"verdict", "reason"}))
    return (
        all(getattr(opinion, name) == getattr(result, name) for name in alike)
        and opinion.calibration == result.calibration_name
    )


def _are_shares(numbers: Iterable[float]) -> bool:
    return all(0 <= one <= 1 for one in numbers)


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= _SAME


def recorded(entry: HistoryEntry) -> NewEntry:
    """An entry of the history without its place in it."""
    return NewEntry(**{one.name: getattr(entry, one.name) for one in fields(NewEntry)})


@dataclass(frozen=True, slots=True)
class OpenedEvidence:
    """A bundle whose members are as they were written.

    Attributes:
        case: what it says.
        members: its files by name, in order.
        key_id: of the key that signed it; None for a bundle without a signature.
        public_key: that key, PEM; it came with the bundle.
    """

    case: Case
    members: Mapping[str, bytes]
    key_id: str | None = None
    public_key: bytes = b""

    @property
    def image(self) -> bytes | None:
        """The image, where the bundle holds it."""
        return next(
            (one for name, one in self.members.items() if name.startswith(IMAGE_STEM)), None
        )


@dataclass(frozen=True, slots=True)
class Means:
    """By which means logits were computed.

    Attributes:
        engine: such as ``"torch"``.
        precision: such as ``"fp32"``.
        device: such as ``"cpu"``.
        libraries: versions of what decides the numbers.
    """

    engine: str
    precision: str
    device: str
    libraries: str

    @classmethod
    def of(cls, result: NewEntry) -> Self:
        """Those of a recorded verdict."""
        return cls(result.engine, result.precision, result.device, result.libraries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A case that was scored again.

    Attributes:
        before: how the recorded numbers came to be.
        now: how the new ones did.
        logits: raw, one per view.
        score: they read as the recorded verdict was read.
        drift: the largest difference of a probability from the recorded one, of any view.
        allowed: how large it may be between these means.
        verdict_changed: whether another verdict follows.
        members: the other models of a panel, each scored again as it judged alone, or why not.
        differs: what the opinion in a panel says of its model otherwise than the manifest of the
            model that was used here: names of fields of an :class:`Opinion`.
        same_version: whether that one has the name and version in the opinion, and has to agree.
            Another version with the same weights may be calibrated otherwise.
        close: whether a probability is so close to the threshold or to the edge of the abstain
            band that what is allowed can change the verdict.
        holds: whether the drift is allowed and, if another verdict follows, explains that, and the
            opinion says of its model what is so; of all models. None where it is so of all that
            could be scored again, but not all could.
        unscored: names of those that could not.
    """

    before: Means
    now: Means
    logits: tuple[float, ...]
    score: Score
    drift: float
    allowed: float
    verdict_changed: bool
    close: bool
    members: Mapping[str, Replayed | str] = field(default_factory=dict)
    differs: tuple[str, ...] = ()
    same_version: bool = True

    @property
    def unscored(self) -> list[str]:
        """Members that were not scored again."""
        return [name for name, one in self.members.items() if isinstance(one, str)]

    @property
    def holds(self) -> bool | None:
        """Whether the recorded numbers and the verdict hold; None where that is not known."""
        holds = (
            self.drift <= self.allowed
            and (self.close or not self.verdict_changed)
            and not (self.differs and self.same_version)
            and all(isinstance(one, str) or one.holds for one in self.members.values())
        )
        return None if holds and self.unscored else holds
