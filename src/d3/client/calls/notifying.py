"""Webhooks: who is told what, and what was sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from d3.client.calls.common import by_cursor, get, given, nothing, post, texts, whole
from d3.client.steps import Call, Pages
from d3.entrypoints.http.api.webhook_schemas import (
    DeliveryItem,
    DeliveryPage,
    EventName,
    NewSecret,
    OneDelivery,
    OneWebhook,
    VerdictName,
    WebhookItem,
    WebhookList,
)

_PATH = "/api/webhooks"


def create_webhook(
    url: str,
    events: Sequence[EventName],
    *,
    verdicts: Sequence[VerdictName] = (),
    everyone: bool = False,
    name: str = "",
) -> Call[NewSecret]:
    """Have events sent to an address from now on; only this answer holds the ``secret``.

    Args:
        url: where to.
        events: what to send, such as ``"job.finished"``.
        verdicts: ``result.created`` only for these; for all unless given.
        everyone: of all users; for administrators.
        name: for you.

    Raises:
        ServiceError: see its ``code``.
    """
    asked = {"url": url, "events": events, "verdicts": verdicts}
    return post(_PATH, asked | {"everyone": everyone, "name": name}, NewSecret, whole)


def webhooks() -> Call[list[WebhookItem]]:
    """Your webhooks, oldest first; all for an administrator."""
    return get(_PATH, WebhookList, lambda one: one.webhooks)


def webhook(webhook_id: int) -> Call[WebhookItem]:
    """One webhook, and whether its receiver answers."""
    return get(_webhook(webhook_id), OneWebhook, lambda one: one.webhook)


def change_webhook(
    webhook_id: int,
    *,
    url: str | None = None,
    events: Sequence[EventName] | None = None,
    verdicts: Sequence[VerdictName] | None = None,
    everyone: bool | None = None,
    name: str | None = None,
    enabled: bool | None = None,
) -> Call[WebhookItem]:
    """Change, enable or disable a webhook; what is not given stays.

    Raises:
        ServiceError: see its ``code``.
    """
    asked = given(
        url=url, events=events, verdicts=verdicts, everyone=everyone, name=name, enabled=enabled
    )
    path = _webhook(webhook_id)
    return post(path, asked, OneWebhook, lambda one: one.webhook, method="PATCH", again=True)


def remove_webhook(webhook_id: int) -> Call[None]:
    """Remove a webhook, with all that waits for it."""
    return Call(method="DELETE", path=_webhook(webhook_id), read=nothing)


def rotate_webhook(webhook_id: int) -> Call[NewSecret]:
    """Make a new ``secret``, which only this answer holds; for a day the old one signs too."""
    return post(f"{_webhook(webhook_id)}/rotate", None, NewSecret, whole)


def test_webhook(webhook_id: int) -> Call[DeliveryItem]:
    """Send a test event now, once, and wait for the receiver's answer."""
    return post(f"{_webhook(webhook_id)}/test", None, OneDelivery, lambda one: one.delivery)


def deliveries(
    webhook_id: int | None = None, *, only: Literal["waiting", "sent", "dead"] | None = None
) -> Pages[DeliveryItem]:
    """What was sent in the last days, newest first; pages are fetched as needed.

    Args:
        webhook_id: to this webhook; to all, and to callbacks of jobs, unless given.
        only: in this state.
    """
    place = _PATH if webhook_id is None else _webhook(webhook_id)
    return by_cursor(f"{place}/deliveries", DeliveryPage, texts(only=only), "deliveries")


def resend(delivery_id: int) -> Call[DeliveryItem]:
    """Send an event again, with the same id, for a day from now on."""
    path = f"{_PATH}/deliveries/{delivery_id}/resend"
    return post(path, None, OneDelivery, lambda one: one.delivery, again=True)


def _webhook(webhook_id: int) -> str:
    return f"{_PATH}/{webhook_id}"
