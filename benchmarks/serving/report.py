"""The medians of several runs as tables, and their picture."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

COLOURS = {"d3": "#1b6ca8", "mosec": "#c8553d", "litserve": "#588157", "flask": "#888888"}


def report(file: Path, picture: Path | None) -> None:
    """Print tables; draw the tails if told where."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    print(lines[-1]["machine"])
    by_part: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        by_part[line["part"]].append(line)
    for part, found in by_part.items():
        print(f"\n{part}")
        for key, group in grouped(found).items():
            numbers = {
                name: statistics.median(one[name] for one in group)
                for name, value in group[0].items()
                if isinstance(value, int | float) and name not in ("seed", "share")
            }
            reported = "  ".join(f"{name} {value:.3f}" for name, value in numbers.items())
            print(f"{key[0]:14}{key[1] or '':>5}  ({len(group)})  {reported}")
    if picture is not None:
        picture.write_text(drawn(grouped(by_part["tails"])))


def grouped(lines: list[dict[str, Any]]) -> dict[tuple[str, float], list[dict[str, Any]]]:
    """By contestant and load."""
    groups: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        groups[line["name"], line.get("share", 0)].append(line)
    return groups


def drawn(groups: dict[tuple[str, float], list[dict[str, Any]]]) -> str:
    """Two charts in SVG: answers in time, and p99, at each load."""
    names = list(dict.fromkeys(name for name, _ in groups))
    body = chart(groups, 30, "% of what was offered answered within 1 s", "answered_in_time", 100)
    body += chart(groups, 400, "p99 of the answers, seconds", "served_p99", 1)
    for number, name in enumerate(names):
        x = 30 + number * 110
        body.append(f'<rect x="{x}" y="238" width="12" height="12" fill="{COLOURS[name]}"/>')
        body.append(f'<text x="{x + 17}" y="248">{name}</text>')
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 262" font-family="sans-serif" '
        'font-size="12" role="img" aria-label="Answers in time and p99 under load">\n'
        '<rect width="760" height="262" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def chart(
    groups: dict[tuple[str, float], list[dict[str, Any]]],
    left: int,
    title: str,
    measure: str,
    scale: int,
) -> list[str]:
    """One of them."""
    body = [f'<text x="{left}" y="24" font-weight="bold">{title}</text>']
    medians = {
        key: scale * statistics.median(one[measure] for one in group)
        for key, group in groups.items()
    }
    names = list(dict.fromkeys(name for name, _ in groups))
    for place, share in enumerate(sorted({share for _, share in groups})):
        x = left + place * 115
        body.append(f'<text x="{x + 40}" y="222" text-anchor="middle">{share:.0%} load</text>')
        for number, name in enumerate(names):
            if (name, share) in medians:
                figure = medians[name, share]
                height = 150 * figure / max(medians.values())
                at, top = x + number * 24, 205 - height
                label = f"{figure:.0f}" if scale > 1 else f"{figure:.2f}"
                body.append(
                    f'<rect x="{at}" y="{top:.1f}" width="20" height="{height:.1f}" '
                    f'fill="{COLOURS[name]}"/><text x="{at + 10}" y="{top - 4:.1f}" '
                    f'font-size="9" text-anchor="middle">{label}</text>'
                )
    return body
