"""Charts as inline SVG: lines with bands, histograms, and stacked columns.

Colours are the page's CSS variables, so one drawing serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from markupsafe import Markup

Point = tuple[float, float]

WIDTH, HEIGHT = 460, 300
_COLOURS = 8
_TICKS = 4
_LABELS = 4
_NEARLY = 1e-9


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
class Bar:
    """One column.

    Attributes:
        values: its parts, from the bottom.
    """

    label: str
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis.

    Attributes:
        high: value at its end; may be smaller than the start.
        ticks: (value, text).
    """

    title: str
    low: float = 0.0
    high: float = 1.0
    ticks: Sequence[tuple[float, str]] = field(
        default_factory=lambda: [(n / 5, f"{n / 5:g}") for n in range(6)]
    )


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with its title and legend; a template writes it as a figure.

    Attributes:
        names: of the series, in the order of the colours; empty for what the legend leaves out.
    """

    title: str
    drawing: str
    names: Sequence[str]

    def svg(self, attributes: str = "") -> str:
        """The SVG alone, with more attributes of its element."""
        return (
            f'<svg {attributes} viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(self.title)}">{self.drawing}</svg>'
        )

    def __html__(self) -> str:
        words = [
            f'<li><span class="key {_colour(number)}"></span>{escape(name)}</li>'
            for number, name in enumerate(self.names)
            if name
        ]
        legend = f'<ul class="legend">{"".join(words)}</ul>' if len(words) > 1 else ""
        return (
            f'<figure class="chart"><figcaption>{escape(self.title)}</figcaption>'
            f"{self.svg()}{legend}</figure>"
        )


def line_chart(
    title: str, x: Axis, y: Axis, lines: Sequence[Line], *, diagonal: bool = False
) -> Chart:
    """Lines over two axes, with a legend below where there are several names."""
    plane = _Plane(x, y)
    across, up = plane.across, plane.up
    parts = [plane.frame()]
    if diagonal:
        ends = (across(x.low), up(y.low), across(x.high), up(y.high))
        parts.append(
            '<line class="guide" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'.format(*ends)
        )
    for number, line in enumerate(lines):
        style = _colour(number)
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
    return Chart(title, "".join(parts), [one.name for one in lines])


def histogram(
    title: str,
    x: Axis,
    bars: Mapping[str, Sequence[int]],
    *,
    mark: tuple[float, str] | None = None,
) -> Chart:
    """Bars of several kinds over the same bins of [0, 1], as shares of each kind's total."""
    shares = {
        name: [count / max(sum(counts), 1) for count in counts] for name, counts in bars.items()
    }
    top = max((value for values in shares.values() for value in values), default=1) or 1
    ticks = round_ticks(top)
    y = Axis("share of the images", 0, ticks[-1], [(tick, f"{100 * tick:g}%") for tick in ticks])
    plane = _Plane(x, y)
    across, up = plane.across, plane.up
    parts = [plane.frame()]
    for number, (name, values) in enumerate(shares.items()):
        width = 1 / len(values)
        for place, value in enumerate(values):
            if value:
                left, right = across(place * width), across((place + 1) * width)
                tooltip = (
                    f"{name}: {bars[name][place]:,} images from {place * width:.3f} to "
                    f"{(place + 1) * width:.3f}"
                )
                box = (left, up(value), max(right - left - 0.5, 0.5), up(0) - up(value))
                parts.append(_bar(_colour(number), box, tooltip))
    if mark is not None:
        spot = across(mark[0])
        parts.append(
            f'<line class="guide" x1="{spot:.1f}" x2="{spot:.1f}" y1="{plane.top}" '
            f'y2="{plane.floor}"/>'
        )
        anchor, shift = ("end", -4) if mark[0] > 0.75 else ("start", 4)
        parts.append(_text(spot + shift, plane.top + 10, mark[1], anchor, "note"))
    return Chart(title, "".join(parts), list(shares))


def columns(bars: Sequence[Bar], names: Sequence[str], kinds: Sequence[str]) -> Markup:
    """Stacked columns over their labels; only some labels if there are many.

    Args:
        bars: from left to right.
        names: of the parts, for tooltips.
        kinds: of the parts: their CSS classes.
    """
    top = _rounded_up(max((sum(bar.values) for bar in bars), default=0))
    every = max(1, -(-len(bars) // _LABELS))
    labels = [(place + 0.5, bar.label) for place, bar in enumerate(bars)][::every]
    ticks = [(top * n / _TICKS, f"{top * n / _TICKS:g}") for n in range(_TICKS + 1)]
    plane = _Plane(
        Axis("", 0, max(len(bars), 1), labels),
        Axis("", 0, top, ticks),
        *(720, 240),
        *(48, 8, 12, 30),
    )
    parts = [plane.frame()]
    width = min(0.78 * (plane.across(1) - plane.across(0)), 46)
    for place, bar in enumerate(bars):
        left, below = plane.across(place + 0.5) - width / 2, 0
        for value, name, kind in zip(bar.values, names, kinds, strict=True):
            if value:
                low, high = plane.up(below), plane.up(below + value)
                box = (left, high, width, max(low - high, 1))
                parts.append(_bar(kind, box, f"{bar.label}: {value:,} {name}"))
                below += value
    return Markup(  # noqa: S704  what is written into it is escaped
        f'<svg viewBox="0 0 {plane.width} {plane.height}" aria-hidden="true" focusable="false">'
        f"{''.join(parts)}</svg>"
    )


@dataclass(frozen=True, slots=True)
class _Plane:
    """Two axes, and the place of their values in pixels from the upper left corner."""

    x: Axis
    y: Axis
    width: int = WIDTH
    height: int = HEIGHT
    left: int = 52
    right: int = 14
    top: int = 14
    bottom: int = 44

    @property
    def floor(self) -> int:
        """Where the y axis begins."""
        return self.height - self.bottom

    def across(self, value: float) -> float:
        """Where a value of the x axis is."""
        share = (value - self.x.low) / (self.x.high - self.x.low)
        return self.left + (self.width - self.left - self.right) * share

    def up(self, value: float) -> float:
        """Where a value of the y axis is; clipped to the axis."""
        share = (value - self.y.low) / (self.y.high - self.y.low)
        return self.floor - (self.floor - self.top) * min(max(share, 0.0), 1.0)

    def frame(self) -> str:
        """The axes, with ticks, a grid and titles."""
        end, parts = self.width - self.right, []
        for value, text in self.y.ticks:
            y = self.up(value)
            parts.append(
                f'<line class="grid" x1="{self.left}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
            parts.append(_text(self.left - 7, y + 4, text, "end"))
        parts += [
            _text(self.across(value), self.floor + 16, text, "middle")
            for value, text in self.x.ticks
        ]
        parts.append(
            f'<line class="axis" x1="{self.left}" x2="{end}" y1="{self.floor}" y2="{self.floor}"/>'
        )
        if self.x.title:
            middle = (self.left + end) / 2
            parts.append(_text(middle, self.height - 8, self.x.title, "middle", "title"))
        if self.y.title:
            parts.append(
                f'<text class="title" transform="translate(13 {(self.top + self.floor) / 2}) '
                f'rotate(-90)" text-anchor="middle">{escape(self.y.title)}</text>'
            )
        return "".join(parts)


def round_ticks(top: float) -> list[float]:
    """Round values from 0 to the first at or above a positive top: two to five of them."""
    unit = 10.0 ** math.floor(math.log10(top / _TICKS))
    step = next(
        size for f in (1, 2, 2.5, 5, 10) if (size := f * unit) * _TICKS >= top * (1 - _NEARLY)
    )
    return [step * n for n in range(math.ceil(top / step * (1 - _NEARLY)) + 1)]


def _colour(number: int) -> str:
    return f"c{number % _COLOURS}"


def _text(x: float, y: float, text: str, anchor: str, style: str = "label") -> str:
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def _bar(style: str, box: tuple[float, float, float, float], tooltip: str) -> str:
    x, y, width, height = box
    return (
        f'<rect class="bar {style}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}"><title>{escape(tooltip)}</title></rect>'
    )


def _rounded_up(value: int) -> int:
    """A round number at or above the value, divisible by four ticks."""
    if value <= _TICKS:
        return _TICKS
    unit: int = 10 ** (len(str(value)) - 1)
    return next(n for f in (1, 2, 4, 8, 10, 20) if (n := f * unit) >= value and n % _TICKS == 0)
