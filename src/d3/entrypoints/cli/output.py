"""What the command line prints, and where: results on stdout, everything else on stderr.

Characters that a stream's encoding lacks are shown as escapes; JSON is then all ASCII.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeGuard

if TYPE_CHECKING:
    from rich.console import Console

_shared_with: list[Console] = []
_PIPE_WIDTH = 140
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_LOST = _FULL | {errno.EPIPE, errno.EIO, errno.EBADF}
_NO_ASCII = re.compile(r"[^\0-\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


_quiet = [False]


def prepare_streams() -> None:
    """Make of the standard streams what every command can use, even where one is closed."""
    be_quiet(wanted=False)
    if sys.stdin is None:
        sys.stdin = _nowhere("r")
    if sys.stdout is None:
        sys.stdout = _nowhere("r")  # who writes a result there is told
    if sys.stderr is None:
        sys.stderr = _nowhere("w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _nowhere(mode: Literal["r", "w"]) -> TextIO:
    return open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123  as long as we live


def is_lost(error: Exception) -> TypeGuard[OSError]:
    """Whether it says that a stream cannot be written; adapters translate what else may fail."""
    closed = isinstance(error, io.UnsupportedOperation)
    return closed or (isinstance(error, OSError) and error.errno in _LOST and not error.filename)


def is_full(error: BaseException) -> TypeGuard[OSError]:
    """Whether it says that what a stream is written to has no space left."""
    return isinstance(error, OSError) and error.errno in _FULL and not error.filename


def give_up_output() -> None:
    """Drop what was not written: Python would try once more when it ends, and fail again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())


@cache
def out() -> Console:
    """The console of results."""
    return _console(stderr=False)


@cache
def err() -> Console:
    """The console of errors, warnings, notes and progress."""
    return _console(stderr=True)


def be_quiet(*, wanted: bool = True) -> None:
    """Say no more than results, warnings, errors and questions from now on."""
    _quiet[0] = wanted


def is_quiet() -> bool:
    """Whether progress, counts and notes are left out."""
    return _quiet[0]


def remark(text: str) -> None:
    """Say on stderr what was done: counts, and where files lie; nothing with ``--quiet``."""
    if not is_quiet():
        err().print(text, style="dim", markup=False)


def complain(sentence: str, kind: str = "error") -> None:
    """Say something on stderr, on one line however narrow the terminal.

    Args:
        sentence: what there is to say.
        kind: ``error``, ``warning`` or ``note``; notes are left out with ``--quiet``.
    """
    from rich.text import Text

    if kind == "note" and is_quiet():
        return
    console = _shared_with[-1] if _shared_with else err()
    console.print(Text.assemble((f"{kind}: ", _COLOURS[kind]), printable(sentence)))


def confirmed(question: str) -> bool:
    """Ask on stderr, yes or no.

    Raises:
        click.UsageError: nobody is there to be asked.
        click.Abort: interrupted.
    """
    import click

    try:
        return click.confirm(printable(question), err=True)
    except click.Abort as error:
        if isinstance(error.__context__, EOFError) and not sys.stdin.isatty():
            raise click.UsageError("Nobody can be asked here. Confirm with --yes.") from error
        raise


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

    text = msgspec.json.encode(value, enc_hook=str).decode()
    if not sys.stdout.encoding.lower().startswith("utf"):
        text = _NO_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text)
    sys.stdout.write(text + "\n")
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


def as_text(name: str) -> str:
    """A name as it is, for JSON: only bytes that are no text are shown as escapes."""
    return _SURROGATE.sub(lambda found: printable(found[0]), name)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    class Plain(Console):
        """Leaves it to the command what becomes of a reader that has gone."""

        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704  rich calls this while it handles the error

    console = Plain(stderr=stderr, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console
