"""Requests and answers about jobs, as msgspec structs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from d3.domain.clips import MOST_FRAMES
from d3.domain.jobs import MAX_EXTERNAL_ID, ItemState, Job, JobItem, JobState
from d3.domain.panels import PanelRule
from d3.domain.webhooks import LONGEST_URL
from d3.entrypoints.http.api.scan_schemas import PanelNames, Rule, Stability, Threshold, Views
from d3.entrypoints.http.api.schemas import HistoryItem, history_item

ExternalId = Annotated[
    str,
    Meta(
        max_length=MAX_EXTERNAL_ID,
        description="Your own id of the image. It comes back with the result.",
        examples=["article-17/3"],
    ),
]
ItemName = Annotated[
    str, Meta(max_length=1024, description="Name for display. Default: the last part of the link.")
]
Link = Annotated[
    str,
    Meta(
        max_length=8192,
        description="Link to the image, if the service fetches links (`D3_FETCH_LINKS`). It is "
        "fetched when its turn comes.",
        examples=["https://example.net/photo.jpg"],
    ),
]
S3Uri = Annotated[
    str,
    Meta(
        max_length=2048,
        description="`s3://BUCKET/KEY` on the service's S3 server, below one of `D3_JOB_SOURCES`.",
        examples=["s3://incoming/2026/photo.jpg"],
    ),
]
CallbackUrl = Annotated[
    str,
    Meta(
        max_length=LONGEST_URL,
        description="Address that is told when the job is over, as a webhook `job.finished`.",
        examples=["https://example.net/hooks/d3"],
    ),
]
Every = Annotated[
    float, Meta(gt=0, le=3600, description="Of a clip: seconds between the frames that are judged.")
]
Most = Annotated[
    int, Meta(ge=1, le=MOST_FRAMES, description="Of a clip: the most frames that are judged.")
]


class JobItemRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """An image to be fetched: a link, or an object of the service's S3 server."""

    url: Link | None = None
    s3: S3Uri | None = None
    name: ItemName | None = None
    external_id: ExternalId | None = None


class FetchedJobRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """A job to begin whose images are fetched."""

    items: Annotated[
        list[JobItemRequest],
        Meta(
            min_length=1,
            description="The images, each with one source. What is wrong with one is its own "
            "error, and the others are judged.",
        ),
    ]
    threshold: Threshold | None = None
    views: Views | None = None
    panel: PanelNames | None = None
    panel_rule: Rule | None = None
    stability: Stability = False
    callback: CallbackUrl | None = None
    every: Every | None = None
    most: Most | None = None


class JobCountsBody(Struct, kw_only=True):
    """How many items of a job there are, how many wait, and how the others ended."""

    items: int
    waiting: int
    fake: int
    real: int
    uncertain: int
    error: int
    cancelled: int


class JobBody(Struct, kw_only=True):
    """A job and how far it is.

    ``state`` is ``running`` until the job is over, then ``done`` or ``cancelled``. ``threshold``,
    ``panel`` and ``panel_rule`` are null where the service's own are used. ``callback_secret``
    verifies what is sent to ``callback``; only the answer that began the job has it. ``trouble``
    says why a job does not go on at the moment. At ``expires_at`` the job is forgotten; its results
    stay.
    """

    id: str
    state: JobState
    created_at: datetime
    finished_at: datetime | None = None
    expires_at: datetime
    threshold: float | None = None
    views: int
    panel: list[str] | None = None
    panel_rule: PanelRule | None = None
    stability: bool
    callback: str | None = None
    callback_secret: str | None = None
    trouble: str | None = None
    counts: JobCountsBody


class OneJob(Struct, kw_only=True):
    """One job."""

    success: bool = True
    job: JobBody


class JobPage(Struct, kw_only=True):
    """Jobs, newest first."""

    success: bool = True
    count: int
    jobs: list[JobBody]


class JobResult(Struct, kw_only=True):
    """One item of a job.

    ``state`` is ``waiting``, ``judged``, ``error`` or ``cancelled``. ``number`` counts from 1 in
    the order sent. ``result`` is null where there is none, or where it was deleted from the history
    since; ``inference_id`` then still says which it was.
    """

    number: int
    name: str
    external_id: str | None = None
    state: ItemState
    result: HistoryItem | None = None
    inference_id: int | None = None
    error: str | None = None
    code: str | None = None


class JobResults(OneJob, kw_only=True):
    """A job and a page of its items, in order."""

    count: int
    next_cursor: str | None = None
    results: list[JobResult]


def job_body(job: Job, *, secret: bool = False) -> JobBody:
    """The response's form of a job.

    Args:
        job: the job.
        secret: whether its callback's secret is told.
    """
    callback = job.callback
    return JobBody(
        id=job.name,
        state=job.state,
        created_at=job.created_at,
        finished_at=job.finished_at,
        expires_at=job.expires_at,
        threshold=job.threshold,
        views=job.views,
        panel=None if job.panel is None else list(job.panel),
        panel_rule=job.panel_rule,
        stability=job.stability,
        callback=None if callback is None else callback.url,
        callback_secret=callback.secret if callback is not None and secret else None,
        trouble=job.trouble,
        counts=JobCountsBody(**job.counts.to_dict()),
    )


def job_results(job: Job, items: Sequence[JobItem], limit: int) -> JobResults:
    """The response's form of a job and a page of its items; a full page may have another."""
    return JobResults(
        job=job_body(job),
        count=len(items),
        next_cursor=str(items[-1].number) if len(items) == limit else None,
        results=[_result(one) for one in items],
    )


def _result(item: JobItem) -> JobResult:
    return JobResult(
        number=item.number,
        name=item.name,
        external_id=item.external_id,
        state=item.state,
        result=None if item.entry is None else history_item(item.entry),
        inference_id=item.result_id,
        error=item.error,
        code=item.code,
    )
