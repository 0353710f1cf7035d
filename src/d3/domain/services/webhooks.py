"""What callers do with webhooks: each sees their own, administrators all."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from d3.domain.access import Caller
from d3.domain.accounts import Scope
from d3.domain.errors import WebhookInvalid
from d3.domain.ports.clock import Clock
from d3.domain.ports.webhooks import Outbox, Webhooks, WebhookSender
from d3.domain.webhooks import (
    Answer,
    Delivery,
    DeliveryState,
    Due,
    EventType,
    IssuedWebhook,
    NewEvent,
    NewWebhook,
    Webhook,
    no_delivery,
    no_webhook,
    outcome_of,
)

_TEST_LEASE = timedelta(minutes=2)

InThread = Callable[..., Awaitable[Any]]
"""Runs a function that waits for the database, beside the event loop."""


class WebhookService:
    """Creates, shows, changes and tests webhooks for callers.

    Args:
        webhooks: the endpoints.
        outbox: takes what became of tests.
        check_url: the address of a receiver, checked; raises WebhookInvalid.
        sender: makes what sends.
        clock: tells the time.
    """

    def __init__(
        self,
        webhooks: Webhooks,
        outbox: Outbox,
        check_url: Callable[[str], str],
        sender: Callable[[], WebhookSender],
        clock: Clock,
    ) -> None:
        self._webhooks = webhooks
        self._outbox = outbox
        self._sender = sender
        self._clock = clock
        self.checked_url = check_url

    def add(self, caller: Caller, new: NewWebhook, user_id: int | None = None) -> IssuedWebhook:
        """Create an endpoint; its secret is shown now and never again.

        Args:
            caller: who asks.
            new: what for.
            user_id: whose it is, if an administrator creates it for somebody else.

        Raises:
            WebhookInvalid: its address cannot be used, or it has verdicts and gets no results.
            AccessForbidden: only administrators may have such a one.
            WebhookLimitReached: the user has too many.
        """
        if new.needs_admin or user_id not in {None, caller.user_id}:
            caller.check(Scope.ADMIN)
        new = self._checked(new)
        owner = caller.user_id if user_id is None else user_id
        return self._webhooks.add(new, owner, self._clock.now())

    def visible_to(self, caller: Caller) -> list[Webhook]:
        """The caller's endpoints, or all for an administrator."""
        return self._webhooks.webhooks(caller.user_id, everyone=caller.may(Scope.ADMIN))

    def get(self, caller: Caller, id_: int) -> Webhook:
        """One endpoint.

        Raises:
            WebhookNotFound: there is none, or it is somebody else's.
        """
        found = self._webhooks.get(id_)
        if found.user_id != caller.user_id and not caller.may(Scope.ADMIN):
            raise no_webhook(id_)
        return found

    def change(self, caller: Caller, id_: int, **changes: Any) -> Webhook:
        """Change some of what was asked for, or whether it is enabled.

        Args:
            caller: who asks.
            id_: of the endpoint.
            changes: fields of :class:`NewWebhook`, and ``enabled``.

        Raises:
            D3Error: as from :meth:`add` and :meth:`get`.
        """
        found = self.get(caller, id_)
        enabled = changes.pop("enabled", None)
        if changes:
            asked = NewWebhook(
                **{
                    name: changes.get(name, getattr(found, name))
                    for name in ("url", "events", "verdicts", "everyone", "name")
                }
            )
            if asked.needs_admin:
                caller.check(Scope.ADMIN)
            found = self._webhooks.change(id_, self._checked(asked))
        if enabled is not None and enabled != found.enabled:
            found = self._webhooks.enable(id_, enabled=enabled)
        return found

    def rotate(self, caller: Caller, id_: int) -> IssuedWebhook:
        """Make a new secret. For a day the old one signs too.

        Raises:
            WebhookNotFound: as from :meth:`get`.
        """
        return self._webhooks.rotate(self.get(caller, id_).id, self._clock.now())

    def remove(self, caller: Caller, id_: int) -> None:
        """Remove an endpoint, with all that waits for it.

        Raises:
            WebhookNotFound: as from :meth:`get`.
        """
        self._webhooks.remove(self.get(caller, id_).id)

    def deliveries(
        self,
        caller: Caller,
        webhook_id: int | None = None,
        *,
        state: DeliveryState | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[Delivery]:
        """What was sent to the caller's endpoints and callbacks, newest first.

        Raises:
            WebhookNotFound: as from :meth:`get`.
        """
        if webhook_id is not None:
            self.get(caller, webhook_id)
        return self._webhooks.deliveries(
            caller.user_id,
            everyone=caller.may(Scope.ADMIN),
            webhook_id=webhook_id,
            state=state,
            before=before,
            limit=limit,
        )

    def resend(self, caller: Caller, id_: int) -> Delivery:
        """Send a delivery again, for a day from now on.

        Raises:
            DeliveryNotFound: there is none, or it is somebody else's.
            WebhookInvalid: its endpoint is disabled.
        """
        found = self._webhooks.delivery(id_)
        if found.user_id != caller.user_id and not caller.may(Scope.ADMIN):
            raise no_delivery(id_)
        if found.webhook_id is not None and not self._webhooks.get(found.webhook_id).enabled:
            raise WebhookInvalid(f"The webhook {found.webhook_id} is disabled.", "Enable it first.")
        return self._webhooks.resend(id_, self._clock.now())

    async def test(
        self, caller: Caller, id_: int, in_thread: InThread = asyncio.to_thread
    ) -> Delivery:
        """Send a test event now, once, and wait for the answer.

        Raises:
            WebhookNotFound: as from :meth:`get`.
        """
        owner = f"test {secrets.token_hex(8)}"
        due: Due = await in_thread(self._begin_test, caller, id_, owner)
        async with self._sender() as sender:
            answer = await sender.send(due)
        found: Delivery = await in_thread(self._end_test, due, answer, owner)
        return found

    def _checked(self, new: NewWebhook) -> NewWebhook:
        if new.verdicts and EventType.RESULT_CREATED not in new.events:
            raise WebhookInvalid(
                "Verdicts choose among results, and this webhook gets no results.",
                "Ask for result.created too, or name no verdicts.",
            )
        return replace(new, url=self.checked_url(new.url))

    def _begin_test(self, caller: Caller, id_: int, owner: str) -> Due:
        webhook, now = self.get(caller, id_), self._clock.now()
        data = {"message": "D3 can reach this webhook.", "webhook_id": webhook.id}
        event = NewEvent(type=EventType.TEST, data=data, at=now, user_id=webhook.user_id)
        return self._webhooks.begin_test(id_, event, owner, now + _TEST_LEASE)

    def _end_test(self, due: Due, answer: Answer, owner: str) -> Delivery:
        now = self._clock.now()
        self._outbox.exchange([outcome_of(due, answer, now, 0.5)], [], owner, now, now)
        return self._webhooks.delivery(due.id)
