"""What webhooks need: endpoints and an outbox in the database, and a way to send."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from d3.domain.webhooks import (
    Answer,
    Delivery,
    DeliveryState,
    Due,
    IssuedWebhook,
    NewEvent,
    NewWebhook,
    OutboxFigures,
    Outcome,
    Queue,
    Webhook,
)


@runtime_checkable
class Webhooks(Protocol):
    """The endpoints, and what was sent to them. Safe to use from many threads.

    Secrets are kept, since they sign, but only the two methods that make one return it. Every
    method may raise StorageFailed.
    """

    def add(self, new: NewWebhook, user_id: int | None, now: datetime) -> IssuedWebhook:
        """Create an endpoint of a user, or of nobody.

        Raises:
            UserNotFound: there is no such user.
            WebhookLimitReached: the user has the most that one may have.
        """
        ...

    def webhooks(self, user_id: int | None, *, everyone: bool = False) -> list[Webhook]:
        """The endpoints of a user, of nobody, or all, oldest first."""
        ...

    def get(self, id_: int) -> Webhook:
        """One endpoint.

        Raises:
            WebhookNotFound: there is none.
        """
        ...

    def change(self, id_: int, new: NewWebhook) -> Webhook:
        """Replace what was asked for.

        Raises:
            WebhookNotFound: there is none.
        """
        ...

    def enable(self, id_: int, *, enabled: bool) -> Webhook:
        """Send to it, or not. Of a disabled one nothing new is kept; what waits goes on waiting.

        Raises:
            WebhookNotFound: there is none.
        """
        ...

    def rotate(self, id_: int, now: datetime) -> IssuedWebhook:
        """Make a new secret. For a day the old one signs too.

        Raises:
            WebhookNotFound: there is none.
        """
        ...

    def remove(self, id_: int) -> None:
        """Remove it, with all that waits for it.

        Raises:
            WebhookNotFound: there is none.
        """
        ...

    def deliveries(
        self,
        user_id: int | None,
        *,
        everyone: bool = False,
        webhook_id: int | None = None,
        state: DeliveryState | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[Delivery]:
        """Deliveries, newest first: to a user's endpoints and callbacks, to nobody's, or to all.

        Args:
            user_id: whose.
            everyone: all users'.
            webhook_id: only to this endpoint.
            state: only these.
            before: only those with a smaller id.
            limit: how many at most.
        """
        ...

    def delivery(self, id_: int) -> Delivery:
        """One delivery.

        Raises:
            DeliveryNotFound: there is none.
        """
        ...

    def resend(self, id_: int, now: datetime) -> Delivery:
        """Send it again from now on, for a day.

        Raises:
            DeliveryNotFound: there is none.
        """
        ...

    def begin_test(self, id_: int, event: NewEvent, owner: str, until: datetime) -> Due:
        """A delivery of this event to one endpoint, leased to be sent at once, by its caller.

        Raises:
            WebhookNotFound: there is none.
        """
        ...


@runtime_checkable
class Outbox(Protocol):
    """What is to be sent. Leases keep replicas out of each other's way.

    A delivery whose lease has expired is sent again, so a receiver may get it twice, with the same
    id. Every method may raise StorageFailed; all can be retried.
    """

    def queues(self, now: datetime) -> list[Queue]:
        """The receivers for whom something is due that nobody sends. Reads only."""
        ...

    def exchange(
        self,
        outcomes: Sequence[Outcome],
        queues: Sequence[tuple[str, int]],
        owner: str,
        now: datetime,
        until: datetime,
    ) -> list[Due]:
        """Record outcomes, and lease what is to be sent next, in one transaction.

        What is leased to another by now is left alone.

        Args:
            outcomes: of what this owner has leased.
            queues: names, each with how many deliveries of it at most.
            owner: who sends.
            now: the current time.
            until: the end of the lease.
        """
        ...

    def figures(self) -> OutboxFigures:
        """How the outbox stands."""
        ...

    def purge(self, before: datetime, now: datetime) -> int:
        """Delete events from before, with their deliveries; how many there were.

        What has waited for more than a day, for example since its endpoint was disabled, is dead.
        """
        ...

    def move_mark(self, name: str, value: str, event: NewEvent | None, now: datetime) -> bool:
        """Note the value of something that changes; whether it changed.

        The event is kept in the same transaction, once for all replicas. The first value of all is
        noted without an event.
        """
        ...


@runtime_checkable
class WebhookSender(Protocol):
    """Sends to receivers; lives in one event loop."""

    @property
    def places(self) -> int:
        """To how many receivers it can send at once."""
        ...

    async def send(self, due: Due, *, proven: bool = False) -> Answer:
        """Send one delivery, signed. Never raises: what went wrong is in the answer.

        Args:
            due: the delivery.
            proven: whether its receiver answered lately; others do not hold it up.
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
