"""Bulk scans: start one, follow it, look at its images, export, cancel and delete."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

import msgspec
from litestar import Controller, Request, get, post
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Response, Stream, Template

from d3.domain.accounts import Scope
from d3.domain.errors import D3Error, RequestInvalid, ScanRunning
from d3.domain.panels import PanelRule
from d3.domain.scans import Scan, ScanState, stored_uri
from d3.entrypoints.http.api.scan_schemas import ScanRequest
from d3.entrypoints.http.api.scans import checked_source, start_scan, storable_text
from d3.entrypoints.http.console.guards import allows
from d3.entrypoints.http.console.models import model_names
from d3.entrypoints.http.console.problems import refusal
from d3.entrypoints.http.console.rendering import base_of, confirm, page
from d3.entrypoints.http.console.texts import TEXTS
from d3.entrypoints.http.services import D3, Services
from d3.evaluation.scans import chunks_of, rows_of

_MOST = 50
_ROWS = 100
_MOST_BYTES = 16 * 1024
_KINDS = ("fake", "real", "uncertain", "error")
_DISAGREE = "disagree"
_PICTURE_SIDE = 96
_KEPT = {"Cache-Control": "private, max-age=3600"}
_MEDIA = {"csv": "text/csv", "jsonl": "application/jsonl"}


@dataclass(frozen=True, slots=True)
class ScanForm:
    """The form for a new scan, as typed. Empty fields have the model's or the scan's default."""

    source: str = ""
    id: str = ""
    model: str = ""
    threshold: str = ""
    views: str = ""
    panel: str = ""
    panel_rule: str = ""
    stability: str = ""

    @classmethod
    async def of(cls, request: Request[Any, Any, Any]) -> ScanForm:
        """Read the form from a request's body."""
        sent = await request.form()
        return cls(**{one.name: str(sent.get(one.name, "")).strip() for one in fields(cls)})

    def asked(self) -> ScanRequest:
        """What the API would be asked for.

        Raises:
            RequestInvalid: a field is not valid.
        """
        given = {one.name: text for one in fields(self) if (text := getattr(self, one.name))}
        try:
            return msgspec.convert(given, ScanRequest, strict=False)
        except msgspec.ValidationError as error:
            field = next((name for name in given if f"$.{name}" in str(error)), "source")
            raise RequestInvalid(getattr(TEXTS.scan_field, field)) from error


class ScanPages(Controller):
    """Scans."""

    path = "/scans"
    guards = (allows(Scope.ADMIN),)

    @get("/")
    async def scans(self, request: Request[Any, Any, Any], d3: D3) -> Template:
        """The newest scans. The page reloads the list while a scan is running."""
        return await _page(request, d3, done=str(request.query_params.get("done", "")))

    @post("/", status_code=200, request_max_body_size=_MOST_BYTES)
    async def start(self, request: Request[Any, Any, Any], d3: D3) -> Template | Redirect:
        """Start a scan and redirect to its page."""
        form = await ScanForm.of(request)
        try:
            scan = await start_scan(d3, form.asked())
        except D3Error as error:
            return await _page(request, d3, form=form, **refusal(request, error))
        return Redirect(f"{base_of(request)}scans/{scan.name}", status_code=303)

    @get("/{name:str}")
    async def scan(self, request: Request[Any, Any, Any], d3: D3, name: FromPath[str]) -> Template:
        """One scan: how far it is, and its images from the first or from a cursor.

        The page asks for itself while the scan is running, and is reloaded when it is over.
        """
        return await _one(request, d3, name)

    @get([f"/{{name:str}}/rows.{form}" for form in _MEDIA])
    async def export(self, request: Request[Any, Any, Any], d3: D3, name: FromPath[str]) -> Stream:
        """The scan's rows as a file."""
        form = request.scope["path"].rpartition(".")[2]
        scan = await d3.query(d3.scan_ledger.get, name)
        rows = rows_of(d3.scan_ledger, scan.id, **_where(_kind(request)))
        chunks = chunks_of(rows, form)

        async def lines() -> AsyncIterator[bytes]:
            while chunk := await d3.query(next, chunks, b""):
                yield chunk

        called = f'attachment; filename="{scan.name}.{form}"'
        headers = {"Content-Disposition": called}
        return Stream(lines(), media_type=_MEDIA[form], headers=headers)

    @get("/{name:str}/picture")
    async def picture(self, d3: D3, name: FromPath[str], uri: FromQuery[str]) -> Response[bytes]:
        """One of the scan's images, small, from where it is stored."""
        scan = await d3.query(d3.scan_ledger.get, name)
        content = await d3.run_slowly(_picture, d3, scan, storable_text(uri) or "")
        return Response(content, media_type="image/png", headers=_KEPT)

    @get(["/{name:str}/cancel", "/{name:str}/delete"])
    async def ask(self, request: Request[Any, Any, Any], d3: D3, name: FromPath[str]) -> Template:
        """Ask whether to cancel or to delete a scan."""
        deed = request.scope["path"].rpartition("/")[2]
        await d3.query(d3.scan_ledger.get, name)
        return confirm(request, d3, f"scan_{deed}", name=name, back=f"scans/{name}")

    @post("/{name:str}/cancel", status_code=200)
    async def cancel(
        self, request: Request[Any, Any, Any], d3: D3, name: FromPath[str]
    ) -> Redirect:
        """Cancel a scan. Its workers stop after their current shard."""
        found = await d3.query(d3.scans.cancel, name)
        done = f"scan_{found.state.value}"
        return Redirect(f"{base_of(request)}scans/{name}?done={done}", status_code=303)

    @post("/{name:str}/continue", status_code=200)
    async def resume(
        self, request: Request[Any, Any, Any], d3: D3, name: FromPath[str]
    ) -> Template | Redirect:
        """Continue a cancelled scan with its own source and model."""
        scan = await d3.query(d3.scan_ledger.get, name)
        asked = ScanRequest(source=scan.source, id=scan.name, model=scan.model.name)
        try:
            await start_scan(d3, asked)
        except D3Error as error:
            return await _one(request, d3, name, **refusal(request, error))
        return Redirect(f"{base_of(request)}scans/{name}?done=scan_running", status_code=303)

    @post("/{name:str}/delete", status_code=200)
    async def delete(
        self, request: Request[Any, Any, Any], d3: D3, name: FromPath[str]
    ) -> Redirect:
        """Delete a scan that is over, with its rows."""
        try:
            await d3.run_slowly(d3.scans.remove, name)
        except ScanRunning:
            return Redirect(f"{base_of(request)}scans/{name}?done=scan_busy", status_code=303)
        return Redirect(f"{base_of(request)}scans?done=scan_deleted", status_code=303)


async def _one(
    request: Request[Any, Any, Any],
    d3: Services,
    name: str,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    sentence: str = "",
) -> Template:
    scan = await d3.query(d3.scan_ledger.get, name)
    kind, after = _kind(request), str(request.query_params.get("after", ""))
    found = await d3.query(
        d3.scan_ledger.rows,
        scan.id,
        after=storable_text(after) or None,
        limit=_ROWS + 1,
        **_where(kind),
    )
    rows = found[:_ROWS]
    done = str(request.query_params.get("done", ""))
    if done.removeprefix("scan_") in set(ScanState) - {scan.state}:
        done = ""  # it was true when the page was first shown
    if scan.state is not ScanState.RUNNING and "hx-request" in request.headers:
        headers = {"HX-Refresh": "true"}
    return page(
        request,
        d3,
        "scan",
        status=status,
        headers=headers,
        sentence=sentence,
        scan=_shown(scan),
        pictures=await d3.query(_has_pictures, d3, scan),
        kinds=(*_KINDS, _DISAGREE) if scan.panel else _KINDS,
        kind=kind,
        rows=rows,
        first=not after,
        asked=_query(kind=kind, after=after),
        older=_query(kind=kind, after=rows[-1].uri) if len(found) > _ROWS else "",
        done=done,
    )


def _query(**words: str) -> str:
    return urlencode({name: text for name, text in words.items() if text})


def _kind(request: Request[Any, Any, Any]) -> str:
    kind = str(request.query_params.get("kind", ""))
    return kind if kind in {*_KINDS, _DISAGREE} else ""


def _where(kind: str) -> dict[str, Any]:
    """The rows of this kind, as the ledger is asked for them."""
    return {"disagree": True} if kind == _DISAGREE else {"kind": kind or None}


def _picture(d3: Services, scan: Scan, uri: str) -> bytes:
    checked_source(scan.source, d3.settings)  # of other scans too, only what callers may read
    content: bytes = d3.encode_png(d3.scans.picture(scan, uri, _PICTURE_SIDE), {})
    return content


def _has_pictures(d3: Services, scan: Scan) -> bool:
    """Whether its images may be read from here; each of them may have gone since."""
    try:
        checked_source(scan.source, d3.settings)
    except D3Error:
        return False
    return True


def _shown(scan: Scan) -> Scan:
    return replace(scan, source=stored_uri(scan.source))


async def _page(
    request: Request[Any, Any, Any],
    d3: Services,
    *,
    form: ScanForm = ScanForm(),
    status: int = 200,
    headers: dict[str, str] | None = None,
    sentence: str = "",
    done: str = "",
) -> Template:
    found = await d3.query(d3.scan_ledger.newest, _MOST)
    return page(
        request,
        d3,
        "scans",
        status=status,
        headers=headers,
        sentence=sentence,
        form=form,
        models=await model_names(d3),
        rules=[one.value for one in PanelRule],
        on_s3=d3.settings.minio_endpoint is not None,
        folder=d3.settings.scan_folder,
        scans=[_shown(one) for one in found],
        running=any(one.state is ScanState.RUNNING for one in found),
        done=done,
    )
