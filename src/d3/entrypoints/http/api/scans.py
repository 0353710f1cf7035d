"""``/api/scans``: bulk scans in the background, with one row for each image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from litestar import Controller, delete, get, post
from litestar.params import Body, Parameter

from d3.domain.accounts import Scope
from d3.domain.errors import ModelNotFound, RequestInvalid, SourceRefused
from d3.domain.history import LARGEST_ID, MAX_PAGE
from d3.domain.models import Manifest, checked_name
from d3.domain.panels import PanelRule, panel_named
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

        The model, or the panel, is fixed when the scan starts: a member that is missing is an
        error, so that all rows can be compared. Scans run one after another, survive
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
        disagree: Annotated[
            bool | None,
            Parameter(
                description="Only images on which models of the panel contradict each other "
                "(`true`), or on which they do not (`false`)."
            ),
        ] = None,
    ) -> ScanResultPage:
        """The results so far, by URI. `d3 scans export` writes all of them to a file."""
        after = storable_text(cursor)
        rows = await d3.query(_rows, d3.scan_ledger, scan_id, after, disagree, limit)
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


def _rows(
    ledger: ScanLedger,
    scan_id: str,
    after: str | None,
    disagree: bool | None,  # noqa: FBT001  as it is queried
    limit: int,
) -> list[ScanRow]:
    return ledger.rows(ledger.get(scan_id).id, after=after, disagree=disagree, limit=limit)


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
    known = d3.scans.find(asked.id) if asked.id is not None else None
    chief, *others = _members(d3, asked, known)
    rule = asked.panel_rule
    if rule is None and known is None:
        rule = PanelRule(d3.settings.panel_rule)
    return d3.scans.start(
        asked.id or new_scan_name(d3.clock.now()),
        source,
        chief,
        threshold=asked.threshold,
        views=asked.views,
        others=others,
        rule=rule,
        stability=asked.stability,
        video=asked.video,
    )


def _members(d3: Services, asked: ScanRequest, known: Scan | None) -> list[Manifest]:
    """The models that judge, the chief first; a scan that was begun keeps its versions.

    Raises:
        RequestInvalid: both a model and a panel are named.
        ModelNotFound: one is not there.
    """
    versions = {} if known is None else {one.name: one.version for one in known.members}
    names = _names(d3, asked, known)
    try:
        return [d3.models.info(one, versions.get(one)) for one in names]
    except ModelNotFound as error:
        if names is not d3.settings.panel:
            raise
        raise ModelNotFound(
            f"{error.problem} It belongs to this service's panel, D3_PANEL.",
            "Have it there, or send `panel` or `model` to name others.",
        ) from error


def _names(d3: Services, asked: ScanRequest, known: Scan | None) -> Sequence[str]:
    if (panel := panel_named(asked.panel or "")) is not None:
        if asked.model is not None:
            raise RequestInvalid("`panel` names all models, the chief first.", "Leave `model` out.")
        return panel
    if known is not None and (known.panel or asked.model is None):
        chief, *others = (one.name for one in known.members)
        return [chief if asked.model is None else checked_name(asked.model), *others]
    if asked.model is not None:
        return [checked_name(asked.model)]
    return d3.settings.panel or [d3.host.chosen()]


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
