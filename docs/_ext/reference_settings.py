"""The settings: their types and defaults from the code, their texts from .env.example."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tables import anchored, table

from d3.settings import Settings

_EXAMPLE = Path(__file__).parents[2] / ".env.example"
_SECTIONS = {
    "D3_HOME": "Data and models",
    "CUDA_DEVICE": "Device and engine",
    "D3_QUEUE_IMAGES": "Queue",
    "D3_MAX_IMAGE_BYTES": "Images, videos and links",
    "D3_DATABASE_URL": "Database and stores",
    "D3_ENCODER": "Fetching models",
    "D3_HOST": "Service",
    "D3_SPOOL": "Jobs",
    "D3_AUTH": "Access",
    "D3_TLS_CERT": "Network and limits",
    "D3_SCAN_FOLDER": "Scans",
    "D3_HISTORY_DAYS": "History and logs",
}
"""The first variable of each section, in the order of .env.example."""
_WORDS = {int: "integer", float: "number", bool: "`True` or `False`", str: "text", Path: "path"}
_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def settings() -> str:
    """Sections of tables."""
    known = {one.metadata["variable"]: one for one in fields(Settings)}
    hints = get_type_hints(Settings, include_extras=True)
    text = ""
    rows: list[tuple[str, str, str, str]] = []
    for lead, variables in _paragraphs():
        if variables[0] in _SECTIONS or len(variables) > 1:
            text, rows = text + _table(rows), []
        if variables[0] in _SECTIONS:
            text += f"## {_SECTIONS[variables[0]]}\n\n"
        if len(variables) > 1:
            text += f"{lead}\n\n"
        for name in variables:
            one = known[name]
            meaning = lead if len(variables) == 1 else _sentence(one.metadata["about"])
            rows.append((anchored(name), _kind(hints[one.name]), _default(one), meaning))
        if len(variables) > 1:
            text, rows = text + _table(rows), []
    return text + _table(rows)


def _table(rows: list[tuple[str, str, str, str]]) -> str:
    return f"{table(('variable', 'type', 'default', 'meaning'), rows)}\n" if rows else ""


def _paragraphs() -> Iterator[tuple[str, list[str]]]:
    """Each comment of .env.example with the variables under it."""
    lead: list[str] = []
    variables: list[str] = []
    for line in [*_EXAMPLE.read_text(encoding="utf-8").splitlines(), "#"]:
        if line.startswith("#"):
            if variables:
                yield " ".join(lead), variables
                lead, variables = [], []
            lead.append(line.removeprefix("#").strip())
        elif found := re.match(r"([A-Z0-9_]+)=", line):
            variables.append(found[1])
        elif not variables:
            lead = []  # about the file


def _sentence(about: str) -> str:
    """The text as a sentence; what begins with a value, such as `sqlite:///FILE`, keeps it."""
    is_value = re.match(r"[a-z0-9]+(?:://| or [A-Z]{2})", about)
    return f"{about}." if is_value else f"{about[0].upper()}{about[1:]}."


def _default(setting: Field[Any]) -> str:
    if setting.default is MISSING:
        return "the user's data folder"
    if setting.name == "decode_threads":
        return "the number of cores"
    if setting.default in {None, ()}:
        return "unset"
    return f"`{setting.default}`"


def _kind(hint: Any, limits: str = "") -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        (meta,) = hint.__metadata__
        said = [
            f"{words} {getattr(meta, name):,}"
            for name, words in _LIMITS.items()
            if getattr(meta, name, None) is not None
        ]
        return _kind(hint.__origin__, ", " + ", ".join(said) if said else "")
    if origin in {Union, UnionType}:
        return " or ".join(_kind(one) for one in parts if one is not NoneType)
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in parts)
    if origin is tuple:
        return "list, separated by commas"
    return _WORDS[hint] + limits
