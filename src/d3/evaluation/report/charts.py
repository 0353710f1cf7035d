"""Charts as inline SVG: lines with bands, bars, and a diagonal to compare with.

Colours are the page's (CSS variables), so one drawing serves light and dark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

Point = tuple[float, float]

WIDTH, HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 14, 44


@dataclass(frozen=True, slots=True)
class Line:
    """One series.

    Attributes:
        name: for the legend; empty for none.
        points: (x, y) in the chart's units.
        band: (x, low, high) around it.
        marks: whether each point is marked.
        faint: drawn thin, in the background.
    """

    name: str
    points: Sequence[Point]
    band: Sequence[tuple[float, float, float]] = ()
    marks: bool = False
    faint: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis.

    Attributes:
        title: what it measures.
        low: value at its start.
        high: value at its end; may be smaller than the start.
        ticks: (value, text).
    """

    title: str
    low: float = 0.0
    high: float = 1.0
    ticks: Sequence[tuple[float, str]] = field(
        default_factory=lambda: [(n / 5, f"{n / 5:g}") for n in range(6)]
    )


def line_chart(
    title: str, x: Axis, y: Axis, lines: Sequence[Line], *, diagonal: bool = False
) -> str:
    """Lines over two axes, with a legend below where there are several names."""
    across, up = _scales(x, y)
    parts = [_frame(x, y, across, up)]
    if diagonal:
        ends = (across(x.low), up(y.low), across(x.high), up(y.high))
        parts.append(
            '<line class="guide" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'.format(*ends)
        )
    for number, line in enumerate(lines):
        style = f"c{number % 8}"
        if line.band:
            edge = [f"{across(a):.1f},{up(high):.1f}" for a, _, high in line.band]
            edge += [f"{across(a):.1f},{up(low):.1f}" for a, low, _ in reversed(line.band)]
            parts.append(f'<polygon class="band {style}" points="{" ".join(edge)}"/>')
        path = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in line.points)
        faint = " faint" if line.faint else ""
        parts.append(f'<polyline class="line {style}{faint}" points="{path}"/>')
        if line.marks:
            parts += [
                f'<circle class="mark {style}" cx="{across(a):.1f}" cy="{up(b):.1f}" r="3">'
                f"<title>{escape(line.name or title)}: {b:.3f} at {a:g}</title></circle>"
                for a, b in line.points
            ]
    return _figure(title, parts, [(f"c{n % 8}", one.name) for n, one in enumerate(lines)])


def histogram(
    title: str, x: Axis, bars: dict[str, Sequence[int]], *, mark: tuple[float, str] | None = None
) -> str:
    """Bars of several kinds over the same bins of [0, 1], each kind as shares of its own total."""
    shares = {
        name: [count / max(sum(counts), 1) for count in counts] for name, counts in bars.items()
    }
    top = max((value for values in shares.values() for value in values), default=1) or 1
    y = Axis("share of its kind", 0, top, [(top * n / 4, f"{top * n / 4:.0%}") for n in range(5)])
    across, up = _scales(x, y)
    parts = [_frame(x, y, across, up)]
    for number, (name, values) in enumerate(shares.items()):
        width = 1 / len(values)
        for place, value in enumerate(values):
            if value:
                left, right = across(place * width), across((place + 1) * width)
                parts.append(
                    f'<rect class="bar c{number}" x="{left:.1f}" y="{up(value):.1f}" '
                    f'width="{max(right - left - 0.5, 0.5):.1f}" '
                    f'height="{up(0) - up(value):.1f}"><title>{escape(name)}: '
                    f"{bars[name][place]:,} images from {place * width:.3f} to "
                    f"{(place + 1) * width:.3f}</title></rect>"
                )
    if mark is not None:
        spot = across(mark[0])
        parts.append(
            f'<line class="guide" x1="{spot:.1f}" x2="{spot:.1f}" y1="{_TOP}" '
            f'y2="{HEIGHT - _BOTTOM}"/>'
        )
        anchor = "end" if mark[0] > 0.75 else "start"
        shift = -4 if anchor == "end" else 4
        parts.append(
            f'<text class="note" x="{spot + shift:.1f}" y="{_TOP + 10}" '
            f'text-anchor="{anchor}">{escape(mark[1])}</text>'
        )
    return _figure(title, parts, [(f"c{n}", name) for n, name in enumerate(bars)])


def _scales(x: Axis, y: Axis) -> tuple[Callable[[float], float], Callable[[float], float]]:
    wide, tall = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def across(value: float) -> float:
        return _LEFT + wide * (value - x.low) / (x.high - x.low)

    def up(value: float) -> float:
        share = (value - y.low) / (y.high - y.low)
        return HEIGHT - _BOTTOM - tall * min(max(share, 0.0), 1.0)

    return across, up


def _frame(x: Axis, y: Axis, across: Callable[[float], float], up: Callable[[float], float]) -> str:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for value, text in y.ticks:
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{up(value):.1f}" '
            f'y2="{up(value):.1f}"/>'
        )
        parts.append(
            f'<text x="{_LEFT - 7}" y="{up(value) + 4:.1f}" text-anchor="end">{escape(text)}</text>'
        )
    for value, text in x.ticks:
        parts.append(
            f'<text x="{across(value):.1f}" y="{bottom + 16}" text-anchor="middle">'
            f"{escape(text)}</text>"
        )
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    middle = (_TOP + bottom) / 2
    parts.append(
        f'<text class="title" x="{(_LEFT + right) / 2}" y="{HEIGHT - 8}" '
        f'text-anchor="middle">{escape(x.title)}</text>'
    )
    parts.append(
        f'<text class="title" transform="translate(13 {middle}) rotate(-90)" '
        f'text-anchor="middle">{escape(y.title)}</text>'
    )
    return "".join(parts)


def _figure(title: str, parts: Sequence[str], legend: Sequence[tuple[str, str]]) -> str:
    named = [(style, name) for style, name in legend if name]
    words = "".join(
        f'<li><span class="key {style}"></span>{escape(name)}</li>' for style, name in named
    )
    caption = f'<ul class="legend">{words}</ul>' if len(named) > 1 else ""
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>{caption}</figure>"
    )
