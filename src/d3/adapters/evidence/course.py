"""The course of a clip: each frame's probability over time as SVG, and its pictures in a row."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from d3.adapters.evidence.scale import INK, box, line, text
from d3.domain.clips import ClipVerdict
from d3.domain.images import Pixels
from d3.domain.services.reporting import clock, exact, percent, share_of

WIDTH, HEIGHT = 640, 150
SHOWN = 8
"""Pictures in the row, at most."""
SIDE = 160
"""The longer side of each, in pixels."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 606, 12, 112
_GAP = 4


def course_svg(clip: ClipVerdict, threshold: float) -> str:
    """The drawing: a bar for each frame, the threshold, and the window whose mean is highest."""
    length = max(clip.duration, clip.judged_until, 0.001)
    width = max(1.0, min(10.0, (_RIGHT - _LEFT) / len(clip.frames) - 1))

    def at(seconds: float) -> float:
        return _LEFT + (_RIGHT - _LEFT - width) * seconds / length

    level = _BOTTOM - (_BOTTOM - _TOP) * threshold
    parts = [box(at(clip.highest_from), _TOP, at(clip.highest_until) + width, _BOTTOM, "#eceff2")]
    for frame in clip.frames:
        top = _BOTTOM - (_BOTTOM - _TOP) * frame.prediction
        x = at(frame.time)
        ink = INK[frame.verdict.value] if frame.counts else "#c3c9d0"
        parts.append(box(x, min(top, _BOTTOM - 1), x + width, _BOTTOM, ink))
        if frame.is_cut:
            parts.append(line(x, _BOTTOM, _BOTTOM + 6, "#1d2126", 1.2))
    parts.append(
        f'<path d="M{_LEFT} {level:.1f} L{_RIGHT} {level:.1f}" stroke="#1d2126" '
        'stroke-width="1" fill="none"/>'
    )
    if clip.judged_until < length:
        parts.append(line(at(clip.judged_until) + width, _TOP, _BOTTOM, "#c3c9d0", 0.8))
    parts.append(text(_LEFT, _BOTTOM + 20, clock(0), "start", "#5a636e", 11))
    parts.append(text(_RIGHT, _BOTTOM + 20, clock(length), "end", "#5a636e", 11))
    words = f"line: threshold {exact(threshold)}; shaded: the highest mean"
    parts.append(text((_LEFT + _RIGHT) / 2, _BOTTOM + 20, words, "middle", "#5a636e", 11))
    for share in (0, 1):
        y = _BOTTOM - (_BOTTOM - _TOP) * share + 4
        parts.append(text(_LEFT - 4, y, f"{share:.0%}", "end", "#5a636e", 10))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(spoken(clip))}">{"".join(parts)}</svg>'
    )


def spoken(clip: ClipVerdict) -> str:
    """What the drawing shows, in words."""
    return (
        f"The probability of {len(clip.frames)} frames over {clock(clip.duration)}: "
        f"{share_of(clip)} of them above the threshold, the highest mean "
        f"{percent(clip.highest_mean)} from {clock(clip.highest_from)} to "
        f"{clock(clip.highest_until)}"
    )


def shown_times(clip: ClipVerdict) -> list[float]:
    """The times of the frames whose pictures are shown: over the whole clip, with the highest."""
    times = [one.time for one in clip.frames]
    highest = max(clip.frames, key=lambda one: one.prediction * one.counts).time
    step = max(1, -(-len(times) // (SHOWN - 1)))
    return sorted({*times[::step], highest})[:SHOWN]


def strip_of(pictures: Sequence[Pixels]) -> bytes | None:
    """Pictures in a row, as a PNG file; None without any."""
    if not pictures:
        return None
    height = max(one.shape[0] for one in pictures)
    width = sum(one.shape[1] + _GAP for one in pictures) - _GAP
    row, at = Image.new("RGB", (width, height), "white"), 0
    for one in pictures:
        row.paste(Image.fromarray(one), (at, 0))
        at += one.shape[1] + _GAP
    file = io.BytesIO()
    row.quantize(128).save(file, "PNG")
    return file.getvalue()
