"""``/api/inference``: what people say images truly are."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Controller, Request, get, post
from litestar.params import Body

from d3.domain.accounts import Scope
from d3.domain.labels import LabelChange, NewLabel
from d3.entrypoints.http.api import openapi
from d3.entrypoints.http.api.history import ResultId, checked_id, sees
from d3.entrypoints.http.api.label_schemas import (
    BulkLabelRequest,
    Labelled,
    LabelList,
    LabelRequest,
    OneLabel,
    label_item,
)
from d3.entrypoints.http.callers import caller_of
from d3.entrypoints.http.services import D3, Services


class LabelController(Controller):
    """Labels: corrections that stand beside a verdict and never change it."""

    path = "/api/inference"
    tags = ("history",)

    @post(
        "/result/{result_id:str}/label",
        operation_id="labelResult",
        operation_class=openapi.LabelOperation,
        summary="Say what an image truly is",
        status_code=200,
        responses=openapi.problems(400, 401, 403, 404, 408, 413, 429, 503),
    )
    async def label(
        self,
        request: Request[Any, Any, Any],
        d3: D3,
        result_id: ResultId,
        data: Annotated[LabelRequest, Body(description="What the image is.")],
    ) -> OneLabel:
        """Keep what somebody says the image is, with who said it and when.

        The verdict stays as it is. What was said before stays in the history of labels.
        """
        whose = sees(request, Scope.PREDICT)
        said = [data.of(checked_id(result_id))]
        (change,) = await keep_labels(request, d3, said, whose)
        return OneLabel(label=label_item(change))

    @get(
        "/result/{result_id:str}/labels",
        operation_id="listLabels",
        operation_class=openapi.DescribedOperation,
        summary="List what was said about an image",
        responses=openapi.problems(400, 401, 403, 404, 429, 503),
    )
    async def labels(
        self, request: Request[Any, Any, Any], d3: D3, result_id: ResultId
    ) -> LabelList:
        """Every label that this result was ever given, newest first."""
        whose = sees(request)
        changes = await d3.query(d3.history.labels, checked_id(result_id), whose)
        return LabelList(count=len(changes), labels=[label_item(one) for one in changes])

    @post(
        "/labels",
        operation_id="labelResults",
        operation_class=openapi.LabelOperation,
        summary="Label many results",
        status_code=200,
        responses=openapi.problems(400, 401, 403, 404, 408, 413, 429, 503),
    )
    async def label_many(
        self,
        request: Request[Any, Any, Any],
        d3: D3,
        data: Annotated[BulkLabelRequest, Body(description="Which results, and what they are.")],
    ) -> Labelled:
        """Give up to 1,000 results the same label, all or none."""
        whose = sees(request, Scope.PREDICT)
        said = [data.of(one) for one in dict.fromkeys(data.ids)]
        return Labelled(count=len(await keep_labels(request, d3, said, whose)))


async def keep_labels(
    request: Request[Any, Any, Any], d3: Services, said: list[NewLabel], whose: int | None
) -> list[LabelChange]:
    """Keep what the caller says now about results that they may see: of this user, or all."""
    by = caller_of(request).user_id
    return await d3.query(d3.history.label, said, d3.clock.now(), by, whose)
