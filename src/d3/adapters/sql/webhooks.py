"""Webhooks in a database: who is told, and what was sent to whom."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from d3.adapters.sql.engine import Database
from d3.adapters.sql.inserts import insert_deliveries, insert_events
from d3.adapters.sql.outbox import delivery_row, event_row, literal
from d3.adapters.sql.tables import User, WebhookDelivery, WebhookEvent, WebhookRow
from d3.domain.errors import UserNotFound, WebhookLimitReached
from d3.domain.history import LARGEST_ID, in_utc
from d3.domain.scoring import Verdict
from d3.domain.webhooks import (
    MOST_WEBHOOKS,
    ROTATION_OVERLAP,
    Delivery,
    DeliveryState,
    Due,
    EventType,
    IssuedWebhook,
    NewEvent,
    NewWebhook,
    Webhook,
    new_secret,
    no_delivery,
    no_webhook,
)

_W, _E, _D = WebhookRow, WebhookEvent, WebhookDelivery
_WEBHOOK = (
    *(_W.id, _W.user_id, _W.name, _W.url, _W.events, _W.verdicts, _W.everyone, _W.enabled),
    *(_W.trouble, _W.failures, _W.answered_at, _W.created_at),
)
_DELIVERY = (
    *(_D.id, _D.webhook_id, _D.user_id, sa.func.coalesce(_D.url, _W.url).label("url")),
    *(_E.event_id, _E.type, _E.created_at, _D.state, _D.attempts, _D.next_at, _D.tried_at),
    *(_D.status, _D.trouble),
)


class SqlWebhooks:
    """Implements ``Webhooks``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, new: NewWebhook, user_id: int | None, now: datetime) -> IssuedWebhook:
        secret = new_secret()
        with self._database.writing() as connection:
            if user_id is not None:  # locked, so that of two at once one waits
                owner = sa.select(User.id).where(User.id == user_id).with_for_update()
                if not _possible(user_id) or connection.scalar(owner) is None:
                    raise UserNotFound(
                        f"There is no user {user_id}.", "`d3 users list` shows every account."
                    )
            mine = sa.select(sa.func.count()).where(_owned(_W.user_id, user_id))
            if (connection.scalar(mine) or 0) >= MOST_WEBHOOKS:
                raise WebhookLimitReached(
                    f"There are already {MOST_WEBHOOKS} webhooks of this user, which is the "
                    "maximum.",
                    "Remove one first.",
                )
            row = connection.execute(
                sa.insert(_W)
                .values(
                    user_id=user_id,
                    enabled=True,
                    failures=0,
                    secret=secret,
                    created_at=in_utc(now),
                    **_asked(new),
                )
                .returning(*_WEBHOOK)
            ).one()
        return IssuedWebhook(_webhook_of(row), secret)

    def webhooks(self, user_id: int | None, *, everyone: bool = False) -> list[Webhook]:
        asked = sa.select(*_WEBHOOK).order_by(_W.id)
        if not everyone:
            asked = asked.where(_owned(_W.user_id, user_id))
        with self._database.reading() as connection:
            return [_webhook_of(row) for row in connection.execute(asked)]

    def get(self, id_: int) -> Webhook:
        with self._database.reading() as connection:
            row = connection.execute(sa.select(*_WEBHOOK).where(_one(id_))).one_or_none()
        if row is None:
            raise no_webhook(id_)
        return _webhook_of(row)

    def change(self, id_: int, new: NewWebhook) -> Webhook:
        return self._update(id_, _asked(new))

    def enable(self, id_: int, *, enabled: bool) -> Webhook:
        # An endpoint that is enabled again is tried at once.
        fresh = {"failures": 0, "trouble": None, "rest_until": None} if enabled else {}
        return self._update(id_, {"enabled": enabled} | fresh)

    def rotate(self, id_: int, now: datetime) -> IssuedWebhook:
        secret = new_secret()
        until = in_utc(now) + ROTATION_OVERLAP
        values = {"secret": secret, "old_secret": _W.secret, "old_secret_until": until}
        return IssuedWebhook(self._update(id_, values), secret)

    def remove(self, id_: int) -> None:
        with self._database.writing() as connection:
            # What was kept for it alone goes too.
            if connection.execute(sa.delete(_W).where(_one(id_))).rowcount != 1:
                raise no_webhook(id_)

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
        asked = _deliveries().order_by(_D.id.desc()).limit(limit)
        if not everyone:
            asked = asked.where(_owned(_D.user_id, user_id))
        if webhook_id is not None:
            asked = asked.where(_D.webhook_id == webhook_id)
        if state is not None:
            asked = asked.where(_D.state == literal(state))
        if before is not None:
            asked = asked.where(_D.id < min(before, LARGEST_ID))
        with self._database.reading() as connection:
            return [_delivery_of(row) for row in connection.execute(asked)]

    def delivery(self, id_: int) -> Delivery:
        with self._database.reading() as connection:
            return _delivery(connection, id_)

    def resend(self, id_: int, now: datetime) -> Delivery:
        again = {
            "state": DeliveryState.WAITING.value,
            "attempts": 0,
            "since": in_utc(now),
            "next_at": in_utc(now),
        }
        with self._database.writing() as connection:
            connection.execute(
                sa.update(_D).where(_D.id == id_ if _possible(id_) else sa.false()).values(**again)
            )
            return _delivery(connection, id_)

    def begin_test(self, id_: int, event: NewEvent, owner: str, until: datetime) -> Due:
        with self._database.writing() as connection:
            found = connection.execute(
                sa.select(_W.user_id, _W.url, _W.secret, _W.failures).where(_one(id_))
            ).one_or_none()
            if found is None:
                raise no_webhook(id_)
            row = event_row(event)
            (of,) = insert_events(connection, [row])
            # A queue of its own: a test does not wait for what went before, nor holds it up.
            mine = {
                "event": of,
                "webhook_id": id_,
                "user_id": found.user_id,
                "queue": f"test {id_}",
                "owner": owner,
                "owner_until": until,
            }
            (delivery,) = insert_deliveries(connection, [delivery_row(event) | mine])
        return Due(
            id=delivery,
            queue=mine["queue"],
            webhook_id=id_,
            event_id=row["event_id"],
            url=found.url,
            body=row["body"],
            secrets=(found.secret,),
            attempts=0,
            failures=found.failures,
            since=event.at,
            once=True,
        )

    def _update(self, id_: int, values: dict[str, Any]) -> Webhook:
        with self._database.writing() as connection:
            row = connection.execute(
                sa.update(_W).where(_one(id_)).values(**values).returning(*_WEBHOOK)
            ).one_or_none()
        if row is None:
            raise no_webhook(id_)
        return _webhook_of(row)


def _possible(id_: int) -> bool:
    return 1 <= id_ <= LARGEST_ID


def _one(id_: int) -> sa.ColumnElement[bool]:
    return _W.id == id_ if _possible(id_) else sa.false()


def _owned(column: Any, user_id: int | None) -> sa.ColumnElement[bool]:
    owned: sa.ColumnElement[bool] = column.is_(None) if user_id is None else column == user_id
    return owned


def _asked(new: NewWebhook) -> dict[str, Any]:
    """What a row has of what was asked for."""
    return {
        "name": new.name,
        "url": new.url,
        "events": " ".join(new.events),
        "verdicts": " ".join(new.verdicts),
        "everyone": new.everyone,
    }


def _webhook_of(row: Any) -> Webhook:
    return Webhook(
        id=row.id,
        user_id=row.user_id,
        name=row.name,
        url=row.url,
        events=tuple(map(EventType, row.events.split())),
        verdicts=tuple(map(Verdict, row.verdicts.split())),
        everyone=row.everyone,
        enabled=row.enabled,
        trouble=row.trouble,
        failures=row.failures,
        answered_at=row.answered_at,
        created_at=row.created_at,
    )


def _deliveries() -> sa.Select[*tuple[Any, ...]]:
    return sa.select(*_DELIVERY).join(_E, _E.id == _D.event).outerjoin(_W, _W.id == _D.webhook_id)


def _delivery(connection: sa.Connection, id_: int) -> Delivery:
    asked = _deliveries().where(_D.id == id_ if _possible(id_) else sa.false())
    row = connection.execute(asked).one_or_none()
    if row is None:
        raise no_delivery(id_)
    return _delivery_of(row)


def _delivery_of(row: Any) -> Delivery:
    return Delivery(**{**row._mapping, "state": DeliveryState(row.state)})  # noqa: SLF001  public
