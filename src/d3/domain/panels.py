"""A panel: several models judge one image, and the verdict says when they disagree.

Numbers of different models are never averaged: each has its own calibration, threshold and verdict.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from math import isfinite
from typing import Any, Self, TypeVar

from d3.domain.errors import D3Error, PanelIncomplete, RequestInvalid, shown
from d3.domain.models import ModelReference, checked_name
from d3.domain.scoring import Calibration, Reason, Score, Verdict

T = TypeVar("T", "Missing", "ModelReference", "Opinion")

MAX_MEMBERS = 8

MAX_PANEL = 20_000
"""More characters than :meth:`PanelVerdict.to_json` ever writes: 8 members of 16 views."""


class PanelRule(StrEnum):
    """How the verdicts of a panel's members become one.

    The chief and every member with a calibration have a vote. A member whose probability lies in
    its own abstain band, or whose views disagree, is undecided.

    ``chief``: the chief's verdict, or ``uncertain`` where a vote contradicts it. ``any``: ``fake``
    where any vote says so, else ``uncertain`` where one is undecided, else ``real``. ``majority``:
    what more than half of the votes say, else ``uncertain``.
    """

    CHIEF = "chief"
    ANY = "any"
    MAJORITY = "majority"

    @property
    def sentence(self) -> str:
        """One sentence for people."""
        return _RULES[self]


_RULES = {
    PanelRule.CHIEF: (
        "The verdict is that of the first model. There is none where a calibrated model "
        "contradicts it."
    ),
    PanelRule.ANY: "The verdict is fake where the first or any calibrated model says so.",
    PanelRule.MAJORITY: (
        "The verdict is what more than half of the first and the calibrated models say."
    ),
}


class Agreement(StrEnum):
    """What two or more opinions of a panel are to each other, votes or not.

    ``agree``: all say the same. ``partial``: none contradicts another, but one or more are
    undecided. ``disagree``: one says ``fake`` and another ``real``.
    """

    AGREE = "agree"
    PARTIAL = "partial"
    DISAGREE = "disagree"

    @property
    def sentence(self) -> str:
        """One sentence for people."""
        return _SENTENCES[self]


_SENTENCES = {
    Agreement.AGREE: "All models of the panel say the same.",
    Agreement.PARTIAL: "No model of the panel contradicts another, but not all are decided.",
    Agreement.DISAGREE: "The models of the panel disagree.",
}
NOTHING_TO_COMPARE = "There is nothing to compare: {models} gave no opinion."
"""In place of an agreement, where a panel has one opinion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What one member of a panel says.

    Attributes:
        model: which one.
        prediction: probability in [0, 1] that the image is generated, after its calibration.
        verdict: its own, before any rule.
        reason: why it is ``uncertain``; None where it is not.
        threshold: its own, in [0, 1].
        logit: raw, mean over the views.
        calibration: the name of its calibration; ``"none"`` where it has none.
        calibrated: whether it has one, and so a vote.
        seconds: its share of the time on the device.
        calibration_scale: the logit is multiplied by this before the sigmoid.
        calibration_bias: and this is added.
        abstain_below: its abstain band: a distance in probability under its threshold.
        abstain_above: likewise over it.
        logits: each view's raw logit; empty for one view, whose logit is ``logit``.
        engine: what ran it, such as ``"torch"``.
        precision: likewise, such as ``"fp32"``.
        device: likewise, such as ``"cpu"``.
    """

    model: ModelReference
    prediction: float
    verdict: Verdict
    reason: Reason | None = None
    threshold: float
    logit: float
    calibration: str
    calibrated: bool
    seconds: float
    calibration_scale: float = 1.0
    calibration_bias: float = 0.0
    abstain_below: float = 0.0
    abstain_above: float = 0.0
    logits: tuple[float, ...] = ()
    engine: str = ""
    precision: str = ""
    device: str = ""

    @property
    def spread(self) -> float:
        """Largest minus smallest probability of the views; 0 for one view."""
        calibration = Calibration(self.calibration_scale, self.calibration_bias)
        views = [calibration.probability(one) for one in self.logits]
        return max(views) - min(views) if views else 0.0


@dataclass(frozen=True, slots=True)
class Missing:
    """A member of a panel that gave no opinion.

    Attributes:
        model: its name.
        code: of the error.
        error: why not, and what to do, in a sentence or two.
    """

    model: str
    code: str
    error: str

    @classmethod
    def of(cls, model: str, error: D3Error) -> Missing:
        """A member that an error kept away."""
        return cls(model, error.code, str(error)[:300])


@dataclass(frozen=True, slots=True)
class PanelVerdict:
    """What a panel said of one image.

    Attributes:
        rule: by which the verdict was found.
        opinions: the chief's first.
        missing: members that gave none.
    """

    rule: PanelRule
    opinions: tuple[Opinion, ...]
    missing: tuple[Missing, ...] = ()

    @property
    def agreement(self) -> Agreement | None:
        """What the opinions are to each other; None where there are fewer than two."""
        return agreement(self.opinions)

    @property
    def sentence(self) -> str:
        """The agreement for people; who is missing, where there is none."""
        if self.agreement is not None:
            return self.agreement.sentence
        return NOTHING_TO_COMPARE.format(models=" and ".join(one.model for one in self.missing))

    def to_json(self) -> str:
        """All of it as a JSON object."""
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError: it is nothing that :meth:`to_json` wrote; the text says what is wrong.
        """
        try:
            found = json.loads(text)
            rule, opinions = found["rule"], tuple(map(_opinion, found["opinions"]))
            missing = tuple(_read(Missing, one) for one in found["missing"])
        except (AttributeError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"it is not what a panel says ({shown(error)})") from error
        if rule not in [*PanelRule]:
            raise ValueError(f"its rule {shown(rule)} is unknown")
        if not opinions:
            raise ValueError("it has no opinion")
        return cls(PanelRule(rule), opinions, missing)


def _opinion(found: dict[str, Any]) -> Opinion:
    reason = found["reason"]
    known = {
        "model": _read(ModelReference, found["model"]),
        "verdict": Verdict(found["verdict"]),
        "reason": None if reason is None else Reason(reason),
        "logits": tuple(found.get("logits", ())),
    }
    opinion = _read(Opinion, found | known)
    if not all(is_number(one) for one in opinion.logits):
        raise ValueError(f"the logits of {shown(opinion.model.name)} are not numbers")
    return opinion


def _read(kind: type[T], found: dict[str, Any]) -> T:
    """A record without the fields that only a later D3 knows; each plain one has its type."""
    known = {one.name for one in fields(kind)}
    record = kind(**{name: value for name, value in found.items() if name in known})
    for one in fields(kind):
        value, wanted = getattr(record, one.name), _PLAIN.get(str(one.type))
        if wanted is not None and not wanted(value):
            raise ValueError(f"{one.name} cannot be {shown(value)}")
    return record


def is_number(value: object) -> bool:
    """Whether a value of a JSON document is a finite number."""
    try:
        return type(value) in {int, float} and isfinite(value)  # type: ignore[arg-type]
    except OverflowError:
        return False


_PLAIN: dict[str, Callable[[object], bool]] = {
    "float": is_number,
    "int": lambda value: type(value) is int,
    "bool": lambda value: type(value) is bool,
    "str": lambda value: type(value) is str,
}
"""How a value of a type is told, by the type's name as it stands in a dataclass."""


def decide(rule: PanelRule, opinions: Sequence[Opinion]) -> tuple[Verdict, Reason | None]:
    """The verdict of a panel, and why it is ``uncertain``.

    Args:
        rule: see there.
        opinions: one or more, the chief's first. An image that carries nothing to judge stays
            ``uncertain``, whatever the rule.
    """
    chief, *others = opinions
    if chief.reason is not None and chief.reason.is_lack:
        return Verdict.UNCERTAIN, chief.reason
    votes = [chief.verdict, *(one.verdict for one in others if one.calibrated)]
    if rule is PanelRule.CHIEF:
        opposite = {Verdict.FAKE: Verdict.REAL, Verdict.REAL: Verdict.FAKE}.get(chief.verdict)
        if opposite in votes:
            return Verdict.UNCERTAIN, Reason.PANEL
        return chief.verdict, chief.reason
    if rule is PanelRule.ANY:
        found = next((one for one in (Verdict.FAKE, Verdict.UNCERTAIN) if one in votes), votes[0])
    else:
        winners = (one for one in Verdict if 2 * votes.count(one) > len(votes))
        found = next(winners, Verdict.UNCERTAIN)
    if found is not Verdict.UNCERTAIN:
        return found, None
    return found, chief.reason or Reason.PANEL


def heard(score: Score, rule: PanelRule, opinions: Sequence[Opinion]) -> Score:
    """The chief's score with the verdict of its panel.

    Args:
        score: of the chief; its verdict is the chief's vote, whatever its opinion was before a test
            of its stability.
        rule: see there.
        opinions: one or more, the chief's first.
    """
    chief = replace(opinions[0], verdict=score.verdict, reason=score.reason)
    verdict, reason = decide(rule, (chief, *opinions[1:]))
    return replace(score, verdict=verdict, reason=reason)


def agreement(opinions: Sequence[Opinion]) -> Agreement | None:
    """What the opinions are to each other; None where there are fewer than two."""
    if len(opinions) <= 1:
        return None
    said = {one.verdict for one in opinions}
    if {Verdict.FAKE, Verdict.REAL} <= said:
        return Agreement.DISAGREE
    return (
        Agreement.AGREE if len(said) == 1 and Verdict.UNCERTAIN not in said else Agreement.PARTIAL
    )


def checked_panel(names: str | Iterable[str]) -> tuple[str, ...]:
    """The names of a panel's members, the chief's first.

    Args:
        names: one by one, or in one text with commas between them.

    Raises:
        RequestInvalid: there are none, more than :data:`MAX_MEMBERS`, one twice, an empty one, or
            one with a version.
        ModelNameInvalid: one cannot be a model's name.
    """
    given = names.split(",") if isinstance(names, str) else names
    found = tuple(str(name).strip() for name in given)
    remedy = "Name them separated by commas, the chief first, such as d3-vit-l14,ferretnet-s."
    if not 1 <= len(found) <= MAX_MEMBERS or len(set(found)) < len(found):
        raise RequestInvalid(f"A panel has 1 to {MAX_MEMBERS} different models.", remedy)
    if "" in found:
        raise RequestInvalid("One of the panel's names is empty.", remedy)
    if versioned := next((name for name in found if "@" in name), None):
        raise RequestInvalid(
            "A panel names models without their versions: it has the newest of each.",
            f"Name {versioned.partition('@')[0]!r} alone.",
        )
    return tuple(map(checked_name, found))


def panel_named(text: str) -> tuple[str, ...] | None:
    """The panel that a text names, separated by commas; None for a blank one, which names none.

    Raises:
        D3Error: see :func:`checked_panel`.
    """
    return checked_panel(text) if text.strip() else None


def check_complete(missing: Sequence[Missing]) -> None:
    """Make sure that every member can judge, where all rows are to be comparable.

    Raises:
        PanelIncomplete: one or more cannot; it is said why not.
    """
    if missing:
        raise PanelIncomplete(
            " ".join(
                f"The panel's member {one.model!r} cannot judge: {one.error}" for one in missing
            ),
            "Mend that, or leave it out of the panel that was named, or else of D3_PANEL.",
        )


def checked_rule(rule: str | None) -> PanelRule | None:
    """The rule of this name; None for None.

    Raises:
        RequestInvalid: there is none.
    """
    try:
        return None if rule is None else PanelRule(rule)
    except ValueError:
        raise RequestInvalid(
            f"There is no panel rule {shown(rule)}.", "Use 'chief', 'any' or 'majority'."
        ) from None
