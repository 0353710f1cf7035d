"""The history: a table to filter and page through, and a page for each result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit
from zoneinfo import ZoneInfo

import msgspec
from litestar import Controller, Request, get, post
from litestar.params import FromPath
from litestar.response import Redirect, Template

from d3.domain.accounts import Scope
from d3.domain.errors import RequestInvalid
from d3.domain.history import HistoryEntry, HistoryFilter
from d3.domain.ordering import NEWEST_FIRST, Order, SortKey
from d3.domain.scoring import Verdict
from d3.entrypoints.http.api.history import checked_id, provide_filter, sees
from d3.entrypoints.http.api.schemas import OneResult, history_item
from d3.entrypoints.http.console.models import model_names
from d3.entrypoints.http.console.rendering import (
    base_of,
    explains,
    moment,
    page,
    percent,
    seconds,
    size,
)
from d3.entrypoints.http.console.texts import FACTS, PROBLEMS, TEXTS, VERDICTS
from d3.entrypoints.http.services import D3

_N = TypeVar("_N", int, float)

_ROWS = 50
_DIRECTIONS = {"asc": "ascending", "desc": "descending"}
_COLUMNS = {SortKey.IMAGE_NAME: "asc", SortKey.PREDICTION: "desc", SortKey.CREATED_AT: "desc"}
"""The columns that sort the table, and their first direction."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column by which the table can be sorted.

    Attributes:
        state: the table's order by this column, as a value of ``aria-sort``.
        query: of the URL that sorts by this column, or reverses its order.
    """

    state: str
    query: str


@dataclass(frozen=True, slots=True)
class Asked:
    """The filter of the page's form, as typed. An empty field does not filter.

    Attributes:
        verdict: a verdict.
        model: a model's name.
        since: first day, ISO 8601.
        until: last day, ISO 8601.
        q: the beginning of the image's name.
        zone: the reader's time zone, whose days are meant; empty for UTC.
        sort: the column to sort by, as the API names it.
        order: ``asc`` or ``desc``.
    """

    verdict: str = ""
    model: str = ""
    since: str = ""
    until: str = ""
    q: str = ""
    zone: str = ""
    sort: str = ""
    order: str = ""

    @classmethod
    def of(cls, request: Request[Any, Any, Any]) -> Asked:
        """Read the filter from the URL; unknown verdicts and orders are ignored."""
        query = {name: str(request.query_params.get(name, "")) for name in cls.__slots__}
        if query["verdict"] not in VERDICTS:
            query["verdict"] = ""
        if query["sort"] not in _COLUMNS or query["order"] not in _DIRECTIONS:
            query["sort"] = query["order"] = ""
        if not (query["since"] or query["until"]):
            query["zone"] = ""
        return cls(**query)

    def api(self) -> dict[str, str]:
        """The filter as query parameters of the API.

        Raises:
            RequestInvalid: a day does not exist.
        """
        words = {
            "verdict": self.verdict,
            "model": self.model,
            "since": self._midnight(self.since),
            "until": self._midnight(self.until, days=1),
            "q": self.q,
        }
        return {name: text for name, text in words.items() if text}

    def _midnight(self, day: str, days: int = 0) -> str:
        """The moment at which a day begins for the reader, or so many days later."""
        if not day:
            return ""
        try:
            start = date.fromisoformat(day) + timedelta(days=days)
            moment = datetime.combine(start, time.min, _zone_of(self.zone)).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise RequestInvalid(PROBLEMS["invalid_dates"]) from error
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def where(self, request: Request[Any, Any, Any]) -> HistoryFilter:
        """The filter, limited to the results that the caller may see."""
        words: dict[str, Any] = self.api()
        if "verdict" in words:
            words["verdict"] = Verdict(words["verdict"])
        return provide_filter(request, **words)

    @property
    def sorting(self) -> Order:
        """The order of the table; newest first by default."""
        return Order(SortKey(self.sort), self.order == "desc") if self.sort else NEWEST_FIRST

    def columns(self) -> dict[str, Column]:
        """The columns by which the table can be sorted, by their names in the API."""
        now = self.sorting
        found: dict[str, Column] = {}
        for name, first in _COLUMNS.items():
            state, following = "none", first
            if name == now.by:
                state = _DIRECTIONS["desc" if now.descending else "asc"]
                following = "asc" if now.descending else "desc"
            plain = (name, following) == (NEWEST_FIRST.by, "desc")
            sort, order = ("", "") if plain else (name, following)
            found[name] = Column(state, self.query(sort=sort, order=order))
        return found

    def query(self, **more: str) -> str:
        """The query string of this filter, with further parameters."""
        own = {name: getattr(self, name) for name in self.__slots__}
        return urlencode({name: text for name, text in (own | more).items() if text})


class HistoryPages(Controller):
    """The history and its results."""

    path = "/history"

    @get("/")
    async def table(self, request: Request[Any, Any, Any], d3: D3) -> Template:
        """A page of the history, from the newest result or from a cursor."""
        asked = Asked.of(request)
        cursor = str(request.query_params.get("cursor", ""))
        where, order = asked.where(request), asked.sorting
        found = await d3.query(d3.history.page_after, where, _ROWS, cursor or None, order)
        return page(
            request,
            d3,
            "history",
            headers=_address_bar(request, asked.query(cursor=cursor)),
            asked=asked,
            columns=asked.columns(),
            by_time=order == NEWEST_FIRST,
            entries=found.entries,
            newest="" if not cursor else asked.query() or "all",
            older=asked.query(cursor=found.next_cursor) if found.next_cursor else "",
            here=asked.query(cursor=cursor),
            export=urlencode(asked.api()),
            models=await model_names(d3),
            done=str(request.query_params.get("done", "")),
        )

    @get("/{result_id:str}")
    async def result(
        self, request: Request[Any, Any, Any], d3: D3, result_id: FromPath[str]
    ) -> Template:
        """Everything recorded of one result."""
        whose = sees(request)
        entry = await d3.query(d3.history.get, checked_id(result_id), whose)
        document = msgspec.json.format(
            msgspec.json.encode(OneResult(result=history_item(entry))), indent=2
        )
        return page(
            request,
            d3,
            "result",
            entry=entry,
            facts=facts_of(entry),
            document=document.decode(),
            explains=explains(d3),
        )

    @post("/{result_id:str}/delete", status_code=200)
    async def delete(
        self, request: Request[Any, Any, Any], d3: D3, result_id: FromPath[str]
    ) -> Redirect:
        """Delete one result and redirect to the page of the history that listed it."""
        whose = sees(request, Scope.PREDICT)
        await d3.query(d3.history.delete, checked_id(result_id), whose)
        cursor = str(request.query_params.get("cursor", ""))
        back = Asked.of(request).query(cursor=cursor, done="delete")
        return Redirect(f"{base_of(request)}history?{back}", status_code=303)


def _zone_of(name: str) -> tzinfo:
    """The time zone of this name; UTC if there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return UTC


def facts_of(entry: HistoryEntry) -> list[tuple[str, str | None]]:
    """The recorded facts of a result as texts; None for facts that were not recorded."""
    model = entry.model
    facts: dict[str, str | None] = {
        "image_name": entry.image_name,
        "created_at": f"{moment(entry.created_at)} UTC",
        "verdict": VERDICTS[entry.verdict.value],
        **({"reason": entry.reason_text} if entry.reason else {}),
        **({"notice": entry.notice} if entry.notice else {}),
        "prediction": f"{percent(entry.prediction)} ({entry.prediction:.6f})",
        "threshold": percent(entry.threshold),
        "confidence": percent(entry.confidence),
        "logit": _maybe(entry.logit, "{:.6f}".format),
        "views": str(entry.views),
        "spread": percent(entry.spread) if entry.views > 1 else TEXTS.card.one_view,
        "model": f"{model.name}, {TEXTS.models.version.lower()} {model.version}" if model else None,
        "model_sha256": entry.model_sha256,
        "calibration": entry.calibration_name,
        "engine": f"{entry.engine} {entry.precision}".strip() or None,
        "processing_time": seconds(entry.processing_time),
        "cached": FACTS["yes" if entry.cached else "no"],
        "image_format": entry.image_format,
        "image_size": f"{entry.image_width} x {entry.image_height}" if entry.image_width else None,
        "image_frames": _maybe(entry.image_frames, str),
        **({"image_note": entry.image_note_text} if entry.image_note else {}),
        "image_bytes": _maybe(entry.image_bytes, size),
        "image_sha256": entry.image_sha256,
        "d3_version": entry.d3_version or None,
        "request_id": entry.request_id,
    }
    return [(FACTS[name], value) for name, value in facts.items()]


def _address_bar(request: Request[Any, Any, Any], wanted: str) -> dict[str, str]:
    """The URL that htmx shows in the address bar, so that the browser's Back works."""
    current = request.headers.get("hx-current-url")
    if current is None:
        return {}
    there = dict(parse_qsl(urlsplit(current).query))
    there.pop("done", None)
    if there == dict(parse_qsl(wanted)):
        return {"HX-Push-Url": "false"}
    return {"HX-Push-Url": f"{base_of(request)}history{'?' if wanted else ''}{wanted}"}


def _maybe(value: _N | None, form: Callable[[_N], str]) -> str | None:
    return None if value is None else form(value)
