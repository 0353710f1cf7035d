"""The shapes of labels: requests and responses."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from d3.domain.labels import LONGEST_NOTE, LONGEST_SOURCE, Label, LabelChange, NewLabel
from d3.entrypoints.http.api.schemas import Ids

LabelName: TypeAlias = Literal["real", "generated", "unknown"]
LabelOfImage = Annotated[
    LabelName,
    Meta(description="What the image is. `unknown` takes back what was said before."),
]


class LabelRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """What somebody says an image is, how that is known, and anything else."""

    label: LabelOfImage
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


def label_item(change: LabelChange) -> LabelItem:
    """The response's form of a label."""
    return LabelItem(**asdict(change))
