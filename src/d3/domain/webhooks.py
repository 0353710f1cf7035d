"""Webhooks: what happens is told to those who asked for it."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from d3.domain.backoff import pause_after
from d3.domain.errors import DeliveryNotFound, WebhookInvalid, WebhookNotFound, shown
from d3.domain.scoring import Verdict

MOST_WEBHOOKS = 20
"""Of one user."""

LONGEST_URL = 2000
LONGEST_NAME = 255

GIVEN_UP_AFTER = timedelta(days=1)
"""A delivery that has failed for so long is dead."""

KEPT = timedelta(days=7)
"""Events are deleted after this, with their deliveries."""

ROTATION_OVERLAP = timedelta(days=1)
"""How long the old secret signs too after a new one was made."""

_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 2 * 3600.0
_FIRST_REST, _LONGEST_REST = 1.0, 60.0
_LONGEST_RETRY_AFTER = 12 * 3600.0
_SECRET_BYTES = 32
_GONE = 410


class EventType(StrEnum):
    """What can be told."""

    JOB_FINISHED = "job.finished"
    SCAN_FINISHED = "scan.finished"
    RESULT_CREATED = "result.created"
    MODEL_CHANGED = "model.changed"
    DRIFT_ALERT = "drift.alert"
    TEST = "webhook.test"


CHOICES = tuple(one for one in EventType if one is not EventType.TEST)
"""What an endpoint can ask for; a test goes to every endpoint that is tested."""

OF_THE_SERVICE = frozenset(
    {EventType.SCAN_FINISHED, EventType.MODEL_CHANGED, EventType.DRIFT_ALERT}
)
"""What is no single user's; administrators can ask for it."""


@dataclass(frozen=True, slots=True)
class Callback:
    """Who alone is told of one thing, beside the endpoints.

    Attributes:
        url: where to.
        secret: signs what is sent, ``whsec_`` and Base64.
    """

    url: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """Something that happened, to be told.

    Attributes:
        data: what a receiver gets, JSON values.
        at: when it happened, with its zone.
        user_id: whose it is; None for the service's own, and for callers without a key.
        verdict: of a result, for endpoints that ask for some only.
        result_id: of a result; when that is deleted, the event goes too.
        callback: told besides.
    """

    type: EventType
    data: Mapping[str, Any]
    at: datetime
    user_id: int | None = None
    verdict: str | None = None
    result_id: int | None = None
    callback: Callback | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWebhook:
    """An endpoint that is asked for.

    Attributes:
        url: where to, checked by whoever sends.
        events: at least one of :data:`CHOICES`.
        verdicts: ``result.created`` only for these; empty: for all.
        everyone: whether it gets every user's events; else its owner's.
        name: for its owner; may be empty.

    Raises:
        WebhookInvalid: no event, an unknown event or verdict, or a name that cannot be shown.
    """

    url: str
    events: tuple[EventType, ...]
    verdicts: tuple[Verdict, ...] = ()
    everyone: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        # In one order and once each, whatever was given.
        object.__setattr__(self, "events", _members(EventType, self.events, CHOICES, "event"))
        object.__setattr__(self, "verdicts", _members(Verdict, self.verdicts, Verdict, "verdict"))
        if not self.events:
            raise WebhookInvalid(
                "A webhook needs at least one event.", f"Choose from {', '.join(CHOICES)}."
            )
        if len(self.name) > LONGEST_NAME or (self.name and not self.name.isprintable()):
            raise WebhookInvalid(
                f"{shown(self.name)} cannot be the name of a webhook.",
                f"Use at most {LONGEST_NAME} printable characters.",
            )

    @property
    def needs_admin(self) -> bool:
        """Whether only administrators may have it."""
        return self.everyone or not OF_THE_SERVICE.isdisjoint(self.events)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook(NewWebhook):
    """An endpoint without its secret.

    Attributes:
        id: counts from 1; never reused.
        user_id: its owner; None: the service's own, or of callers without a key.
        enabled: whether events are sent to it.
        trouble: why D3 disabled it, or why the last attempt failed; None if all is well.
        failures: attempts that failed since the last that succeeded.
        answered_at: when an attempt last succeeded; None: never yet.
        created_at: in UTC.
    """

    id: int
    user_id: int | None
    enabled: bool = True
    trouble: str | None = None
    failures: int = 0
    answered_at: datetime | None = None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class IssuedWebhook:
    """An endpoint with its new secret, which is shown now and never again.

    Attributes:
        secret: ``whsec_`` and Base64.
    """

    webhook: Webhook
    secret: str = field(repr=False)


class DeliveryState(StrEnum):
    """How a delivery stands."""

    WAITING = "waiting"
    SENT = "sent"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event for one receiver.

    Attributes:
        webhook_id: of the endpoint; None for the callback of a job.
        user_id: whose it is.
        event_id: what is sent as ``webhook-id``, the same in every attempt.
        created_at: when it happened, in UTC.
        next_at: when it is tried next; None unless it waits.
        tried_at: when it was last tried.
        status: of the last answer; None without one.
        trouble: why the last attempt failed.
    """

    id: int
    webhook_id: int | None
    user_id: int | None
    url: str
    event_id: str
    type: str
    state: DeliveryState
    attempts: int
    created_at: datetime
    next_at: datetime | None
    tried_at: datetime | None
    status: int | None
    trouble: str | None


@dataclass(frozen=True, slots=True)
class Queue:
    """Deliveries to one receiver that are due.

    Attributes:
        name: of the receiver.
        proven: whether its last attempt succeeded.
        failures: attempts that failed since the last that succeeded.
    """

    name: str
    proven: bool
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A delivery to be sent now.

    Attributes:
        id: of the delivery.
        queue: see :class:`Queue`.
        webhook_id: None for a callback.
        event_id: goes with it.
        body: JSON in ASCII.
        secrets: each signs, the newest first.
        attempts: made before.
        failures: of its endpoint in a row.
        since: when the first attempt was due.
        once: whether it is not tried again.
    """

    id: int
    queue: str
    webhook_id: int | None
    event_id: str
    url: str = field(repr=False)
    body: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    attempts: int
    failures: int
    since: datetime
    once: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said.

    Attributes:
        status: of HTTP; None if there was no answer.
        trouble: why the attempt failed; None if it succeeded.
        retry_after: seconds that the receiver asks to wait.
    """

    status: int | None = None
    trouble: str | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What becomes of a delivery after an attempt, or without one.

    Attributes:
        at: when the attempt ended; None: none was made, and the delivery is given back.
        state: from now on.
        next_at: when it is tried next.
        rest_until: until when its endpoint is left alone.
        gone: whether the endpoint said that it exists no more.
    """

    due: Due
    at: datetime | None = None
    state: DeliveryState = DeliveryState.WAITING
    answer: Answer = field(default_factory=Answer)
    next_at: datetime | None = None
    rest_until: datetime | None = None
    gone: bool = False


def outcome_of(due: Due, answer: Answer, now: datetime, share: float) -> Outcome:
    """What becomes of a delivery that was answered so.

    The pauses double from five seconds up to two hours. After a day it is dead.

    Args:
        due: the delivery.
        answer: to its attempt.
        now: when it came.
        share: in [0, 1], random, so that many deliveries do not come back together.
    """
    if answer.trouble is None:
        return Outcome(due=due, at=now, state=DeliveryState.SENT, answer=answer)
    asked = min(answer.retry_after or 0.0, _LONGEST_RETRY_AFTER)
    pause = pause_after(due.attempts + 1, _FIRST_PAUSE, _LONGEST_PAUSE) * (0.8 + 0.4 * share)
    next_at = now + timedelta(seconds=max(pause, asked))
    rest = max(pause_after(due.failures + 1, _FIRST_REST, _LONGEST_REST), asked)
    gone = answer.status == _GONE
    dead = due.once or gone or next_at >= due.since + GIVEN_UP_AFTER
    return Outcome(
        due=due,
        at=now,
        state=DeliveryState.DEAD if dead else DeliveryState.WAITING,
        answer=answer,
        next_at=None if dead else next_at,
        rest_until=now + timedelta(seconds=rest),
        gone=gone,
    )


@dataclass(frozen=True, slots=True)
class OutboxFigures:
    """How the outbox stands.

    Attributes:
        waiting: deliveries to those who are not disabled.
        dead: deliveries, without tests.
        oldest_due: when the first of them was or is due; None if none waits.
    """

    waiting: int = 0
    dead: int = 0
    oldest_due: datetime | None = None


def no_webhook(id_: object) -> WebhookNotFound:
    """What is said of a webhook that is not there, or not the caller's."""
    return WebhookNotFound(
        f"There is no webhook with the id {shown(id_)}.", "The list of webhooks shows their ids."
    )


def no_delivery(id_: object) -> DeliveryNotFound:
    """What is said of a delivery that is not there, or not the caller's."""
    return DeliveryNotFound(
        f"There is no delivery with the id {shown(id_)}.",
        "The list of deliveries shows those of the last days.",
    )


def new_secret() -> str:
    """A secret by the Standard Webhooks specification: ``whsec_`` and 32 random bytes in Base64."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"


def new_event_id() -> str:
    """What tells a receiver that an event came before."""
    return f"evt_{secrets.token_hex(16)}"


def _members(
    kind: type[StrEnum],
    given: Sequence[str],
    allowed: Sequence[Any] | type[StrEnum],
    noun: Literal["event", "verdict"],
) -> tuple[Any, ...]:
    known = list(allowed)
    for one in given:
        if one not in known:
            raise WebhookInvalid(
                f"There is no {noun} {shown(str(one))}.", f"Choose from {', '.join(known)}."
            )
    return tuple(one for one in kind if one in given)
