"""Clips, which are videos and animations: how frames are chosen, and what is said of the whole.

A clip is judged as many images. :func:`course_of` reads their scores as one: by a rule that is said
in every answer, :data:`RULE`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import fmean
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeAlias

from d3.domain.errors import RequestInvalid, shown
from d3.domain.panels import is_number
from d3.domain.scoring import AbstainBand, Reason, Score, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from d3.domain.images import Pixels

WINDOW = 5
"""Frames in a row whose mean is looked at."""

FEWEST_FRAMES = 3
"""Judged frames below which a clip has no verdict."""

MOST_FRAMES = 1000
"""The most frames that are ever judged of one clip."""

MAX_CLIP = 400_000
"""More characters than :meth:`ClipVerdict.to_json` ever writes."""

RULE = (
    "Each frame is judged as an image. A clip is fake where more than half of five frames in a row "
    "are fake and the highest mean over five frames in a row is above the threshold. It is real "
    "where more than half of any five frames in a row are real and that mean is not above it. "
    "Otherwise, and with fewer than three frames, it is uncertain."
)
"""The rule of verdicts on clips, for people."""

ClipSource: TypeAlias = "str | Path | bytes | BinaryIO"
"""A path, an encoded file's bytes, or an open file of the operating system, read from its start."""

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*(ms|s|m|h|)\s*")
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST_STEP = 3600.0


@dataclass(frozen=True, slots=True)
class FrameSampling:
    """Which frames of a clip are judged.

    Attributes:
        every: seconds between them, 0 for every frame. A clip that has more than ``most`` such
            moments is sampled more thinly, over its whole length.
        most: frames at most.
        cuts: whether the first frame after a cut is judged too, as far as ``most`` allows.
        closer: whether frames lie closer where a clip is too short for :data:`WINDOW` of them.

    Raises:
        RequestInvalid: a number that makes no sense.
    """

    every: float = 1.0
    most: int = 100
    cuts: bool = True
    closer: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.every <= _LONGEST_STEP:
            raise RequestInvalid(
                f"The time between frames, {shown(self.every)}, is not valid.",
                "Use a number of seconds such as 0.5, 1s or 2m, up to an hour.",
            )
        if not 1 <= self.most <= MOST_FRAMES:
            raise RequestInvalid(
                f"A clip cannot be judged by {shown(self.most)} frames.",
                f"Use a whole number from 1 to {MOST_FRAMES:,}.",
            )

    def step(self, duration: float) -> float:
        """Seconds between the frames of a clip of this length, before ``most`` thins them."""
        fewest = min(WINDOW, self.most)
        is_short = self.closer and 0 < duration <= self.every * (fewest - 1)
        return duration / fewest if is_short else self.every


ALL_FRAMES = FrameSampling(every=0.0, cuts=False)
"""Every frame, as many as are allowed."""


def seconds_of(text: str) -> float:
    """A time such as ``1s``, ``500ms``, ``2m`` or ``0.5`` in seconds.

    Raises:
        RequestInvalid: it is none.
    """
    found = _DURATION.fullmatch(text)
    if found is None or len(text) > 40:  # noqa: PLR2004
        raise RequestInvalid(
            f"The time {shown(text)} is not valid.",
            "Write seconds such as 0.5 or 1s, or 500ms, 2m.",
        )
    return float(found[1]) * _SECONDS[found[2]]


class ClipEnd(StrEnum):
    """Why no more of a clip was judged; :attr:`sentence` says it to people."""

    WHOLE = "whole"
    CUT_SHORT = "cut_short"
    DAMAGED = "damaged"
    TOO_LONG = "too_long"
    TOO_SLOW = "too_slow"

    @property
    def sentence(self) -> str:
        """One sentence for people; empty for a clip that was judged to its end."""
        return _ENDS[self]


_ENDS = {
    ClipEnd.WHOLE: "",
    ClipEnd.CUT_SHORT: "The file ends before the clip does. It was judged as far as it goes.",
    ClipEnd.DAMAGED: (
        "Parts of the clip cannot be decoded. It was judged by the frames that could be."
    ),
    ClipEnd.TOO_LONG: (
        "The clip is longer than is judged (D3_MAX_VIDEO_SECONDS). The rest was not looked at."
    ),
    ClipEnd.TOO_SLOW: (
        "Decoding the clip took too long (D3_VIDEO_CPU_SECONDS). It was judged as far as it got."
    ),
}


class ClipNote(StrEnum):
    """What is unusual about a clip; :attr:`sentence` explains it."""

    HDR = "hdr"
    ROTATED = "rotated"
    SEVERAL_STREAMS = "several_streams"
    SPARSE = "sparse"

    @property
    def sentence(self) -> str:
        """One sentence for people."""
        return _NOTES[self]


_NOTES = {
    ClipNote.HDR: (
        "The video has a high dynamic range. Its frames were converted to the standard range."
    ),
    ClipNote.ROTATED: (
        "Players turn or mirror this video. D3 judged the frames as they are stored."
    ),
    ClipNote.SEVERAL_STREAMS: "The file holds several videos. D3 judged the one players show.",
    ClipNote.SPARSE: (
        "The clip has more moments than frames may be judged, so those frames lie further apart."
    ),
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a clip before it is judged.

    Attributes:
        time: seconds from the clip's start.
        pixels: uint8 RGB (height, width, 3), as they are stored.
        is_cut: whether it is the first one after a cut.
    """

    time: float
    pixels: Pixels
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class ClipFrame:
    """What the model says of one frame; of a panel the chief, before the panel's rule.

    Attributes:
        time: seconds from the clip's start.
        prediction: probability in [0, 1] that it is generated, after calibration.
        verdict: on this frame alone.
        reason: why it is ``uncertain``; None where it is not. A frame that carries nothing to
            judge, such as a black one, plays no part in the clip's verdict.
        logit: raw, mean over the views.
        is_cut: whether it was chosen because of a cut.
    """

    time: float
    prediction: float
    verdict: Verdict
    reason: Reason | None = None
    logit: float = 0.0
    is_cut: bool = False

    @classmethod
    def of(cls, time: float, score: Score, *, is_cut: bool = False) -> Self:
        """A frame's score, rounded as it is kept."""
        return cls(
            round(time, 3),
            round(score.prediction, 6),
            score.verdict,
            score.reason,
            round(score.logit, 5),
            is_cut,
        )

    @property
    def counts(self) -> bool:
        """Whether it carries anything to judge."""
        return self.reason is None or not self.reason.is_lack


@dataclass(frozen=True, slots=True)
class Course:
    """Several frames read as one.

    Attributes:
        highest: the highest mean probability of :data:`WINDOW` frames in a row; of all that count
            where they are fewer.
        logit: the mean raw logit of the same frames.
        share: of the frames that count, those above the threshold; 0 without any.
        first: place among all frames of the first one of that window.
        last: likewise of the last one.
        verdict: by :data:`RULE`.
        reason: why it is ``uncertain``; None where it is not.
    """

    highest: float
    logit: float
    share: float
    first: int
    last: int
    verdict: Verdict
    reason: Reason | None = None


def course_of(frames: Sequence[ClipFrame], threshold: float, band: AbstainBand) -> Course:
    """Read the frames of a clip, in order, by :data:`RULE`.

    Args:
        frames: one or more.
        threshold: in [0, 1].
        band: in which the highest mean is ``uncertain`` too.
    """
    places = [place for place, one in enumerate(frames) if one.counts]
    # Without a frame that counts the numbers are of those that there are, and the reason is theirs.
    places, lack = (places, None) if places else ([*range(len(frames))], frames[0].reason)
    windows = [places[at : at + WINDOW] for at in range(max(1, len(places) - WINDOW + 1))]
    means = [fmean(frames[one].prediction for one in window) for window in windows]
    highest = max(means)
    window = windows[means.index(highest)]
    highest = round(highest, 6)  # as the frames' own
    said = [[frames[one].verdict for one in each] for each in windows]
    fake = any(2 * each.count(Verdict.FAKE) > len(each) for each in said)
    real = all(2 * each.count(Verdict.REAL) > len(each) for each in said)
    reason = lack
    if reason is None and len(places) < FEWEST_FRAMES:
        reason = Reason.FEW_FRAMES
    if reason is None and band.holds(highest, threshold):
        reason = Reason.ABSTAIN_BAND
    if reason is None and not (fake if highest > threshold else real):
        reason = Reason.FRAMES
    decided = Verdict.FAKE if highest > threshold else Verdict.REAL
    above = sum(frames[one].prediction > threshold for one in places)
    return Course(
        highest=highest,
        logit=fmean(frames[one].logit for one in window),
        share=0.0 if lack is not None else above / len(places),
        first=window[0],
        last=window[-1],
        verdict=decided if reason is None else Verdict.UNCERTAIN,
        reason=reason,
    )


def score_of(course: Course, threshold: float) -> Score:
    """The same as the score of one image, which panels and tests of stability go on with."""
    return Score(
        prediction=course.highest,
        is_fake=course.highest > threshold,
        confidence=2 * abs(course.highest - 0.5),
        verdict=course.verdict,
        logit=course.logit,
        spread=0.0,
        threshold=threshold,
        reason=course.reason,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipVerdict:
    """What was seen over a clip's time.

    Attributes:
        frames: those that were judged, in order.
        share_above: of the frames that carry something to judge, those above the threshold.
        highest_mean: the highest mean over five frames in a row; the clip's ``prediction``.
        highest_from: when that window begins, in seconds.
        highest_until: when it ends.
        duration: of the clip in seconds, as far as it is known.
        judged_until: the time of the last frame that was judged.
        every: seconds between the frames that were wanted; 0 for every frame.
        most: frames that were judged at most.
        cuts: how many cuts were found among the frames that were decoded.
        end: why no more was judged.
        ended_early: whether it was not judged to its end.
        end_text: the same as a sentence; empty where it was.
        notes: what is unusual about the clip.
        note_texts: the same as sentences.
        rule: by which the verdict was found, as sentences.
    """

    frames: tuple[ClipFrame, ...]
    share_above: float
    highest_mean: float
    highest_from: float
    highest_until: float
    duration: float
    judged_until: float
    every: float
    most: int
    cuts: int = 0
    end: ClipEnd = ClipEnd.WHOLE
    ended_early: bool = False
    end_text: str = ""
    notes: tuple[ClipNote, ...] = ()
    note_texts: tuple[str, ...] = ()
    rule: str = RULE

    @classmethod
    def of(
        cls,
        frames: Sequence[ClipFrame],
        course: Course,
        *,
        sampling: FrameSampling,
        duration: float,
        end: ClipEnd = ClipEnd.WHOLE,
        notes: Sequence[ClipNote] = (),
    ) -> Self:
        """Frames with what was found of them."""
        return cls(
            frames=tuple(frames),
            share_above=round(course.share, 6),
            highest_mean=course.highest,
            highest_from=frames[course.first].time,
            highest_until=frames[course.last].time,
            duration=round(max(duration, frames[-1].time), 3),
            judged_until=frames[-1].time,
            every=round(sampling.step(duration), 3),
            most=sampling.most,
            cuts=sum(one.is_cut for one in frames),
            end=end,
            ended_early=end is not ClipEnd.WHOLE,
            end_text=end.sentence,
            notes=tuple(notes),
            note_texts=tuple(one.sentence for one in notes),
        )

    def to_json(self) -> str:
        """All of it as a JSON object, but for the sentences that follow from it."""
        document = asdict(self)
        for name in ("rule", "end_text", "note_texts", "ended_early"):
            del document[name]
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError: it is nothing that :meth:`to_json` wrote; the text says what is wrong.
        """
        try:
            found: dict[str, Any] = json.loads(text)
            end, notes = ClipEnd(found["end"]), tuple(map(ClipNote, found["notes"]))
            known: dict[str, Any] = {
                "frames": tuple(map(_frame, found["frames"])),
                **{name: _number(found[name]) for name in _NUMBERS},
                **{name: int(_number(found[name])) for name in ("most", "cuts")},
                "end": end,
                "ended_early": end is not ClipEnd.WHOLE,
                "end_text": end.sentence,
                "notes": notes,
                "note_texts": tuple(one.sentence for one in notes),
            }
        except (AttributeError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"it is not what is said of a clip ({shown(error)})") from error
        if not known["frames"]:
            raise ValueError("it has no frames")
        return cls(**known)


_NUMBERS = (
    *("share_above", "highest_mean", "highest_from", "highest_until"),
    *("duration", "judged_until", "every"),
)


def _number(value: object) -> float:
    if not is_number(value):
        raise ValueError(f"{shown(value)} is no number")
    assert isinstance(value, int | float)
    return value


def _frame(found: dict[str, Any]) -> ClipFrame:
    reason = found["reason"]
    frame = ClipFrame(
        time=_number(found["time"]),
        prediction=_number(found["prediction"]),
        verdict=Verdict(found["verdict"]),
        reason=None if reason is None else Reason(reason),
        logit=_number(found["logit"]),
        is_cut=bool(found["is_cut"]),
    )
    if not 0 <= frame.prediction <= 1:
        raise ValueError("a frame's probability is not between 0 and 1")
    return frame


def moments(duration: float, sampling: FrameSampling) -> list[float]:
    """The times at which frames are wanted, from 0 on: at most ``most``, over the whole clip.

    Args:
        duration: seconds, finite.
        sampling: its ``every`` is not 0.
    """
    step = sampling.step(duration)
    count = max(1, math.ceil(round(duration / step, 6)))
    if count <= sampling.most:
        return [step * number for number in range(count)]
    return [duration * number / sampling.most for number in range(sampling.most)]


def limited(asked: int | None, most: int) -> int:
    """How many frames are judged at most where this is asked for.

    Raises:
        RequestInvalid: more than are allowed.
    """
    if asked is not None and asked > most:
        raise RequestInvalid(
            f"A clip is judged by {most:,} frames at most, and {shown(asked)} are asked for.",
            f"Ask for {most:,} or fewer, or raise D3_VIDEO_FRAMES (up to {MOST_FRAMES:,}).",
        )
    return most if asked is None else asked
