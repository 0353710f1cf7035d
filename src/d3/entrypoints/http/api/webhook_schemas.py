"""The shapes of webhooks: requests and responses."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import fields

from d3.domain.webhooks import (
    LONGEST_NAME,
    LONGEST_URL,
    Delivery,
    DeliveryState,
    IssuedWebhook,
    Webhook,
)

EventName: TypeAlias = Literal[
    "job.finished", "scan.finished", "result.created", "model.changed", "drift.alert"
]
VerdictName: TypeAlias = Literal["fake", "real", "uncertain"]
Url = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=LONGEST_URL,
        description="Where events are sent: https:// or http://, without a user name or password.",
        examples=["https://app.example.org/d3"],
    ),
]
Events = Annotated[
    list[EventName],
    Meta(
        min_length=1,
        max_length=20,
        description="What to send. `scan.finished`, `model.changed` and `drift.alert` concern the "
        "whole service and need the scope `admin`.",
    ),
]
Verdicts = Annotated[
    list[VerdictName],
    Meta(max_length=20, description="`result.created` only for these verdicts. Empty: for all."),
]
Everyone = Annotated[
    bool,
    Meta(description="Results and jobs of all users, not only one's own. Needs the scope `admin`."),
]
WebhookName = Annotated[str, Meta(max_length=LONGEST_NAME, description="For its owner.")]


class WebhookRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """A webhook to create."""

    url: Url
    events: Events
    verdicts: Verdicts = []
    everyone: Everyone = False
    name: WebhookName = ""


class WebhookChange(Struct, kw_only=True, forbid_unknown_fields=True):
    """What to change of a webhook; what is left out stays."""

    url: Url | UnsetType = UNSET
    events: Events | UnsetType = UNSET
    verdicts: Verdicts | UnsetType = UNSET
    everyone: Everyone | UnsetType = UNSET
    name: WebhookName | UnsetType = UNSET
    enabled: Annotated[bool, Meta(description="Whether events are sent.")] | UnsetType = UNSET


class WebhookItem(Struct, kw_only=True):
    """A webhook without its secret.

    ``failures`` counts the attempts that failed since one succeeded, ``trouble`` says why the last
    one failed, and ``answered_at`` is when one last succeeded.
    """

    id: int
    user_id: int | None
    name: str
    url: str
    events: list[EventName]
    verdicts: list[VerdictName]
    everyone: bool
    enabled: bool
    trouble: str | None
    failures: int
    answered_at: datetime | None
    created_at: datetime


class OneWebhook(Struct, kw_only=True):
    """One webhook."""

    success: bool = True
    webhook: WebhookItem


class NewSecret(OneWebhook, kw_only=True):
    """A webhook with its new secret, which is shown only in this answer."""

    secret: str


class WebhookList(Struct, kw_only=True):
    """Webhooks, oldest first."""

    success: bool = True
    count: int
    webhooks: list[WebhookItem]


class DeliveryItem(Struct, kw_only=True):
    """One event for one receiver.

    ``webhook_id`` is null for the callback of a job. ``event_id`` is what is sent as the header
    ``webhook-id``. A delivery is ``waiting``, ``sent`` or ``dead``: given up after a day.
    """

    id: int
    webhook_id: int | None
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


class OneDelivery(Struct, kw_only=True):
    """One delivery."""

    success: bool = True
    delivery: DeliveryItem


class DeliveryPage(Struct, kw_only=True):
    """Deliveries, newest first; ``next_cursor`` is null on the last page."""

    success: bool = True
    count: int
    next_cursor: str | None = None
    deliveries: list[DeliveryItem]


def webhook_item(webhook: Webhook) -> WebhookItem:
    """The response's form of a webhook."""
    return WebhookItem(**_values(WebhookItem, webhook))


def with_secret(issued: IssuedWebhook) -> NewSecret:
    """The only response that shows a secret."""
    return NewSecret(webhook=webhook_item(issued.webhook), secret=issued.secret)


def delivery_item(delivery: Delivery) -> DeliveryItem:
    """The response's form of a delivery."""
    return DeliveryItem(**_values(DeliveryItem, delivery))


def delivery_page(deliveries: list[Delivery], limit: int) -> DeliveryPage:
    """The response's form of deliveries; a full page may be followed by another."""
    items = [delivery_item(one) for one in deliveries]
    last = str(items[-1].id) if len(items) == limit else None
    return DeliveryPage(count=len(items), next_cursor=last, deliveries=items)


def _values(item: type[Struct], record: Webhook | Delivery) -> dict[str, Any]:
    values = asdict(record)
    return {one.name: values[one.name] for one in fields(item)}
