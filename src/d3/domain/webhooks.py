"""Webhooks: what happens is told to those who asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class EventType(StrEnum):
    """What can be told."""

    JOB_FINISHED = "job.finished"
    SCAN_FINISHED = "scan.finished"
    RESULT_CREATED = "result.created"
    MODEL_CHANGED = "model.changed"
    DRIFT_ALERT = "drift.alert"


@dataclass(frozen=True, slots=True)
class Callback:
    """Who alone is told of one thing, beside the endpoints.

    Attributes:
        url: where to.
        secret: signs what is sent, ``whsec_`` and Base64.
    """

    url: str
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """Something that happened, to be told.

    Attributes:
        data: what a receiver gets, JSON values.
        at: when it happened, with its zone.
        user_id: whose it is; None for the service's own, and for callers without a key.
        verdict: of a result, for endpoints that ask for some only.
        callback: told besides.
    """

    type: EventType
    data: Mapping[str, Any]
    at: datetime
    user_id: int | None = None
    verdict: str | None = None
    callback: Callback | None = None
