"""Fields of records and files, from the dataclasses that hold them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tables import table

from d3.domain.history import HistoryEntry, RequestRecord
from d3.domain.models import Manifest
from d3.domain.scans import ROW_FIELDS, ScanRow
from d3.domain.services.export import COLUMNS
from d3.evaluation.scores import Row

_KINDS = {str: "text", int: "integer", float: "number", bool: "boolean", datetime: "time"}
_ROLE = re.compile(r":[a-z]+:`~?(?:[A-Za-z0-9_.]*\.)?([A-Za-z0-9_]+)`")


def results() -> str:
    """A row for each column of the history's exports."""
    return _of(HistoryEntry, COLUMNS)


def scans() -> str:
    """A row for each column of a scan's exports."""
    return _of(ScanRow, ROW_FIELDS)


def requests() -> str:
    """A row for each column of the log of requests."""
    return _of(RequestRecord)


def manifest() -> str:
    """A row for each entry of a model's manifest."""
    return _of(Manifest)


def scores() -> str:
    """A row for each column of an evaluation's scores."""
    return _of(Row, [one.name for one in fields(Row) if one.name not in {"others", "by_rule"}])


def _of(record: type[Any], names: Iterable[str] | None = None) -> str:
    meanings: dict[str, str] = {}
    for kind in reversed(record.__mro__[:-1]):
        meanings |= _attributes(kind)
    hints = get_type_hints(record, include_extras=True)
    rows = []
    for name in names or [one.name for one in fields(record)]:
        computed = getattr(record, name, None)
        if isinstance(computed, property):
            hint = get_type_hints(computed.fget)["return"]
            meaning = inspect.cleandoc(computed.__doc__ or "")
        else:
            hint, meaning = hints[name], meanings.get(name, "")
        rows.append((f"`{name}`", _kind(hint), meaning))
    return table(("field", "type", "meaning"), rows)


def _kind(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        length = getattr(hint.__metadata__[0], "characters", None)
        word = _kind(parts[0])
        return f"{word} of at most {length:,} characters" if word == "text" else word
    if origin in {Union, UnionType}:
        kinds = [_kind(one) for one in parts if one is not NoneType]
        return " or ".join([*kinds, *(["null"] if NoneType in parts else [])])
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in parts)
    return _plain(origin or hint)


def _plain(kind: Any) -> str:
    if inspect.isclass(kind) and issubclass(kind, StrEnum):
        return ", ".join(f"`{one}`" for one in kind)
    if kind in {list, tuple, set, frozenset}:
        return "list"
    if is_dataclass(kind) or kind in {dict, Mapping}:
        return "object"
    return _KINDS.get(kind, "value")


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
