"""Between jobs and their rows."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import datetime
from typing import Any

from d3.adapters.sql.rows import COLUMNS, entry_of_row
from d3.domain.errors import D3Error
from d3.domain.jobs import (
    ItemOutcome,
    ItemState,
    Job,
    JobCounts,
    JobItem,
    JobState,
    NewItem,
    NewJob,
    NewShard,
)
from d3.domain.panels import PanelRule
from d3.domain.text import storable
from d3.domain.webhooks import Callback, EventType, NewEvent

COUNTS = tuple(one.name for one in fields(JobCounts))
MAX_ERROR = 1000
"""The most characters of an error's sentence that are kept."""


def outcome_row(number: int, outcome: ItemOutcome, result_id: int | None) -> dict[str, Any]:
    """The parameters of an item that is through, by ``new_``."""
    failed = isinstance(outcome, D3Error)
    return {
        "item": number,
        "new_state": (ItemState.ERROR if failed else ItemState.JUDGED).value,
        "new_result_id": result_id,
        "new_error": storable(str(outcome), MAX_ERROR) if failed else None,
        "new_code": outcome.code if isinstance(outcome, D3Error) else None,
    }


def event_of(job: Job, now: datetime) -> NewEvent:
    """What is told of a job that is over."""
    return NewEvent(
        type=EventType.JOB_FINISHED,
        data={"job": job.to_dict()},
        at=now,
        user_id=job.user_id,
        callback=job.callback,
    )


def columns_of(new: NewJob) -> dict[str, Any]:
    """The columns of what is fixed when a job begins."""
    values = {one.name: getattr(new, one.name) for one in fields(NewJob)}
    callback = new.callback
    return values | {
        "panel": "" if new.panel is None else json.dumps(new.panel),
        "panel_rule": None if new.panel_rule is None else new.panel_rule.value,
        "callback": None if callback is None else callback.url,
        "callback_secret": None if callback is None else callback.secret,
        "request_id": None if new.request_id is None else storable(new.request_id),
    }


def shard_row(job_id: int, shard: NewShard, turn: int) -> dict[str, Any]:
    """The columns of a shard that nobody has claimed."""
    return {
        "job_id": job_id,
        "number": shard.number,
        "place": shard.place.value,
        "turn": turn,
        "size_bytes": shard.size_bytes,
        "claims": 0,
        "finished": False,
    }


def item_row(job_id: int, shard: int | None, item: NewItem) -> dict[str, Any]:
    """The columns of a new item; one that has an error already is in no shard."""
    error = item.error
    return {
        "job_id": job_id,
        "number": item.number,
        "shard": shard,
        "name": storable(item.name),
        "external_id": None if item.external_id is None else storable(item.external_id),
        "source": item.source,
        "offset": item.offset,
        "size_bytes": item.size_bytes,
        "state": (ItemState.WAITING if error is None else ItemState.ERROR).value,
        "error": None if error is None else storable(str(error), MAX_ERROR),
        "code": None if error is None else error.code,
    }


def job_of(found: Any) -> Job:
    """A job out of its row."""
    callback = None
    if found.callback is not None:
        callback = Callback(found.callback, found.callback_secret or "")
    return Job(
        id=found.id,
        name=found.name,
        state=JobState(found.state),
        created_at=found.created_at,
        finished_at=found.finished_at,
        expires_at=found.expires_at,
        user_id=found.user_id,
        request_id=found.request_id,
        threshold=found.threshold,
        views=found.views,
        panel=tuple(json.loads(found.panel)) if found.panel else None,
        panel_rule=None if found.panel_rule is None else PanelRule(found.panel_rule),
        stability=found.stability,
        callback=callback,
        every=found.every,
        most=found.most,
        spool=found.spool,
        counts=JobCounts(**{name: getattr(found, name) for name in COUNTS}),
        trouble=found.trouble,
    )


def item_of(row: Any) -> JobItem:
    """An item out of its own row, by ``item_``, and its result's."""
    entry = None if row.id is None else entry_of_row(row[: len(COLUMNS)])
    return JobItem(
        number=row.item_number,
        name=row.item_name,
        external_id=row.item_external_id,
        state=ItemState(row.item_state),
        result_id=row.item_result_id,
        entry=entry,
        error=row.item_error,
        code=row.item_code,
    )
