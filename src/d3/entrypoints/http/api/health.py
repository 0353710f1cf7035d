"""``/health`` and ``/metrics``: the state of the service."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Controller, MediaType, Response, get
from litestar.openapi import ResponseSpec

from d3.domain.accounts import Scope
from d3.entrypoints.http.api import openapi
from d3.entrypoints.http.api.schemas import Health, Readiness
from d3.entrypoints.http.callers import requires
from d3.entrypoints.http.services import D3, Services


class HealthController(Controller):
    """The state of the service."""

    tags = ("health",)

    @get(
        "/health",
        operation_id="getHealth",
        operation_class=openapi.DescribedOperation,
        summary="Show the health of the service",
        responses=openapi.problems(400),
    )
    async def health(self, d3: D3) -> Health:
        """Answers 200 while the process is running."""
        model = d3.host.loaded()
        return Health(
            status="healthy",
            model_loaded=model is not None,
            device=model.queue.detector.device if model else "none",
            version=d3.version,
        )

    @get(
        "/health/live",
        operation_id="getLiveness",
        operation_class=openapi.DescribedOperation,
        summary="Show that the process is running",
        responses=openapi.problems(400),
    )
    async def live(self, d3: D3) -> Health:
        """The same as ``/health``, at the address that orchestrators expect."""
        return await self.health.fn(self, d3)  # type: ignore[no-any-return]

    @get(
        "/health/ready",
        operation_id="getReadiness",
        operation_class=openapi.DescribedOperation,
        summary="Show whether requests can be answered",
        responses=openapi.problems(400)
        | {503: ResponseSpec(Readiness, description="Not ready", generate_examples=False)},
    )
    async def ready(self, d3: D3) -> Response[Readiness]:
        """Answers 200 if they can, else 503. Both name what is missing.

        The other members of a panel, the model store and the result cache are named too, but images
        can be judged without them, so they do not make the service unready.
        """
        found = await readiness(d3)
        return Response(found, status_code=200 if found.ready else 503)

    @get(
        "/metrics",
        operation_id="getMetrics",
        operation_class=openapi.TextOperation,
        guards=[requires(Scope.READ)],
        responses=openapi.problems(401, 403, 429),
        summary="Measure",
        media_type=MediaType.TEXT,
    )
    async def metrics(self, d3: D3) -> Response[Any]:
        """Metrics in the Prometheus text format."""
        content, kind = await asyncio.to_thread(d3.metrics.render)
        return Response(content, media_type=kind)


async def readiness(d3: Services) -> Readiness:
    """Whether images can be judged now, and what is missing if not."""
    missing = []
    panel = d3.host.panel_in_use()
    if panel is None:
        why = f" ({d3.host.trouble.rstrip('.')})" if d3.host.trouble else ""
        missing.append(f"model: none is loaded{why}; load one with POST /api/model/load")
    elif trouble := panel.chief.queue.trouble:
        missing.append(f"detector: {trouble}")
    if trouble := await d3.storage_trouble():
        missing.append(f"database: {trouble}")
    ready = not missing
    if panel is not None:
        missing += [f"panel: {name} ({why})" for name, why in panel.silent.items()]
    for part, trouble in (await d3.query(d3.background.troubles)).items():
        if trouble is not None:
            missing.append(f"{part}: {trouble}")
    return Readiness(ready=ready, missing=missing)
