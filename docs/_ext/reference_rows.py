"""The fields of a result and of a row of a scan, from the records."""

from __future__ import annotations

import inspect
import re
from enum import StrEnum

from tables import table

from d3.domain.records import Field, ImageRecord, ResultRecord, fields_of
from d3.domain.scans import ScanRow

_KINDS = {str: "text", int: "integer", float: "number", bool: "boolean"}
_ROLE = re.compile(r":[a-z]+:`~?(?:[A-Za-z0-9_.]*\.)?([A-Za-z0-9_]+)`")


def result() -> str:
    """A row for each field of a result."""
    return _fields(ResultRecord)


def scan() -> str:
    """A row for each field of a scan's row."""
    return _fields(ScanRow)


def _fields(record: type[ImageRecord]) -> str:
    meanings = {}
    for kind in reversed(record.__mro__[:-1]):
        meanings |= _attributes(kind)
    rows = (
        (f"`{name}`", _kind(field), meanings.get(name, ""))
        for name, field in fields_of(record).items()
    )
    return table(("field", "type", "meaning"), rows)


def _kind(field: Field) -> str:
    if issubclass(field.kind, StrEnum):
        text = ", ".join(f"`{one}`" for one in field.kind)
    else:
        text = _KINDS.get(field.kind, "time")
    if field.length is not None and not issubclass(field.kind, StrEnum):
        text += f" of at most {field.length:,} characters"
    return f"{text}, or null" if field.optional else text


def _attributes(kind: type) -> dict[str, str]:
    """What the docstring of a class says of its attributes."""
    text = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2]
    paragraphs = re.split(r"^    (?=\w+: )", text, flags=re.MULTILINE)[1:]
    found = {}
    for one in paragraphs:
        name, _, meaning = one.partition(": ")
        words = " ".join(meaning.split("\n\n")[0].split())
        found[name] = _ROLE.sub(r"`\1`", words).replace("``", "`")
    return found
