"""The history of results: finding, labelling, deleting and counting them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Literal

from d3.client.calls.common import by_cursor, get, nothing, post, texts
from d3.client.steps import Call, Pages, Steps
from d3.domain.drift import DriftReport
from d3.domain.labels import MOST_LABELS
from d3.entrypoints.http.api.label_schemas import (
    LabelItem,
    Labelled,
    LabelList,
    LabelName,
    OneLabel,
)
from d3.entrypoints.http.api.schemas import (
    Deleted,
    DriftAnswer,
    HistoryItem,
    HistoryPage,
    OneResult,
    Stats,
    StatsBody,
)

_PATH = "/api/inference"


def history(
    *,
    is_fake: bool | None = None,
    verdict: Literal["fake", "real", "uncertain"] | None = None,
    model: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    q: str | None = None,
    contains: str | None = None,
    label: Literal["real", "generated", "unknown", "none"] | None = None,
    provenance: Literal["generated", "camera", "edited", "nothing"] | None = None,
    image_sha256: str | None = None,
    disagree: bool | None = None,
    sort: Literal["created_at", "prediction", "image_name"] = "created_at",
    order: Literal["asc", "desc"] = "desc",
) -> Pages[HistoryItem]:
    """Every result that matches, newest first; pages are fetched as needed.

    Args:
        is_fake: only these.
        verdict: only these.
        model: only this model's.
        since: judged at this time or later; with a zone.
        until: judged before this time; with a zone.
        q: the image's name begins with this.
        contains: stands anywhere in the image's name, in upper or lower case.
        label: only these; ``"none"``: without a label.
        provenance: only images whose file says this of itself.
        image_sha256: only results of this file.
        disagree: only those of panels whose models contradict each other; False: of panels
            whose models do not.
        sort: what to order by; then by time.
        order: ``"desc"``: the newest or largest first.
    """
    asked = texts(
        is_fake=is_fake,
        verdict=verdict,
        model=model,
        since=since,
        until=until,
        q=q,
        contains=contains,
        label=label,
        provenance=provenance,
        image_sha256=image_sha256,
        disagree=disagree,
        sort=sort,
        order=order,
    )
    return by_cursor(f"{_PATH}/history", HistoryPage, asked | {"cursor": ""})


def result(inference_id: int) -> Call[HistoryItem]:
    """One result of the history."""
    return get(_result(inference_id), OneResult, lambda one: one.result)


def evidence(inference_id: int) -> Call[bytes]:
    """A result as a signed bundle of evidence: a zip file.

    Raises:
        ServiceError: ``signing_key_missing`` where the service has no key.
    """
    return Call(method="GET", path=f"{_result(inference_id)}/evidence", read=bytes, again=True)


def delete(inference_id: int) -> Call[None]:
    """Delete one result for good."""
    return Call(method="DELETE", path=_result(inference_id), read=nothing)


def delete_many(inference_ids: Iterable[int]) -> Steps[list[int]]:
    """Delete results for good, a thousand in one transaction; those that were not there."""
    missing: list[int] = []
    for some in _thousands(inference_ids):
        missing += yield post(
            f"{_PATH}/results/delete", {"ids": some}, Deleted, lambda one: one.missing
        )
    return missing


def label(
    inference_id: int, label: LabelName, *, source: str = "", note: str = ""
) -> Call[LabelItem]:
    """Say what an image truly is; its verdict stays.

    Args:
        inference_id: of the result.
        label: ``"unknown"`` takes back what was said before.
        source: how it is known, such as ``"photographer"``.
        note: anything else.

    Raises:
        ServiceError: see its ``code``.
    """
    said = {"label": label, "source": source, "note": note}
    return post(f"{_result(inference_id)}/label", said, OneLabel, lambda one: one.label)


def label_many(
    inference_ids: Iterable[int], label: LabelName, *, source: str = "", note: str = ""
) -> Steps[int]:
    """Give results the same label, a thousand in one transaction; how many there were."""
    said, count = {"label": label, "source": source, "note": note}, 0
    for some in _thousands(inference_ids):
        asked = said | {"ids": some}
        count += yield post(f"{_PATH}/labels", asked, Labelled, lambda one: one.count)
    return count


def labels(inference_id: int) -> Call[list[LabelItem]]:
    """All that was said about a result's image, newest first."""
    return get(f"{_result(inference_id)}/labels", LabelList, lambda one: one.labels)


def stats(
    *,
    bucket: Literal["day", "hour"] | None = None,
    group: Literal["model", "label", "provenance", "agreement"] | None = None,
) -> Call[StatsBody]:
    """Totals, a time series with ``bucket``, and totals of each group with ``group``."""
    asked = texts(bucket=bucket, group=group)
    return get(f"{_PATH}/stats", Stats, lambda one: one.stats, asked)


def drift(
    model: str | None = None,
    *,
    version: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Call[DriftReport]:
    """Whether results are still like the calibration of their model, in all and by day.

    Args:
        model: its name; the one in use unless given.
        version: the newest unless given.
        since: judged at this time or later; with a zone; the last 30 days unless given.
        until: judged before this time; with a zone.
    """
    asked = texts(model=model, version=version, since=since, until=until)
    return get(f"{_PATH}/drift", DriftAnswer, lambda one: one.drift, asked)


def _thousands(ids: Iterable[int]) -> Iterator[list[int]]:
    coming = iter(ids)
    while some := list(islice(coming, MOST_LABELS)):
        yield some


def _result(inference_id: int) -> str:
    return f"{_PATH}/result/{inference_id}"
