"""How the frames of a clip become one verdict, which frames are wanted, and how it is kept."""

from __future__ import annotations

import pytest

from d3.domain.clips import (
    MAX_CLIP,
    MOST_FRAMES,
    ClipEnd,
    ClipFrame,
    ClipNote,
    ClipVerdict,
    Course,
    FrameSampling,
    course_of,
    limited,
    moments,
    seconds_of,
)
from d3.domain.errors import RequestInvalid
from d3.domain.scoring import AbstainBand, Reason, Verdict

NO_BAND = AbstainBand()


def frames_of(*predictions: float, threshold: float = 0.5) -> list[ClipFrame]:
    return [
        ClipFrame(float(at), one, Verdict.FAKE if one > threshold else Verdict.REAL, logit=one)
        for at, one in enumerate(predictions)
    ]


def read(*predictions: float, band: AbstainBand = NO_BAND) -> Course:
    return course_of(frames_of(*predictions), 0.5, band)


def test_the_highest_mean_of_five_frames_in_a_row_is_the_clip_s_prediction() -> None:
    found = read(0.1, 0.1, 0.9, 0.8, 0.9, 0.8, 0.6, 0.1)
    assert found.highest == pytest.approx(0.8)
    assert found.logit == pytest.approx(0.8)
    assert (found.first, found.last) == (2, 6)
    assert (found.verdict, found.reason) == (Verdict.FAKE, None)
    assert found.share == 5 / 8


@pytest.mark.parametrize(
    ("predictions", "verdict", "reason"),
    [
        ((0.9,) * 5, Verdict.FAKE, None),
        ((0.1,) * 8, Verdict.REAL, None),
        # One or two frames are no more than that.
        ((0.1, 0.1, 0.9, 0.1, 0.1, 0.1), Verdict.REAL, None),
        # Two frames lift the mean, but most frames are real.
        ((0.4, 0.4, 1.0, 1.0, 0.4), Verdict.UNCERTAIN, Reason.FRAMES),
        # Most frames are fake, but only just, and the mean is not.
        ((0.51, 0.51, 0.51, 0.0, 0.0), Verdict.UNCERTAIN, Reason.FRAMES),
        # Some seconds of a long clip are enough.
        ((*(0.1,) * 50, *(0.9,) * 5, *(0.1,) * 50), Verdict.FAKE, None),
        ((0.9, 0.9), Verdict.UNCERTAIN, Reason.FEW_FRAMES),
        ((0.9, 0.9, 0.9), Verdict.FAKE, None),
        ((0.1, 0.1, 0.1), Verdict.REAL, None),
    ],
)
def test_the_rule(predictions: tuple[float, ...], verdict: Verdict, reason: Reason | None) -> None:
    found = read(*predictions)
    assert (found.verdict, found.reason) == (verdict, reason)


def test_a_mean_inside_the_abstain_band_is_uncertain() -> None:
    found = read(*(0.55,) * 5, band=AbstainBand(0.1, 0.1))
    assert (found.verdict, found.reason) == (Verdict.UNCERTAIN, Reason.ABSTAIN_BAND)


def test_frames_that_are_uncertain_alone_decide_nothing() -> None:
    doubtful = [
        ClipFrame(float(at), 0.9, Verdict.UNCERTAIN, Reason.SPREAD) for at in range(4)
    ] + frames_of(0.9)
    assert course_of(doubtful, 0.5, NO_BAND).reason is Reason.FRAMES


def test_black_frames_are_passed_over_and_a_black_clip_has_no_verdict() -> None:
    black = [ClipFrame(9.0, 0.99, Verdict.UNCERTAIN, Reason.ONE_COLOUR)] * 5
    found = course_of([*black, *frames_of(*(0.1,) * 5), *black], 0.5, NO_BAND)
    assert (found.verdict, found.highest, found.share) == (Verdict.REAL, pytest.approx(0.1), 0.0)
    alone = course_of(black, 0.5, NO_BAND)
    assert (alone.verdict, alone.reason, alone.share) == (
        Verdict.UNCERTAIN,
        Reason.ONE_COLOUR,
        0.0,
    )


def test_it_is_kept_and_read_again_with_its_sentences() -> None:
    frames = frames_of(*(0.9,) * 6)
    clip = ClipVerdict.of(
        frames,
        course_of(frames, 0.5, NO_BAND),
        sampling=FrameSampling(),
        duration=60.0,
        end=ClipEnd.CUT_SHORT,
        notes=[ClipNote.HDR],
    )
    again = ClipVerdict.from_json(clip.to_json())
    assert again == clip
    assert again.ended_early
    assert "as far as it goes" in again.end_text
    assert "high dynamic range" in again.note_texts[0]
    assert "five frames in a row" in again.rule
    assert (again.judged_until, again.duration) == (5.0, 60.0)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "null",
        "x",
        '{"frames":[],"end":"whole","notes":[]}',
        '{"frames":[{"time":NaN}],"end":"whole","notes":[]}',
        '{"end":"never","notes":[],"frames":[]}',
    ],
)
def test_what_is_no_clip_s_verdict_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  each has words of its own
        ClipVerdict.from_json(text)


def test_the_longest_fits() -> None:
    frames = [
        ClipFrame(86399.999, 0.123456, Verdict.UNCERTAIN, Reason.ABSTAIN_BAND, -12.34567, True)
    ] * MOST_FRAMES
    longest = ClipVerdict.of(
        frames, course_of(frames, 0.5, NO_BAND), sampling=FrameSampling(), duration=86400.0
    )
    assert len(longest.to_json()) < MAX_CLIP


def test_frames_are_wanted_every_so_often_and_over_the_whole_of_a_long_clip() -> None:
    assert moments(3.5, FrameSampling()) == [0, 1, 2, 3]
    assert moments(60.0, FrameSampling()) == [float(at) for at in range(60)]
    assert moments(0.0, FrameSampling()) == [0.0]
    long = moments(3600.0, FrameSampling(most=100))
    assert len(long) == 100
    assert long[:2] == [0.0, 36.0]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("0.5", 0.5), (".5s", 0.5), ("500ms", 0.5), ("2m", 120), (" 1 h ", 3600)],
)
def test_times_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "x", "-1", "1d", "1s1s", "nan", "inf", "1" * 50, "1e3"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(RequestInvalid):
        seconds_of(text)


@pytest.mark.parametrize(
    "numbers", [{"every": -1.0}, {"every": float("nan")}, {"most": 0}, {"most": 1001}]
)
def test_a_sampling_that_makes_no_sense_is_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(RequestInvalid):
        FrameSampling(**numbers)  # type: ignore[arg-type]


def test_no_more_frames_than_are_allowed() -> None:
    with pytest.raises(RequestInvalid, match="D3_VIDEO_FRAMES"):
        limited(200, 100)
    assert (limited(100, 100), limited(None, 60)) == (100, 60)


def test_a_short_clip_has_closer_moments_where_nobody_said_how_close() -> None:
    closer = FrameSampling(closer=True)
    assert moments(2.0, closer) == pytest.approx([0, 0.4, 0.8, 1.2, 1.6])
    assert moments(2.0, FrameSampling()) == [0, 1]
    assert moments(5.0, closer) == moments(5.0, FrameSampling())
    assert moments(0.0, closer) == [0]
    assert moments(2.0, FrameSampling(most=2, closer=True)) == [0, 1]
