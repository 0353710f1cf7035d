"""The probability on a line from real to generated, as SVG; HTML and PDF show the same drawing.

Its colours and fonts stand in attributes, because the PDF library reads no style sheets.
"""

from __future__ import annotations

from html import escape

from d3.domain.services.reporting import Scale, Tone, exact, percent

INK = {"fake": "#b3261e", "real": "#1b6e3c", "uncertain": "#8a5a00", "demo": "#5a636e"}
"""Of a verdict."""
WIDTH, HEIGHT = 640, 118
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 606, 46, 66


def scale_svg(scale: Scale, tone: Tone) -> str:
    """The drawing."""
    ink = INK[tone]
    low, high = map(_at, scale.band)
    threshold, spot = _at(scale.threshold), _at(scale.prediction)
    parts = [
        box(_LEFT, _TOP, threshold, _BOTTOM, "#d7eadd"),
        box(threshold, _TOP, _RIGHT, _BOTTOM, "#f3d9d6"),
    ]
    if high - low > 1:
        parts.append(box(low, _TOP, high, _BOTTOM, "#e3d9bf"))
    parts.append(line(threshold, _TOP - 6, _BOTTOM + 5, "#1d2126", 1.6))
    parts.append(line(threshold, _BOTTOM + 22, HEIGHT - 14, "#1d2126", 1.6))
    for tenth in range(11):
        at = _at(tenth / 10)
        parts.append(line(at, _BOTTOM, _BOTTOM + 4, "#5a636e", 0.8))
        if tenth % 2 == 0:
            parts.append(text(at, _BOTTOM + 17, f"{10 * tenth} %", "middle", "#5a636e", 11))
    parts.append(text(_LEFT, _BOTTOM + 34, "real", "start", "#1b6e3c", 12))
    parts.append(text(_RIGHT, _BOTTOM + 34, "generated", "end", "#b3261e", 12))
    words = f"threshold {exact(scale.threshold)}"
    side = "end" if scale.threshold > 0.5 else "start"  # noqa: PLR2004  where there is room
    parts.append(text(threshold, HEIGHT - 3, words, side, "#1d2126", 11))
    if scale.views is not None:
        first, last = map(_at, scale.views)
        middle = (_TOP + _BOTTOM) / 2
        parts.append(box(first, middle - 3, max(last, first + 1), middle + 3, ink))
        parts += [line(at, middle - 7, middle + 7, ink, 1.6) for at in (first, last)]
    parts.append(
        f'<path d="M{spot:.1f} {_TOP + 2} L{spot - 7:.1f} {_TOP - 11} L{spot + 7:.1f} {_TOP - 11} '
        f'Z" fill="{ink}"/>'
    )
    anchor = "start" if spot < 80 else "end" if spot > WIDTH - 80 else "middle"  # noqa: PLR2004
    at = {"start": spot - 7, "end": spot + 7, "middle": spot}[anchor]
    parts.append(text(at, _TOP - 17, percent(scale.prediction), anchor, ink, 15))
    spoken = f"{percent(scale.prediction)} on a scale from real to generated, {words}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(spoken)}">{"".join(parts)}</svg>'
    )


def _at(share: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * share


def box(left: float, top: float, right: float, bottom: float, colour: str) -> str:
    """A filled rectangle."""
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
        f'height="{bottom - top:.1f}" fill="{colour}"/>'
    )


def line(x: float, top: float, bottom: float, colour: str, width: float) -> str:
    """A line from top to bottom."""
    return (
        f'<path d="M{x:.1f} {top:.1f} L{x:.1f} {bottom:.1f}" stroke="{colour}" '
        f'stroke-width="{width}" fill="none"/>'
    )


def text(  # noqa: PLR0917  as SVG has them
    x: float, y: float, words: str, anchor: str, colour: str, size: int
) -> str:
    """Words."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-family="DejaVu" font-size="{size}" '
        f'text-anchor="{anchor}" fill="{colour}">{words}</text>'
    )
