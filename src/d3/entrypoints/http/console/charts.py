"""Stacked columns as inline SVG; colours are the page's, so one drawing serves light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

_WIDTH, _HEIGHT = 720, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 8, 12, 30
_TICKS = 4
_LABELS = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """One column.

    Attributes:
        label: what stands under it.
        values: its parts, from the bottom.
    """

    label: str
    values: tuple[int, ...]


def columns(bars: Sequence[Bar], names: Sequence[str], kinds: Sequence[str]) -> Markup:
    """Columns over their labels, their parts upon each other.

    Args:
        bars: from left to right.
        names: of the parts, for whoever points at one.
        kinds: of the parts: the classes that give them their colour.
    """
    top = _rounded_up(max((sum(bar.values) for bar in bars), default=0))
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    floor = _TOP + tall
    parts = []
    for n in range(_TICKS + 1):
        y = floor - tall * n / _TICKS
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{top * n / _TICKS:g}</text>'
        )
    step = wide / max(len(bars), 1)
    width = min(step * 0.78, 46)
    every = max(1, -(-len(bars) // _LABELS))
    for place, bar in enumerate(bars):
        middle, y = _LEFT + step * (place + 0.5), float(floor)
        for value, name, kind in zip(bar.values, names, kinds, strict=True):
            height = tall * value / top
            if value:
                y -= height
                parts.append(
                    f'<rect class="bar {kind}" x="{middle - width / 2:.1f}" y="{y:.1f}" '
                    f'width="{width:.1f}" height="{max(height, 1):.1f}">'
                    f"<title>{escape(bar.label)}: {value:,} {escape(name)}</title></rect>"
                )
        if place % every == 0:
            parts.append(
                f'<text x="{middle:.1f}" y="{floor + 19}" text-anchor="middle">'
                f"{escape(bar.label)}</text>"
            )
    drawing = "".join(parts)
    return Markup(  # noqa: S704  what is written into it is escaped
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true" focusable="false">'
        f"{drawing}</svg>"
    )


def _rounded_up(value: int) -> int:
    """A round number at or above the value that four ticks divide."""
    if value <= _TICKS:
        return _TICKS
    unit: int = 10 ** (len(str(value)) - 1)
    return next(n for f in (1, 2, 4, 8, 10, 20) if (n := f * unit) >= value and n % _TICKS == 0)
