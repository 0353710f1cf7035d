"""What descriptions of calls are made of."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

import msgspec

from d3.client.steps import A, Call, Pages, T, answer
from d3.client.uploads import Form

Panel: TypeAlias = "Sequence[str] | str"
"""Names of models, the chief first; in one text, with commas between them."""
Rule: TypeAlias = Literal["chief", "any", "majority"]
_PAGE = 500


def once(path: str, body: bytes | Form, read: Callable[[bytes], T]) -> Call[T]:
    """A form, or JSON, that has one effect however often it is sent."""
    key = {"Idempotency-Key": uuid.uuid4().hex}
    return Call(method="POST", path=path, read=read, body=body, headers=key, again=True)


def get(
    path: str, kind: type[A], part: Callable[[A], T], query: Mapping[str, str] | None = None
) -> Call[T]:
    """Ask for something."""
    return Call(method="GET", path=path, read=answer(kind, part), query=query or {}, again=True)


def post(
    path: str,
    asked: object,
    kind: type[A],
    part: Callable[[A], T],
    *,
    method: str = "POST",
    again: bool = False,
) -> Call[T]:
    """JSON, or nothing if None is asked."""
    body = b"" if asked is None else msgspec.json.encode(asked)
    return Call(method=method, path=path, read=answer(kind, part), body=body, again=again)


def by_cursor(
    path: str, kind: type[Any], asked: Mapping[str, str], items: str = "results"
) -> Pages[Any]:
    """Pages that name the next one by ``next_cursor``."""

    def at(cursor: str) -> Call[tuple[Sequence[Any], str | None]]:
        query = {**asked, "limit": str(_PAGE)} | ({"cursor": cursor} if cursor else {})
        return get(path, kind, lambda page: (getattr(page, items), page.next_cursor or None), query)

    return Pages(at)


def by_offset(path: str, kind: type[A], part: Callable[[A], Sequence[T]]) -> Pages[T]:
    """Pages that begin at an offset; the last is not full."""

    def at(offset: str) -> Call[tuple[Sequence[T], str | None]]:
        def read(page: A) -> tuple[Sequence[T], str | None]:
            found = part(page)
            return found, str(int(offset) + _PAGE) if len(found) == _PAGE else None

        return get(path, kind, read, {"limit": str(_PAGE), "offset": offset})

    return Pages(at, "0")


def question(
    threshold: float | None,
    views: int,
    panel: Panel | None,
    panel_rule: Rule | None,
    *,
    stability: bool,
) -> dict[str, str]:
    """The fields of a form that say how images are judged."""
    return texts(
        threshold=None if threshold is None else float(threshold),
        views=views,
        panel=commas(panel),
        panel_rule=panel_rule,
        stability=stability or None,
    )


def given(**asked: Any) -> dict[str, Any]:
    """What was asked for."""
    return {name: value for name, value in asked.items() if value is not None}


def texts(**asked: str | float | datetime | None) -> dict[str, str]:
    """What was asked for, as addresses and forms have it."""
    return {name: _text(value) for name, value in given(**asked).items()}


def _text(value: str | float | datetime) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def commas(panel: Panel | None) -> str | None:
    """Names in one text."""
    return panel if panel is None or isinstance(panel, str) else ",".join(panel)


def named(path: str, name: str) -> str:
    """The address of what has this name."""
    return f"{path}/{quote(name, safe='')}"


def whole(one: T) -> T:
    """The whole answer."""
    return one


def nothing(_: bytes) -> None:
    """Of an answer that only says that something was done."""
    return
