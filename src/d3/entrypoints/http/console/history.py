"""The history: a table to filter, to page through, and to work on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from litestar import Controller, Request, get, post
from litestar.response import Redirect, Response, Template

from d3.domain.accounts import Scope
from d3.domain.errors import ResultNotFound
from d3.domain.labels import Label, NewLabel
from d3.domain.ordering import NEWEST_FIRST
from d3.domain.services.export import csv_chunks, json_lines_chunks
from d3.entrypoints.http.api.history import checked_id, sees
from d3.entrypoints.http.callers import caller_of
from d3.entrypoints.http.console.filters import Asked
from d3.entrypoints.http.console.guards import allows
from d3.entrypoints.http.console.models import model_names
from d3.entrypoints.http.console.rendering import base_of, confirm, page
from d3.entrypoints.http.services import D3, Services

_ROWS = 50
_MOST_BYTES = 64 * 1024


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
        )

    @post(
        "/selected",
        status_code=200,
        request_max_body_size=_MOST_BYTES,
        guards=[allows(Scope.PREDICT)],
    )
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
