"""``/api/scans``: bulk scans in the background, with one row for each image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from litestar import Controller, delete, get, post
from litestar.params import Body, Parameter

from d3.domain.accounts import Scope
from d3.domain.errors import RequestInvalid, SourceRefused
from d3.domain.history import LARGEST_ID, MAX_PAGE
from d3.domain.models import checked_name
from d3.domain.ports.scans import ScanLedger
from d3.domain.scans import NAME_PATTERN, S3_SCHEME, Scan, ScanRow, new_scan_name
from d3.entrypoints.http.api import openapi
from d3.entrypoints.http.api.scan_schemas import (
    OneScan,
    ScanPage,
    ScanRequest,
    ScanResultPage,
    result_page,
    scan_item,
)
from d3.entrypoints.http.callers import requires
from d3.entrypoints.http.services import D3, Services
from d3.settings import Settings

Name = Annotated[
    str,
    Parameter(
        description="The `id` of the scan.",
        schema_extra={"pattern": f"^{NAME_PATTERN}$"},
    ),
]
Limit = Annotated[int, Parameter(ge=1, le=MAX_PAGE, description="Number of items per page.")]
Offset = Annotated[int, Parameter(ge=0, le=LARGEST_ID, description="Number of scans to skip.")]


class ScanController(Controller):
    """Bulk scans."""

    path = "/api/scans"
    tags = ("scans",)
    guards = (requires(Scope.ADMIN),)

    @post(
        "/",
        operation_id="startScan",
        operation_class=openapi.ScanOperation,
        status_code=200,
        summary="Scan a bucket",
        responses=openapi.problems(400, 401, 403, 404, 408, 409, 413, 422, 429, 503),
    )
    async def start(
        self,
        d3: D3,
        data: Annotated[ScanRequest, Body(description="What to scan, and how.")],
    ) -> OneScan:
        """Start to judge every image of a source. Answers at once and works in the background.

        The model is fixed when the scan starts. Scans run one after another, survive
        restarts of the service, and store one row for each image. The `id` of an existing scan
        continues that scan.
        """
        return OneScan(scan=scan_item(await start_scan(d3, data)))

    @get(
        "/",
        operation_id="listScans",
        operation_class=openapi.DescribedOperation,
        summary="List scans",
        responses=openapi.problems(400, 401, 403, 429, 503),
    )
    async def scans(self, d3: D3, limit: Limit = 50, offset: Offset = 0) -> ScanPage:
        """All scans, newest first, including those of `d3 scan`."""
        found = await d3.query(d3.scan_ledger.newest, limit, offset)
        return ScanPage(count=len(found), scans=[scan_item(one) for one in found])

    @get(
        "/{scan_id:str}",
        operation_id="getScan",
        operation_class=openapi.DescribedOperation,
        summary="Show the progress of a scan",
        responses=openapi.problems(400, 401, 403, 404, 429, 503),
    )
    async def scan(self, d3: D3, scan_id: Name) -> OneScan:
        """The progress of the scan and its counts."""
        return OneScan(scan=scan_item(await d3.query(d3.scan_ledger.get, scan_id)))

    @get(
        "/{scan_id:str}/results",
        operation_id="listScanResults",
        operation_class=openapi.DescribedOperation,
        summary="Page through a scan's images",
        responses=openapi.problems(400, 401, 403, 404, 429, 503),
    )
    async def results(
        self,
        d3: D3,
        scan_id: Name,
        limit: Limit = 50,
        cursor: Annotated[
            str | None,
            Parameter(max_length=2048, description="`next_cursor` of the previous page."),
        ] = None,
    ) -> ScanResultPage:
        """The results so far, by URI. `d3 scans export` writes all of them to a file."""
        after = storable_text(cursor)
        rows = await d3.query(_rows, d3.scan_ledger, scan_id, after, limit)
        return result_page(rows, limit)

    @delete(
        "/{scan_id:str}",
        operation_id="cancelScan",
        operation_class=openapi.DescribedOperation,
        status_code=200,
        summary="Cancel a scan",
        responses=openapi.problems(400, 401, 403, 404, 429, 503),
    )
    async def cancel(self, d3: D3, scan_id: Name) -> OneScan:
        """Cancel a scan. Workers stop when their shard is done. Finished results are kept.

        A scan that is done stays done. `POST /api/scans` with its `id` and source continues it.
        """
        return OneScan(scan=scan_item(await d3.query(d3.scans.cancel, scan_id)))


def _rows(ledger: ScanLedger, scan_id: str, after: str | None, limit: int) -> list[ScanRow]:
    return ledger.rows(ledger.get(scan_id).id, after=after, limit=limit)


async def start_scan(d3: Services, asked: ScanRequest) -> Scan:
    """Start or resume a scan in the background.

    Raises:
        D3Error: the source, the model or a number is not valid, or the scan was begun otherwise.
    """
    scan = await d3.run_slowly(_start, d3, asked)
    await d3.query(d3.background.wake_scans)
    return scan


def _start(d3: Services, asked: ScanRequest) -> Scan:
    source = checked_source(asked.source, d3.settings)
    name = checked_name(asked.model) if asked.model is not None else d3.host.chosen()
    return d3.scans.start(
        asked.id or new_scan_name(d3.clock.now()),
        source,
        d3.models.info(name),
        threshold=asked.threshold,
        views=asked.views,
    )


def checked_source(source: str, settings: Settings) -> str:
    """The source, if it is an S3 prefix, or a folder below ``D3_SCAN_FOLDER``.

    For other paths the error does not reveal whether they exist.
    """
    storable_text(source)
    if source.startswith(S3_SCHEME):
        if settings.minio_endpoint is None:
            raise RequestInvalid("This service has no S3 server.", "Set MINIO_ENDPOINT.")
        return source
    opened = settings.scan_folder
    if opened is not None:
        folder, wanted = opened.resolve(), Path(source).resolve()
        if Path(source).is_absolute() and wanted.is_relative_to(folder):
            if wanted.is_dir():
                return str(wanted)
            raise RequestInvalid("There is no such folder.", "Name a folder, not a file.")
    raise SourceRefused(
        "Callers may not scan this source.",
        "Use s3://BUCKET/PREFIX, or the absolute path of a folder inside D3_SCAN_FOLDER.",
    )


def storable_text(text: str | None) -> str | None:
    """The text, if a database can be asked for it.

    Raises:
        RequestInvalid: it contains a NUL character.
    """
    if text is not None and "\0" in text:
        raise RequestInvalid("The name contains a NUL character.", "Remove it.")
    return text
