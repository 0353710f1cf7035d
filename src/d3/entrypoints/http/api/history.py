"""``/api/inference``: the history of results, its statistics and exports."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, delete, get, post
from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.params import Body, Parameter
from litestar.response import Stream

from d3.domain.accounts import Scope
from d3.domain.errors import RequestInvalid, ResultNotFound
from d3.domain.history import (
    LARGEST_ID,
    MAX_PAGE,
    BucketSize,
    GroupBy,
    HistoryEntry,
    HistoryFilter,
)
from d3.domain.labels import LabelIs
from d3.domain.ordering import Order, SortKey
from d3.domain.provenance import Says
from d3.domain.scoring import Verdict
from d3.domain.services.export import csv_chunks, json_lines_chunks
from d3.entrypoints.http.api import openapi
from d3.entrypoints.http.api.schemas import (
    BulkDeleteRequest,
    Deleted,
    Done,
    HistoryPage,
    OneResult,
    Stats,
    history_item,
    stats_of,
)
from d3.entrypoints.http.callers import caller_of
from d3.entrypoints.http.services import D3

_ID = re.compile(r"[1-9][0-9]{0,18}")
_SHA256 = re.compile(r"^[0-9a-fA-F]{64}$")

Limit = Annotated[int, Parameter(ge=1, le=MAX_PAGE, description="Number of results per page.")]
Offset = Annotated[int, Parameter(ge=0, le=LARGEST_ID, description="Number of results to skip.")]
Cursor = Annotated[
    str | None,
    Parameter(
        max_length=2048,
        description="`next_cursor` of the previous page, or empty for the first page. Paging stays "
        "correct while new results arrive. Overrides `offset`.",
    ),
]
Sort = Annotated[
    SortKey,
    Parameter(description="Field to sort by. Equal results are sorted by `created_at`, then `id`."),
]
Direction = Annotated[
    Literal["asc", "desc"], Parameter(description="`desc` puts the newest or largest first.")
]
IsFake = Annotated[
    bool | None,
    Parameter(
        description="Only results with this `is_fake`, whatever their verdict. Use `verdict` to "
        "filter by verdict."
    ),
]
ModelName = Annotated[
    str | None, Parameter(max_length=100, description="Only results of this model.")
]
_A_TIME = {"format": "date-time"}
Since = Annotated[
    str | None,
    Parameter(
        description="Only images judged at this time or later. Needs a time zone.",
        schema_extra=_A_TIME,
    ),
]
Until = Annotated[
    str | None,
    Parameter(
        description="Only images judged before this time. Needs a time zone.", schema_extra=_A_TIME
    ),
]
Q = Annotated[
    str | None, Parameter(max_length=255, description="Only images whose name starts with this.")
]
Contains = Annotated[
    str | None,
    Parameter(
        max_length=255,
        description="Only images whose name contains this, in upper or lower case.",
    ),
]
LabelFilter = Annotated[
    LabelIs | None,
    Parameter(description="Only results with this label. `none`: only results without a label."),
]
ProvenanceFilter = Annotated[
    Says | None, Parameter(description="Only images whose file says this of itself.")
]
ImageSha256 = Annotated[
    str | None,
    Parameter(
        description="Only results of the file with this SHA-256.",
        schema_extra={"pattern": _SHA256.pattern},
    ),
]
Disagree = Annotated[
    bool | None,
    Parameter(
        description="Only results of panels: `true` where one model says fake and another real, "
        "`false` where none contradicts another."
    ),
]
VerdictIs = Annotated[Verdict | None, Parameter(description="Only results with this verdict.")]
ResultId = Annotated[
    str, Parameter(description="The `id` of the result.", schema_extra={"pattern": _ID.pattern})
]


def provide_filter(  # noqa: PLR0917  a query's parameters, one by one
    request: Request[Any, Any, Any],
    is_fake: IsFake = None,
    model: ModelName = None,
    since: Since = None,
    until: Until = None,
    q: Q = None,
    verdict: VerdictIs = None,
    label: LabelFilter = None,
    provenance: ProvenanceFilter = None,
    contains: Contains = None,
    image_sha256: ImageSha256 = None,
    disagree: Disagree = None,
) -> HistoryFilter:
    """The filter from the query, limited to the results that the caller may see.

    Raises:
        AccessForbidden: the caller may read none.
        RequestInvalid: a time without a zone, or a SHA-256 that is none.
    """
    if image_sha256 is not None and not _SHA256.fullmatch(image_sha256):
        raise RequestInvalid(
            "`image_sha256` is not a SHA-256.", "Use the 64 hexadecimal digits of a result."
        )
    try:
        return HistoryFilter(
            is_fake=is_fake,
            model=model,
            since=_time(since),
            until=_time(until),
            q=q,
            verdict=verdict,
            user_id=sees(request),
            label=label,
            provenance=provenance,
            contains=contains,
            image_sha256=image_sha256,
            disagree=disagree,
        )
    except (ValueError, OverflowError) as error:
        raise RequestInvalid(
            "`since` and `until` need a time zone.",
            "Write 2026-01-31T12:00:00Z. In a URL, write + as %2B.",
        ) from error


def sees(request: Request[Any, Any, Any], scope: Scope = Scope.READ) -> int | None:
    """Whose results the caller may see: a user's id, or None for all."""
    caller = caller_of(request)
    caller.check(scope)
    return caller.sees


def _time(text: str | None) -> datetime | None:
    """A time as in RFC 3339. The framework would also take numbers for times."""
    return msgspec.convert(text, datetime) if text is not None else None


def _export(
    form: Callable[[Iterable[HistoryEntry]], Iterator[bytes]],
    ending: str,
    name: str,
    media_type: str,
    shape: str,
) -> HTTPRouteHandler:
    """A handler that exports the matching results in one format."""

    @get(
        f"/history.{ending}",
        operation_id=f"exportHistory{name.title().replace(' ', '')}",
        operation_class=openapi.TextOperation,
        summary=f"Export the filtered history as {name}",
        description=f"Every result that matches, newest first, {shape}.",
        responses=openapi.problems(400, 401, 403, 429, 503),
        media_type=media_type,
    )
    async def export(_: Controller, d3: D3, where: NamedDependency[HistoryFilter]) -> Stream:
        async def lines() -> AsyncIterator[bytes]:
            chunks = form(d3.history.iterate(where))
            while chunk := await d3.query(next, chunks, b""):
                yield chunk

        disposition = {"Content-Disposition": f'attachment; filename="d3-history.{ending}"'}
        return Stream(lines(), media_type=media_type, headers=disposition)

    return export


class HistoryController(Controller):
    """The history of results."""

    path = "/api/inference"
    tags = ("history",)
    dependencies = {"where": Provide(provide_filter, sync_to_thread=False)}  # noqa: RUF012

    @get(
        "/history",
        operation_id="listHistory",
        operation_class=openapi.DescribedOperation,
        summary="Page through the history",
        responses=openapi.problems(400, 401, 403, 429, 503),
    )
    async def page(  # noqa: PLR0917  a query's parameters, one by one
        self,
        d3: D3,
        where: NamedDependency[HistoryFilter],
        limit: Limit = 50,
        offset: Offset = 0,
        cursor: Cursor = None,
        sort: Sort = SortKey.CREATED_AT,
        order: Direction = "desc",
    ) -> HistoryPage:
        """Results, newest first by default. Page by offset (with a total) or by cursor."""
        by = Order(sort, descending=order == "desc")
        if cursor is not None:
            after = await d3.query(d3.history.page_after, where, limit, cursor or None, by)
            items = [history_item(entry) for entry in after.entries]
            return HistoryPage(count=len(items), next_cursor=after.next_cursor, results=items)
        page = await d3.query(d3.history.page, where, limit, offset, by)
        items = [history_item(entry) for entry in page.entries]
        return HistoryPage(count=len(items), total=page.total, results=items)

    export_csv = _export(csv_chunks, "csv", "CSV", "text/csv", "one row per result")
    export_jsonl = _export(
        json_lines_chunks, "jsonl", "JSON lines", "application/jsonl", "one object per line"
    )

    @get(
        "/result/{result_id:str}",
        operation_id="getResult",
        operation_class=openapi.DescribedOperation,
        summary="Get one result",
        responses=openapi.problems(400, 401, 403, 404, 429, 503),
    )
    async def result(
        self, request: Request[Any, Any, Any], d3: D3, result_id: ResultId
    ) -> OneResult:
        """The result with this id. Without the scope `admin`, only your own results are found."""
        whose = sees(request)
        entry = await d3.query(d3.history.get, checked_id(result_id), whose)
        return OneResult(result=history_item(entry))

    @delete(
        "/result/{result_id:str}",
        operation_id="deleteResult",
        operation_class=openapi.DescribedOperation,
        summary="Delete one result",
        status_code=200,
        responses=openapi.problems(400, 401, 403, 404, 429, 503),
    )
    async def remove(self, request: Request[Any, Any, Any], d3: D3, result_id: ResultId) -> Done:
        """Permanently delete the result with this id. A key with only the scope `read` may not."""
        whose = sees(request, Scope.PREDICT)
        await d3.query(d3.history.delete, checked_id(result_id), whose)
        return Done(message="Result deleted successfully")

    @post(
        "/results/delete",
        operation_id="deleteResults",
        operation_class=openapi.DescribedOperation,
        summary="Delete many results",
        status_code=200,
        responses=openapi.problems(400, 401, 403, 408, 413, 429, 503),
    )
    async def remove_many(
        self,
        request: Request[Any, Any, Any],
        d3: D3,
        data: Annotated[BulkDeleteRequest, Body(description="Which results.")],
    ) -> Deleted:
        """Permanently delete up to 1,000 results at once.

        Results that are not there, or not yours, are named in ``missing``; the others go all or
        none.
        """
        whose = sees(request, Scope.PREDICT)
        ids = set(data.ids)
        missing = await d3.query(d3.history.delete_many, ids, whose)
        return Deleted(count=len(ids) - len(missing), missing=missing)

    @get(
        "/stats",
        operation_id="getStatistics",
        operation_class=openapi.DescribedOperation,
        summary="Count results",
        responses=openapi.problems(400, 401, 403, 429, 503),
    )
    async def stats(
        self,
        d3: D3,
        where: NamedDependency[HistoryFilter],
        bucket: Annotated[
            Literal["day", "hour"] | None,
            Parameter(description="Adds a `series` per hour or day, in UTC."),
        ] = None,
        group: Annotated[
            GroupBy | None,
            Parameter(
                description="Adds `groups`: totals per model, label, provenance or agreement."
            ),
        ] = None,
    ) -> Stats:
        """Totals, and with ``bucket`` or ``group`` also totals per hour, day or group."""
        size = BucketSize(bucket) if bucket is not None else None
        counts = await d3.query(d3.history.statistics, where, size)
        groups = None if group is None else await d3.query(d3.history.breakdown, where, group)
        return Stats(stats=stats_of(counts, groups))


def checked_id(text: str) -> int:
    """A result's id from the URL.

    Raises:
        ResultNotFound: no result ever had it.
    """
    if not _ID.fullmatch(text) or int(text) > LARGEST_ID:
        raise ResultNotFound(
            "There is no result with this id.", "GET /api/inference/history lists all results."
        )
    return int(text)
