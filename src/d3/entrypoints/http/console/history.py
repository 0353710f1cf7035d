"""The history: a table to filter and page through, and a page for each result."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit
from zoneinfo import ZoneInfo

import msgspec
from litestar import Controller, Request, get, post
from litestar.enums import RequestEncodingType
from litestar.params import Body, FromPath
from litestar.response import Redirect, Response, Template
from msgspec import Struct

from d3.domain.accounts import Scope
from d3.domain.errors import RequestInvalid, ResultNotFound
from d3.domain.history import HistoryEntry, HistoryFilter
from d3.domain.labels import Label, LabelChange, LabelIs, NewLabel, label_of
from d3.domain.ordering import NEWEST_FIRST, Order, SortKey
from d3.domain.provenance import Says
from d3.domain.scoring import Calibration, Verdict
from d3.domain.services.export import csv_chunks, json_lines_chunks
from d3.entrypoints.http.api.history import checked_id, sees
from d3.entrypoints.http.api.schemas import OneResult, history_item
from d3.entrypoints.http.callers import caller_of
from d3.entrypoints.http.console.guards import allows
from d3.entrypoints.http.console.models import model_names
from d3.entrypoints.http.console.rendering import (
    base_of,
    confirm,
    explains,
    page,
    percent,
    seconds,
    size,
)
from d3.entrypoints.http.console.texts import FACTS, PROBLEMS, TEXTS, VERDICTS
from d3.entrypoints.http.services import D3, Services

_N = TypeVar("_N", int, float)

_ROWS = 50
_OTHERS = 20
_CHOICES: dict[str, Collection[str]] = {
    "verdict": VERDICTS,
    "label": frozenset(LabelIs),
    "provenance": frozenset(Says),
}
"""The fields of the filter that are chosen from a list."""
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
        label: a label, or ``none``.
        provenance: what the file says of itself.
        model: a model's name.
        since: first day, ISO 8601.
        until: last day, ISO 8601.
        contains: a part of the image's name.
        zone: the reader's time zone, whose days are meant; empty for UTC.
        sort: the column to sort by, as the API names it.
        order: ``asc`` or ``desc``.
    """

    verdict: str = ""
    label: str = ""
    provenance: str = ""
    model: str = ""
    since: str = ""
    until: str = ""
    contains: str = ""
    zone: str = ""
    sort: str = ""
    order: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        """Read the filter from a query; unknown verdicts, labels and orders are ignored."""
        asked = {name: str(query.get(name, "")) for name in cls.__slots__}
        for name, known in _CHOICES.items():
            if asked[name] not in known:
                asked[name] = ""
        if asked["sort"] not in _COLUMNS or asked["order"] not in _DIRECTIONS:
            asked["sort"] = asked["order"] = ""
        if not (asked["since"] or asked["until"]):
            asked["zone"] = ""
        return cls(**asked)

    def api(self) -> dict[str, str]:
        """The filter as query parameters of the API.

        Raises:
            RequestInvalid: a day does not exist.
        """
        words = {name: getattr(self, name) for name in (*_CHOICES, "model", "contains")}
        for name, day, days in (("since", self.since, 0), ("until", self.until, 1)):
            words[name] = f"{self._midnight(day, days):%Y-%m-%dT%H:%M:%SZ}" if day else ""
        return {name: text for name, text in words.items() if text}

    def _midnight(self, day: str, days: int) -> datetime:
        """The moment at which a day begins for the reader, or so many days later."""
        try:
            start = date.fromisoformat(day) + timedelta(days=days)
            return datetime.combine(start, time.min, _zone_of(self.zone)).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise RequestInvalid(PROBLEMS["invalid_dates"]) from error

    def where(self, request: Request[Any, Any, Any]) -> HistoryFilter:
        """The filter, limited to the results that the caller may see.

        Raises:
            RequestInvalid: a day does not exist.
        """
        return HistoryFilter(
            verdict=Verdict(self.verdict) if self.verdict else None,
            label=LabelIs(self.label) if self.label else None,
            provenance=Says(self.provenance) if self.provenance else None,
            model=self.model or None,
            since=self._midnight(self.since, 0) if self.since else None,
            until=self._midnight(self.until, 1) if self.until else None,
            contains=self.contains or None,
            user_id=sees(request),
        )

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


class LabelForm(Struct):
    """What somebody says an image is, how they know it, and anything else."""

    label: str = ""
    source: str = ""
    note: str = ""


class HistoryPages(Controller):
    """The history and its results."""

    path = "/history"

    @get("/", guards=[allows(Scope.READ)])
    async def table(self, request: Request[Any, Any, Any], d3: D3) -> Template:
        """A page of the history, from the newest result or from a cursor."""
        asked = Asked.of(request.query_params)
        cursor = str(request.query_params.get("cursor", ""))
        where, order = asked.where(request), asked.sorting
        found = await d3.query(d3.history.page_after, where, _ROWS, cursor or None, order)
        counted = await d3.query(d3.history.page, where, 1)
        names = await model_names(d3)
        return page(
            request,
            d3,
            "history",
            headers=_address_bar(request, asked.query(cursor=cursor)),
            asked=asked,
            columns=asked.columns(),
            by_time=order == NEWEST_FIRST,
            entries=found.entries,
            total=counted.total,
            newest="" if not cursor else asked.query() or "all",
            older=asked.query(cursor=found.next_cursor) if found.next_cursor else "",
            here=asked.query(cursor=cursor),
            export=urlencode(asked.api()),
            models=names if asked.model in ("", *names) else [*names, asked.model],
            done=str(request.query_params.get("done", "")),
        )

    @get("/{result_id:str}", guards=[allows(Scope.READ)])
    async def result(
        self, request: Request[Any, Any, Any], d3: D3, result_id: FromPath[str]
    ) -> Template:
        """Everything recorded of one result, and what was said and found of the same image."""
        whose, number = sees(request), checked_id(result_id)
        entry = await d3.query(d3.history.get, number, whose)
        document = msgspec.json.format(
            msgspec.json.encode(OneResult(result=history_item(entry))), indent=2
        )
        others: Sequence[HistoryEntry] = ()
        if entry.image_sha256:
            same = HistoryFilter(image_sha256=entry.image_sha256, user_id=whose)
            others = (await d3.query(d3.history.page_after, same, _OTHERS + 1)).entries
        return page(
            request,
            d3,
            "result",
            entry=entry,
            views=views_of(entry),
            facts=facts_of(entry),
            document=document.decode(),
            explains=explains(d3),
            others=[one for one in others if one.id != entry.id][:_OTHERS],
            changes=await d3.query(_changes, d3, number, whose),
            done=str(request.query_params.get("done", "")),
        )

    @post("/{result_id:str}/label", status_code=200, guards=[allows(Scope.PREDICT)])
    async def label(
        self,
        request: Request[Any, Any, Any],
        d3: D3,
        result_id: FromPath[str],
        data: Annotated[LabelForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    ) -> Redirect:
        """Say what an image is, and redirect to its result."""
        number, whose = checked_id(result_id), sees(request, Scope.PREDICT)
        said = NewLabel(
            result_id=number,
            label=label_of(data.label),
            source=data.source.strip(),
            note=data.note.strip(),
        )
        by = caller_of(request).user_id
        await d3.query(d3.history.label, [said], d3.clock.now(), by, whose)
        return Redirect(f"{base_of(request)}history/{number}?done=label", status_code=303)

    @post("/selected", status_code=200, guards=[allows(Scope.PREDICT)])
    async def selected(
        self, request: Request[Any, Any, Any], d3: D3
    ) -> Template | Redirect | Response[bytes]:
        """Export, label or delete the selected results; deletion is asked for first."""
        whose = sees(request, Scope.PREDICT)
        sent = await request.form()
        action, back = str(sent.get("do", "")), str(sent.get("back", ""))
        ids = [checked_id(str(one)) for one in (sent.getall("only", []) or sent.getall("id", []))]
        back = _back_to(back)
        if not ids:
            return Redirect(f"{base_of(request)}history?{back}", status_code=303)
        if action in ("csv", "jsonl"):
            return await d3.query(_exported, d3, ids, whose, action)
        if action == "deleted":
            await d3.query(d3.history.delete_many, ids, whose)
            done = "delete" if len(ids) == 1 else "delete_many"
        elif action in set(Label):
            labels = [NewLabel(result_id=one, label=Label(action)) for one in ids]
            by = caller_of(request).user_id
            await d3.query(d3.history.label, labels, d3.clock.now(), by, whose)
            done = "label"
        else:
            first = await d3.query(d3.history.get, ids[0], whose)
            return confirm(
                request,
                d3,
                "delete" if len(ids) == 1 else "delete_many",
                name=first.image_name if len(ids) == 1 else str(len(ids)),
                back=f"history?{back}",
                fields=[("do", "deleted"), ("back", back), *(("id", str(one)) for one in ids)],
            )
        back = f"{back}&done={done}" if back else f"done={done}"
        return Redirect(f"{base_of(request)}history?{back}", status_code=303)


@dataclass(frozen=True, slots=True)
class Change:
    """Something that was said about an image.

    Attributes:
        change: what was said.
        username: who said it; empty without an account.
    """

    change: LabelChange
    username: str


def views_of(entry: HistoryEntry) -> list[float]:
    """The probability of each view; none if they were not recorded, or if there is one view."""
    if entry.views == 1:
        return []
    calibration = Calibration(entry.calibration_scale, entry.calibration_bias)
    return [calibration.probability(logit) for logit in entry.logits]


def _changes(d3: Services, number: int, whose: int | None) -> list[Change]:
    names = {user.id: user.username for user in d3.accounts.users()}
    return [
        Change(one, names.get(one.user_id, "") if one.user_id is not None else "")
        for one in d3.history.labels(number, whose)
    ]


def _exported(d3: Services, ids: Sequence[int], whose: int | None, ending: str) -> Response[bytes]:
    """The results of these ids that are there, as a file."""
    entries = []
    for one in ids:
        with suppress(ResultNotFound):
            entries.append(d3.history.get(one, whose))
    chunks = csv_chunks(entries) if ending == "csv" else json_lines_chunks(entries)
    return Response(
        b"".join(chunks),
        media_type="text/csv" if ending == "csv" else "application/jsonl",
        headers={"Content-Disposition": f'attachment; filename="d3-selected.{ending}"'},
    )


def _back_to(query: str) -> str:
    """A query of the history page, made anew: nothing else is led back to."""
    there = dict(parse_qsl(query))
    return Asked.of(there).query(cursor=there.get("cursor", ""))


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
        "device": entry.device or None,
        "libraries": entry.libraries or None,
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
