"""How far a long command has come: a bar where somebody watches, else a plain line a minute.

Every command that may take longer than a moment tells it here, so that a log file or a pipe shows
as much as a terminal: what is done, of how much, how fast, and the time left.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Protocol, TypeVar

from d3.entrypoints.cli.output import (
    err,
    is_quiet,
    out,
    printable,
    sharing_the_terminal,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, Task, TaskID

Row = TypeVar("Row")

LINE_SECONDS = 60.0
"""Between two lines."""
_RATE_SECONDS = 300.0
"""Over which a rate is measured."""
_BAR = 24
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


class Unit(Enum):
    """In what the work is counted."""

    PIECES = "pieces"
    BYTES = "bytes"
    SHARE = "share"
    """Of the whole, from 0 to 1."""


class Tell(Protocol):
    """Takes in how far a command is."""

    def __call__(
        self, stage: str, done: float = 0, total: float | None = None, note: str = ""
    ) -> None:
        """Note what is done.

        Args:
            stage: what is being done; the next one replaces it on the screen once it is finished.
            done: in the command's unit.
            total: likewise; None or 0 where nobody knows.
            note: what else is worth knowing.
        """
        ...


@contextmanager
def progress(
    first: str = "", unit: Unit = Unit.PIECES, *, below_rows: bool = False
) -> Iterator[Tell]:
    """Show on stderr how far a command is, for as long as the context lasts; not with --quiet.

    Args:
        first: the stage to begin with; without, nothing is shown before the first is told.
        unit: of what is told.
        below_rows: rows are printed on stdout meanwhile; the bar stays below them.
    """
    if is_quiet():
        yield _tell_nobody
        return
    watched = err().is_interactive
    console = out() if below_rows and watched and out().is_terminal else err()
    bars = _bars(console, unit, watched=watched)
    stages: dict[str, TaskID] = {}
    telling = threading.Lock()

    def tell(stage: str, done: float = 0, total: float | None = None, note: str = "") -> None:
        with telling:
            total = total or None
            if stage not in stages:
                for task in bars.tasks:
                    if task.finished or task.total is None:
                        bars.remove_task(stages.pop(task.fields["stage"]))
                stages[stage] = bars.add_task(
                    printable(stage), total=total, stage=stage, begun=done, note=note
                )
            bars.update(stages[stage], completed=done, total=total, note=note)

    if first:
        tell(first)
    with sharing_the_terminal(console), bars if watched else _lines(bars, unit):
        yield tell


def _tell_nobody(stage: str, done: float = 0, total: float | None = None, note: str = "") -> None:
    """Nobody asked."""


def told_of(rows: Iterable[Row], tell: Tell, stage: str, total: float) -> Iterator[Row]:
    """The rows, each told as it passes."""
    for number, row in enumerate(rows, start=1):
        tell(stage, number, total)
        yield row


def _bars(console: Console, unit: Unit, *, watched: bool) -> Progress:
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text

    class Said(ProgressColumn):
        """The numbers, in words."""

        def render(self, task: Task) -> Text:
            return Text(said(task, unit))

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=_BAR),
        Said(),
        console=console,
        transient=True,
        disable=not watched,
        speed_estimate_period=_RATE_SECONDS,
    )


@contextmanager
def _lines(bars: Progress, unit: Unit) -> Iterator[None]:
    """A line a minute from a thread of its own: a step that tells nothing is heard of too."""
    ended = threading.Event()

    def speak() -> None:
        while not ended.wait(LINE_SECONDS):
            unfinished = [task for task in bars.tasks if not task.finished]
            for task in unfinished or bars.tasks[-1:]:
                err().print(f"{task.description}: {said(task, unit)}", style="dim", markup=False)

    speaker = threading.Thread(target=speak, name="d3-progress", daemon=True)
    speaker.start()
    try:
        yield
    finally:
        ended.set()
        speaker.join()


def said(task: Task, unit: Unit) -> str:
    """What is done, of how much, the rate, the time left and the note."""
    done, total = task.completed, task.total
    parts = []
    if done or total:
        parts.append(_amount(done, total, unit))
    else:
        parts.append(f"{_span(task.elapsed or 0)} so far")
    rate = task.speed or _average(task)
    if rate and unit is not Unit.SHARE:
        parts.append(f"{_rate(rate, unit)}")
    if rate and total and done < total:
        parts.append(f"{_span((total - done) / rate)} left")
    if task.fields["note"]:
        parts.append(task.fields["note"])
    return ", ".join(parts)


def _average(task: Task) -> float:
    """The rate since the stage began: of steps so long that no two were seen of late."""
    return (task.completed - task.fields["begun"]) / task.elapsed if task.elapsed else 0.0


def _amount(done: float, total: float | None, unit: Unit) -> str:
    share = f"{100 * done / total:.0f} %" if total else ""
    if unit is Unit.SHARE:
        return share
    whole = f"{done:,.0f}" if unit is Unit.PIECES else _bytes(done)
    if not total:
        return whole
    return f"{whole} of {f'{total:,.0f}' if unit is Unit.PIECES else _bytes(total)} ({share})"


def _rate(rate: float, unit: Unit) -> str:
    if unit is Unit.BYTES:
        return f"{_bytes(rate)}/s"
    return f"{rate:,.1f}/s" if rate >= 1 else f"{60 * rate:,.1f}/min"


def _bytes(number: float) -> str:
    from rich.filesize import decimal

    return decimal(round(number))


def _span(seconds: float) -> str:
    """A time as people say it: ``45 s``, ``3 min``, ``2 h 10 min``, ``3 d 4 h``."""
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < _DAY:
        return f"{seconds // _HOUR:.0f} h {seconds % _HOUR // _MINUTE:.0f} min"
    return f"{seconds // _DAY:.0f} d {seconds % _DAY // _HOUR:.0f} h"
