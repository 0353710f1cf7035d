"""Tables that people write: what stands between their values, and which column names an image."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeAlias

from d3.domain.errors import RequestInvalid
from d3.domain.formats import named_as_image

DELIMITERS = (",", ";", "\t")
"""Comma, what a spreadsheet writes where the comma stands in numbers, and tab."""

SAMPLE_CHARACTERS = 64 * 1024
"""Of a table's beginning: as many decide how it is read."""

IMAGE_COLUMNS = ("uri", "path", "url", "key", "image", "file", "filename", "image_path")
"""By which of its columns a table names images."""

_ROWS = 2
_Row: TypeAlias = list[str]


class Layout(NamedTuple):
    """How a table that lists images is read.

    Attributes:
        delimiter: between values.
        column: of the images, from 0.
        titled: whether the first row holds the columns' names.
    """

    delimiter: str
    column: int
    titled: bool


def delimiter_of(sample: str, fits: Callable[[_Row], bool]) -> str:
    """What stands between values: the first delimiter by which the first row fits, else a comma."""
    found = (one for one in DELIMITERS if fits(next(_rows(sample, one), [])))
    return next(found, DELIMITERS[0])


def image_column(names: Sequence[str]) -> int | None:
    """Which of these columns names images, by its name."""
    known = [one.strip().lower() for one in names]
    return next((known.index(one) for one in IMAGE_COLUMNS if one in known), None)


def layout_of(sample: str, is_there: Callable[[str], bool]) -> Layout:
    """How a list of images is read, with the names of its columns or without them.

    Args:
        sample: its first :data:`SAMPLE_CHARACTERS`, or all of it.
        is_there: whether a file lies at this path.

    Raises:
        RequestInvalid: it is unclear whether the first row holds column names.
    """
    tables = {one: list(islice(_rows(sample, one), _ROWS)) for one in DELIMITERS}
    for delimiter, rows in tables.items():
        if rows and (column := image_column(rows[0])) is not None:
            return Layout(delimiter, column, titled=True)
    tables = dict(sorted(tables.items(), key=lambda one: not _is_divided(one[1])))
    # What a file lies at is surely a path; of the rest a URI says more than the end of a name.
    for says in (is_there, _is_uri_of_image, named_as_image, _is_uri):
        for number in range(_ROWS):
            for delimiter, rows in tables.items():
                for column, value in enumerate(rows[number] if number < len(rows) else []):
                    if says(value):
                        return Layout(delimiter, column, _is_titled(rows, column, is_there))
    if not any(tables.values()):
        return Layout(DELIMITERS[0], 0, titled=False)
    raise _unclear()


def _is_titled(rows: Sequence[_Row], column: int, is_there: Callable[[str], bool]) -> bool:
    first = rows[0][column] if column < len(rows[0]) else ""
    if any(says(first) for says in (is_there, named_as_image, _is_uri)):
        return False
    if named_as_image(rows[1][column]):
        return True
    raise _unclear()


def _is_divided(rows: Sequence[_Row]) -> bool:
    """Whether the delimiter makes of each row as many values, and more than one."""
    lengths = {len(row) for row in rows}
    return len(lengths) == 1 and lengths != {1}


def _unclear() -> RequestInvalid:
    return RequestInvalid(
        "The first line of the list has neither an image nor a column name that D3 knows.",
        f"Name the column of the images one of {', '.join(IMAGE_COLUMNS)}.",
    )


def _rows(sample: str, delimiter: str) -> Iterator[_Row]:
    """The rows that hold something, their values without spaces around them."""
    for row in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter):
        values = [one.strip() for one in row]
        if any(values):
            yield values


def _is_uri(value: str) -> bool:
    scheme, sign, rest = value.partition("://")
    return bool(sign and rest) and scheme.isalnum()


def _is_uri_of_image(value: str) -> bool:
    return _is_uri(value) and named_as_image(value)
