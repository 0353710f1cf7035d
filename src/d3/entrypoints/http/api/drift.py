"""``/api/inference/drift``: whether results are still like the calibration of their model."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Controller, Request, get
from litestar.params import Parameter

from d3.entrypoints.http.api import openapi
from d3.entrypoints.http.api.history import Since, Until, provide_filter
from d3.entrypoints.http.api.schemas import DriftAnswer
from d3.entrypoints.http.services import D3

Name = Annotated[
    str | None,
    Parameter(max_length=100, description="Name of the model. Default: the model in use."),
]
Version = Annotated[
    int | None,
    Parameter(ge=1, le=2**31 - 1, description="Version of the model. Default: the newest."),
]


class DriftController(Controller):
    """Drift of a model's results."""

    path = "/api/inference"
    tags = ("history",)

    @get(
        "/drift",
        operation_id="getDrift",
        operation_class=openapi.DescribedOperation,
        summary="Compare results with the calibration",
        responses=openapi.problems(400, 401, 403, 404, 429, 503),
    )
    async def drift(  # noqa: PLR0917  a query's parameters, one by one
        self,
        request: Request[Any, Any, Any],
        d3: D3,
        model: Name = None,
        version: Version = None,
        since: Since = None,
        until: Until = None,
    ) -> DriftAnswer:
        """Drift of the scores of one version of a model, in all and by day (UTC).

        ``psi`` compares the scores with those of the calibration's images, mixed so that they fit
        best. ``level`` says what it means: ``stable``, ``watch``, ``drifted``, or ``unclear`` if
        its interval does not allow an answer. Rates are measured on labelled results. Without
        `since`, the last 30 days are compared.
        """
        where = provide_filter(request, since=since, until=until)
        found = await d3.query(
            d3.drift.report,
            model,
            version,
            since=where.since,
            until=where.until,
            user_id=where.user_id,
        )
        return DriftAnswer(drift=found)
