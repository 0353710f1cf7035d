"""``/api/inference``: what people say images truly are."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from litestar import Controller, Request, get, post
from litestar.params import Body
from msgspec import Meta, Struct

from d3.domain.accounts import Scope
from d3.domain.labels import (
    LONGEST_NOTE,
    LONGEST_SOURCE,
    Label,
    LabelChange,
    NewLabel,
)
from d3.entrypoints.http.api import openapi
from d3.entrypoints.http.api.history import ResultId, checked_id, sees
from d3.entrypoints.http.api.schemas import Ids
from d3.entrypoints.http.callers import caller_of
from d3.entrypoints.http.services import D3

LabelName = Annotated[
    Literal["real", "generated", "unknown"],
    Meta(description="What the image is. `unknown` takes back what was said before."),
]


class LabelRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """What somebody says an image is, how that is known, and anything else."""

    label: LabelName
    source: Annotated[
        str, Meta(max_length=LONGEST_SOURCE, description="How it is known, in one line.")
    ] = ""
    note: Annotated[str, Meta(max_length=LONGEST_NOTE, description="Anything else.")] = ""

    def of(self, result_id: int) -> NewLabel:
        """The same about one result."""
        return NewLabel(
            result_id=result_id, label=Label(self.label), source=self.source, note=self.note
        )


class BulkLabelRequest(LabelRequest, kw_only=True, forbid_unknown_fields=True):
    """One label for many results."""

    ids: Ids


class LabelItem(Struct, kw_only=True):
    """One thing that was said about a result's image; the newest counts."""

    id: int
    result_id: int
    label: str
    source: str
    note: str
    created_at: datetime
    user_id: int | None


class OneLabel(Struct, kw_only=True):
    """The label that a result has now."""

    success: bool = True
    label: LabelItem


class LabelList(Struct, kw_only=True):
    """All that was said about a result's image, newest first."""

    success: bool = True
    count: int
    labels: list[LabelItem]


class Labelled(Struct, kw_only=True):
    """How many results have a new label."""

    success: bool = True
    count: int


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
        (change,) = await _keep(request, d3, said, whose)
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
        return Labelled(count=len(await _keep(request, d3, said, whose)))


def label_item(change: LabelChange) -> LabelItem:
    """The response's form of a label."""
    return LabelItem(**asdict(change))


async def _keep(
    request: Request[Any, Any, Any], d3: D3, said: list[NewLabel], whose: int | None
) -> list[LabelChange]:
    by = caller_of(request).user_id
    return await d3.query(d3.history.label, said, d3.clock.now(), by, whose)
