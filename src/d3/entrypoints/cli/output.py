"""What the command line prints, and where: results on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_shared_with: list[Console] = []
_PIPE_WIDTH = 140
_COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


@cache
def out() -> Console:
    """The console of results."""
    return _console(stderr=False)


@cache
def err() -> Console:
    """The console of errors, warnings, notes and progress."""
    return _console(stderr=True)


def complain(sentence: str, kind: str = "error") -> None:
    """Say something on stderr, on one line however narrow the terminal."""
    from rich.text import Text

    console = _shared_with[-1] if _shared_with else err()
    console.print(Text.assemble((f"{kind}: ", _COLOURS[kind]), printable(sentence)))


@contextmanager
def sharing_the_terminal(console: Console) -> Iterator[None]:
    """While a progress bar is drawn on a console, complaints go above it, not through it."""
    _shared_with.append(console)
    try:
        yield
    finally:
        _shared_with.pop()


def print_json(value: Any) -> None:
    """One JSON object on one line of stdout, at once."""
    import msgspec

    sys.stdout.write(msgspec.json.encode(value, enc_hook=str).decode() + "\n")
    sys.stdout.flush()


def counted(number: int, noun: str) -> str:
    """``1 image``, ``2,000 images``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """The text with every control or undecodable character shown as an escape.

    File names may hold anything; a terminal must not obey them.
    """
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console
