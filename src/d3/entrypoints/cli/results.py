"""What commands print for people and programs alike: one way to choose the form and the place.

Commands that show results take ``--format``, ``--json`` and ``--output`` from :func:`shows`, and
print lists with :func:`print_rows`, so that all of them agree.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Any, Generic, TypeVar

import click

from d3.domain.errors import StorageFailed
from d3.domain.files import replacing, storage_errors
from d3.domain.services.export import csv_line
from d3.entrypoints.cli.output import complain, is_full, out, print_json, printable

Row = TypeVar("Row")
Command = TypeVar("Command", bound=Callable[..., Any])

STDOUT = Path("-")
_NAMES = 12
"""Characters that the names of facts take at least."""
_TARGET = "d3.entrypoints.cli.results.target"
"""Where a command's context keeps the file that its results go to."""
_LEAST = 10
"""Characters that a column keeps on a narrow terminal, if it has so many: most words fit."""
_BESIDE = 3
"""Characters between two columns."""
_WIDEST = 1_000_000
"""Characters of a line that nobody watches."""


class Form(StrEnum):
    """How results are printed."""

    TABLE = "table"
    """For people; its layout may change."""
    JSON = "json"
    """One object on each line."""
    CSV = "csv"
    """RFC 4180 with a header, safe to open in a spreadsheet."""


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """A column of a list.

    Attributes:
        name: in CSV; in capitals, the title for people.
        value: exact, for CSV.
        shown: for people; by default the value, or ``-`` for none.
        title: for people, where it is another than the name.
        right: whether it stands on the right, as numbers do.
        whole: whether it is never broken on a narrow terminal, since it is there to be copied.
        printed: whether people see it.
    """

    name: str
    value: Callable[[Row], Any]
    shown: Callable[[Row], str] | None = None
    title: str | None = None
    right: bool = False
    whole: bool = False
    printed: bool = True


def count_column(name: str, title: str | None = None) -> Column[Any]:
    """A column with one of the ``counts`` of a job or a scan."""
    return Column(
        name,
        lambda one: getattr(one.counts, name),
        lambda one: f"{getattr(one.counts, name):,}",
        title,
        right=True,
    )


_FORMAT = click.option(
    "--format",
    "form",
    type=click.Choice([one.value for one in Form]),
    help="How to print results: a table for people, JSON with one object per line, or CSV.  "
    "[default: table]",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Write results to FILE, which is replaced when all are written, or - for stdout.",
)


def shows(command: Command) -> Command:
    """Give a command ``--format``, ``--json`` and ``--output``; it takes ``form``."""

    @_FORMAT
    @_JSON
    @OUTPUT
    @wraps(command)
    def shown(
        *arguments: Any, form: str | None, as_json: bool, output: Path | None, **named: Any
    ) -> Any:
        if as_json and form not in {None, Form.JSON}:
            raise click.UsageError(f"--json and --format {form} exclude each other.")
        asked = Form.JSON if as_json else Form(form or Form.TABLE)
        click.get_current_context().meta[_TARGET] = output
        with into(output):
            return command(*arguments, form=asked, **named)

    return shown  # type: ignore[return-value]


def keep_inputs(inputs: Iterable[object], target: Path | None = None) -> None:
    """Refuse to write over what a command reads, before it begins to work.

    Links, other spellings and standard input from a file are seen through: what counts is the file
    itself. Folders, links to the web and what else is no file of this machine pass.

    Args:
        inputs: strings and paths are files, ``-`` is standard input; all else passes.
        target: of the command; None: the one of ``--output``.

    Raises:
        StorageFailed: the target is one of them.
    """
    if target is None:
        target = click.get_current_context().meta.get(_TARGET)
    if target is None or target == STDOUT or (found := _file_behind(target)) is None:
        return
    for one in inputs:
        if isinstance(one, str | Path) and _file_behind(one) == found:
            raise StorageFailed(
                f"{printable(str(target))} is also an input of this command, and would be lost.",
                "Choose another name for the output.",
            )


def _file_behind(path: str | Path) -> tuple[int, int] | None:
    """What tells a regular file from all others; None for anything else."""
    with suppress(OSError, ValueError):  # such as no standard input, or a zero byte in a name
        about = os.fstat(sys.stdin.fileno()) if str(path) == "-" else Path(path).stat()
        return (about.st_dev, about.st_ino) if stat.S_ISREG(about.st_mode) else None
    return None


@contextmanager
def into(target: Path | None) -> Iterator[None]:
    """Have what is printed on stdout in a file instead, which appears when all goes well.

    Args:
        target: the file; None and ``-`` leave stdout as it is.

    Raises:
        StorageFailed: it cannot be written, which shows before the work begins where it can.
    """
    if target in {None, STDOUT}:
        yield
        return
    assert target is not None
    problem = f"{printable(str(target))} cannot be written"
    opening = ExitStack()
    with storage_errors(problem):
        partial = opening.enter_context(replacing(target))
        stream = partial.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")
        opening.enter_context(stream)
    usual, sys.stdout = sys.stdout, stream
    out.cache_clear()
    try:
        yield
    except BaseException as error:
        with opening:  # which drops the file
            if is_full(error):  # no other stream that a command writes to is a file
                with storage_errors(problem, "Free some space, or write it somewhere else."):
                    raise
            raise
    else:
        with storage_errors(problem):
            opening.close()
    finally:
        sys.stdout = usual
        out.cache_clear()


def export_form(file: Path, form: str | None, forms: Sequence[str]) -> str:
    """In which of these formats a file is written: as asked, or as its name says.

    Raises:
        click.BadParameter: neither says it.
    """
    found = form or file.suffix.lower().removeprefix(".")
    if found in forms:
        return found
    if file == STDOUT:
        raise click.UsageError(f"Name the format for stdout: --format {'|'.join(forms)}.")
    endings = " or ".join(f".{one}" for one in forms)
    raise click.BadParameter(
        f"The name {printable(file.name)!r} must end in {endings}.", param_hint="FILE"
    )


def write_export(file: Path, chunks: Iterable[bytes]) -> None:
    """Write a file that appears whole or not at all, or all of it on stdout.

    Raises:
        StorageFailed: it cannot be written.
    """
    if file == STDOUT:
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
            sys.stdout.flush()
        return
    with (
        storage_errors(f"{printable(str(file))} cannot be written"),
        replacing(file) as partial,
        partial.open("wb") as stream,
    ):
        stream.writelines(chunks)


def print_rows(
    form: Form,
    rows: Iterable[Row],
    columns: Sequence[Column[Row]],
    document: Callable[[Row], Mapping[str, Any]],
    *,
    none: str = "",
) -> None:
    """Print a list.

    Args:
        form: how.
        rows: of the list.
        columns: for people and CSV.
        document: a row as a JSON object.
        none: what to say on stderr to people where there is no row.
    """
    if form is Form.JSON:
        for row in rows:
            print_json(document(row))
    elif form is Form.CSV:
        print_csv([one.name for one in columns])
        for row in rows:
            print_csv([one.value(row) for one in columns])
    elif (found := [*rows]) or not none:
        _print_table(found, [one for one in columns if one.printed])
    else:
        complain(none, "note")


def print_facts(form: Form, facts: Iterable[tuple[str, Any]], document: Mapping[str, Any]) -> None:
    """Print one thing: a line for each fact, a JSON object, or a CSV header and one row.

    Args:
        form: how.
        facts: names and values for people; what is None, empty or False is left out.
        document: for programs; objects in it are columns of their own in CSV.
    """
    if form is Form.JSON:
        print_json(document)
    elif form is Form.CSV:
        flat = dict(_flat(document))
        print_csv([*flat])
        print_csv([*flat.values()])
    else:
        told = [(name, _text(value)) for name, value in facts if _is_worth_saying(value)]
        width = max([_NAMES, *(len(name) for name, _ in told)])
        for name, value in told:
            title = name.replace("_", " ")
            out().print(f"{title:<{width}} {printable(value)}", markup=False)


def print_csv(values: Sequence[object]) -> None:
    """One line of CSV on stdout, at once."""
    sys.stdout.write(csv_line(values))
    sys.stdout.flush()


def moment(value: datetime | None) -> str:
    """A time for people, to the minute, in UTC."""
    return "-" if value is None else f"{value:%Y-%m-%d %H:%M}"


def _flat(document: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}_")
        else:
            yield f"{before}{name}", value


def _is_worth_saying(value: object) -> bool:
    return value is not None and value is not False and value != ""


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _print_table(rows: Sequence[Row], columns: Sequence[Column[Row]]) -> None:
    """A table as wide as the terminal at most, and as wide as it needs where nobody watches."""
    from rich import box
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    narrowest = 0
    for one in columns:
        title = one.name.replace("_", " ").upper() if one.title is None else one.title
        longest = max([len(title), *(len(_said(one, row)) for row in rows)])
        least = longest if one.whole else min(longest, _LEAST)
        narrowest += least + _BESIDE
        table.add_column(
            title,
            justify="right" if one.right else "left",
            no_wrap=one.whole,
            min_width=least,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(printable(_said(one, row))) for one in columns))
    console = out()
    if not console.is_terminal:
        wide = console.options.update(max_width=_WIDEST)
        console.width = max(console.width, Measurement.get(console, wide, table).maximum)
    else:  # on a narrower one lines are broken, but nothing is left out
        console.width = max(console.width, narrowest)
    console.print(table)


def _said(column: Column[Row], row: Row) -> str:
    if column.shown is not None:
        return column.shown(row)
    value = column.value(row)
    return "-" if value is None or value == "" else str(value)
