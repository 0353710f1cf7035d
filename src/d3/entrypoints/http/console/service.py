"""The service: its health, its limits and its API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from litestar import Controller, Request, get
from litestar.response import Template

from d3.domain.accounts import Scope
from d3.entrypoints.http.api.health import readiness
from d3.entrypoints.http.console.guards import allows
from d3.entrypoints.http.console.rendering import page
from d3.entrypoints.http.services import D3


class ServicePages(Controller):
    """Health and settings."""

    path = "/service"
    guards = (allows(Scope.READ),)

    @get("/")
    async def service(self, request: Request[Any, Any, Any], d3: D3) -> Template:
        """The page."""
        found = await readiness(d3)
        return page(
            request,
            d3,
            "service",
            readiness=found,
            settings=d3.settings,
            database_kind="SQLite" if isinstance(d3.settings.database, Path) else "PostgreSQL",
            on_s3=bool(d3.settings.minio_endpoint),
        )
