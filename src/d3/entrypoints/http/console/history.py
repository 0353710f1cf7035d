"""The history: a table to filter, to page through, and to work on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from litestar import Controller, Request, get, post
from litestar.response import Redirect, Response, Template

from d3.domain.accounts import Scope
from d3.domain.errors import ResultNotFound
from d3.domain.history import HistoryEntry
from d3.domain.labels import Label, NewLabel
from d3.domain.ordering import NEWEST_FIRST
from d3.domain.services.export import csv_chunks, json_lines_chunks
from d3.entrypoints.http.api.history import checked_id, sees
from d3.entrypoints.http.api.labels import keep_labels
from d3.entrypoints.http.console.filters import Asked
from d3.entrypoints.http.console.guards import allows, check_allowed
from d3.entrypoints.http.console.models import model_names
from d3.entrypoints.http.console.rendering import base_of, confirm, page
from d3.entrypoints.http.console.texts import PROBLEMS
from d3.entrypoints.http.services import D3, Services

_ROWS = 50
_MOST_BYTES = 64 * 1024
_ENDINGS = ("csv", "jsonl")
_COUNT = re.compile("[0-9]{1,9}", re.ASCII)


class HistoryPages(Controller):
    """The table."""

    path = "/history"

    @get("/", guards=[allows(Scope.READ)])
    async def table(self, request: Request[Any, Any, Any], d3: D3) -> Template:
        """A page of the history, from the newest result or from a cursor."""
        asked = Asked.of(request.query_params)
        cursor = str(request.query_params.get("cursor", ""))
        where, order = asked.where(request), asked.sorting
        found = await d3.query(d3.history.page_after, where, _ROWS, cursor or None, order)
        counted = await d3.query(d3.history.page, where, 1)
        return page(
            request,
            d3,
            "history",
            headers=_address_bar(request, asked.query(cursor=cursor)),
            asked=asked,
            panels=len(d3.settings.panel) > 1 or asked.disagree,
            columns=asked.columns(),
            by_time=order == NEWEST_FIRST,
            entries=found.entries,
            total=counted.total,
            newest="" if not cursor else asked.query() or "all",
            older=asked.query(cursor=found.next_cursor) if found.next_cursor else "",
            here=asked.query(cursor=cursor),
            export=urlencode(asked.api()),
            models=await model_names(d3, asked.model),
            done=str(request.query_params.get("done", "")),
            counts={name: _number(request, name) for name in ("count", "all")},
        )

    @post("/selected", status_code=200, request_max_body_size=_MOST_BYTES)
    async def selected(self, request: Request[Any, Any, Any], d3: D3) -> Redirect | Response[bytes]:
        """Export or label the selected results, or redirect to the question whether to delete."""
        sent = await request.form()
        action, back = str(sent.get("do", "")), _back_to(str(sent.get("back", "")))
        scope = Scope.READ if action in _ENDINGS else Scope.PREDICT
        await check_allowed(request, scope)
        whose = sees(request, scope)
        ids = [checked_id(str(one)) for one in (sent.getall("only", []) or sent.getall("id", []))]
        if not ids:
            return _return(request, back, done="none_selected")
        if action in _ENDINGS:
            return await d3.query(_exported, d3, ids, whose, action)
        if action in set(Label):
            labels = [NewLabel(result_id=one, label=Label(action)) for one in ids]
            await keep_labels(request, d3, labels, whose)
            return _return(request, back, done="label")
        asked = urlencode([*(("id", one) for one in ids), ("back", back)])
        return Redirect(f"{base_of(request)}history/delete?{asked}", status_code=303)

    @get("/delete", guards=[allows(Scope.PREDICT)])
    async def ask_delete(self, request: Request[Any, Any, Any], d3: D3) -> Template:
        """Ask whether to delete results."""
        asked = [checked_id(one) for one in request.query_params.getall("id", [])]
        back = _back_to(str(request.query_params.get("back", "")))
        found = await d3.query(_entries, d3, asked, sees(request, Scope.PREDICT))
        if not found:
            raise ResultNotFound(PROBLEMS["result_not_found"])
        single = len(found) == 1
        return confirm(
            request,
            d3,
            "delete" if single else "delete_many",
            name=found[0].image_name if single else f"{len(found):,}",
            back=f"history?{back}" if back else "history",
            fields=[("back", back), *(("id", str(one.id)) for one in found)],
        )

    @post(
        "/delete",
        status_code=200,
        request_max_body_size=_MOST_BYTES,
        guards=[allows(Scope.PREDICT)],
    )
    async def delete(self, request: Request[Any, Any, Any], d3: D3) -> Redirect:
        """Delete results, and say how many were there."""
        sent = await request.form()
        ids = {checked_id(str(one)) for one in sent.getall("id", [])}
        missing = await d3.query(d3.history.delete_many, ids, sees(request, Scope.PREDICT))
        count = len(ids) - len(missing)
        done = "delete_none"
        if count:
            done = "delete_some" if missing else "delete" if count == 1 else "delete_many"
        counts = {"count": str(count), "all": str(len(ids))} if count and len(ids) > 1 else {}
        return _return(request, _back_to(str(sent.get("back", ""))), done=done, **counts)


def _return(request: Request[Any, Any, Any], back: str, **said: str) -> Redirect:
    """To the page that the form was on, with what to say there."""
    query = "&".join(part for part in (back, urlencode(said)) if part)
    return Redirect(f"{base_of(request)}history?{query}", status_code=303)


def _number(request: Request[Any, Any, Any], name: str) -> str:
    text = str(request.query_params.get(name, ""))
    return f"{int(text):,}" if _COUNT.fullmatch(text) else "0"


def _entries(d3: Services, ids: Sequence[int], whose: int | None) -> list[HistoryEntry]:
    """The results of these ids that are there."""
    entries = []
    for one in ids:
        with suppress(ResultNotFound):
            entries.append(d3.history.get(one, whose))
    return entries


def _exported(d3: Services, ids: Sequence[int], whose: int | None, ending: str) -> Response[bytes]:
    entries = _entries(d3, ids, whose)
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


def _address_bar(request: Request[Any, Any, Any], wanted: str) -> dict[str, str]:
    """The URL that htmx shows in the address bar, so that the browser's Back works."""
    current = request.headers.get("hx-current-url")
    if current is None:
        return {}
    there = dict(parse_qsl(urlsplit(current).query))
    for said in ("done", "count", "all"):
        there.pop(said, None)
    if there == dict(parse_qsl(wanted)):
        return {"HX-Push-Url": "false"}
    return {"HX-Push-Url": f"{base_of(request)}history{'?' if wanted else ''}{wanted}"}
