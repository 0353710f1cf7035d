"""Long commands say how far they are, on a terminal and in a log file."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from d3.entrypoints.cli import progress as toolbox
from d3.entrypoints.cli.output import complain
from d3.entrypoints.cli.progress import Unit, progress, said

CLI = Path(toolbox.__file__).parent
MB = 1_000_000


def watched(unit: Unit, *seen: tuple[float, float], total: float | None, note: str = "") -> str:
    """What is said after looks at (second, done)."""
    now = 0.0
    bars = Progress(disable=True, get_time=lambda: now, speed_estimate_period=300)
    task = bars.add_task("work", total=total, begun=seen[0][1], note=note)
    for second, done in seen:
        now = second
        bars.update(task, completed=done)
    return said(bars.tasks[0], unit)


def test_a_line_says_how_much_of_how_much_how_fast_and_the_time_left() -> None:
    pieces, size, share = Unit.PIECES, Unit.BYTES, Unit.SHARE
    assert watched(pieces, (0, 5000), (10, 5500), total=10_000) == (
        "5,500 of 10,000 (55 %), 50.0/s, 2 min left"  # what was there before is no work of now
    )
    slow = watched(pieces, (0, 0), (30, 2), (60, 4), total=10)
    assert slow == "4 of 10 (40 %), 4.0/min, 2 min left"
    assert watched(pieces, (0, 0), (4, 8), total=None, note="3 fake") == "8, 2.0/s, 3 fake"
    assert watched(pieces, (0, 0), (4, 8), total=8) == "8 of 8 (100 %), 2.0/s"
    assert watched(size, (0, 0), (9, 9 * MB), (10, 10 * MB), total=930 * MB) == (
        "10.0 MB of 930.0 MB (1 %), 1.0 MB/s, 15 min left"
    )
    assert watched(share, (0, 0), (10, 0.01), total=1.0) == "1 %, 16 min left"
    assert watched(pieces, (130, 0), total=None) == "2 min so far"


@pytest.mark.parametrize(
    ("seconds", "reported"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (90, "2 min"),
        (7800, "2 h 10 min"),
        (3 * 86400 + 4 * 3600, "3 d 4 h"),
    ],
)
def test_times_are_said_as_people_say_them(seconds: float, reported: str) -> None:
    assert toolbox._span(seconds) == reported


def test_in_a_log_file_a_line_now_and_then_says_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(toolbox, "LINE_SECONDS", 0.01)
    with progress("Loading") as tell:
        text = _until("Loading: 0 s so far\n", capsys)
        tell("Judging", 3, 12, "1 fake")
        text += _until("Judging: 3 of 12 (25 %), 1 fake\n", capsys)
    assert "\x1b" not in text
    capsys.readouterr()
    with progress("Quick"):
        pass
    assert capsys.readouterr() == ("", "")


def test_stages_at_the_same_time_are_both_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(toolbox, "LINE_SECONDS", 0.01)
    with progress() as tell:
        tell("first", 1, 2)
        tell("second", 1, 4)
        _until("first: 1 of 2 (50 %)\nsecond: 1 of 4 (25 %)\n", capsys)
        tell("first", 2, 2)
        _until("second: 1 of 4 (25 %)\nsecond", capsys)


def test_on_a_terminal_a_bar_is_drawn_and_complaints_stay_above(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, force_interactive=True, width=100)
    monkeypatch.setattr(toolbox, "err", lambda: console)
    with progress("Looking") as tell:
        tell("Reading \x1b]0;title\x07[bold]", 3, 12)
        complain("a.jpg: damaged", "warning")
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Reading \\x1b]0;title\\x07[bold]" in written
    assert "3 of 12 (25 %)" in written
    assert re.search(r"warning: .*a\.jpg: damaged\n", written)
    assert written.endswith("\x1b[2K")  # nothing of it stays


def test_there_is_one_way_to_show_progress() -> None:
    others = [
        file.name
        for file in sorted(CLI.rglob("*.py"))
        if file.name != "progress.py"
        and re.search(r"rich\.progress|rich\.status|\.status\(", file.read_text())
    ]
    assert others == []


def _until(expected: str, capsys: pytest.CaptureFixture[str]) -> str:
    text, deadline = "", time.monotonic() + 20
    while expected not in text and time.monotonic() < deadline:
        text += capsys.readouterr().err
    assert expected in text
    return text
