"""Bulk scans: their progress, and cancelling them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from litestar import Controller, Request, get, post
from litestar.params import FromPath
from litestar.response import Redirect, Template

from d3.domain.scans import ScanState, stored_uri
from d3.entrypoints.http.console.keys import administrators
from d3.entrypoints.http.console.rendering import base_of, page
from d3.entrypoints.http.services import D3

_MOST = 50


class ScanPages(Controller):
    """Scans."""

    path = "/scans"
    guards = (administrators,)

    @get("/")
    async def scans(self, request: Request[Any, Any, Any], d3: D3) -> Template:
        """The newest scans. The page reloads the list while a scan is running."""
        found = await d3.query(d3.scan_ledger.newest, _MOST)
        return page(
            request,
            d3,
            "scans",
            scans=[replace(one, source=stored_uri(one.source)) for one in found],
            running=any(one.state is ScanState.RUNNING for one in found),
            done=str(request.query_params.get("done", "")),
        )

    @post("/{name:str}/cancel", status_code=200)
    async def cancel(
        self, request: Request[Any, Any, Any], d3: D3, name: FromPath[str]
    ) -> Redirect:
        """Cancel a scan. Its workers stop after their current shard."""
        found = await d3.query(d3.scans.cancel, name)
        done = f"scan_{found.state.value}"
        return Redirect(f"{base_of(request)}scans?done={done}", status_code=303)
