"""The outbox of webhooks: written in the transaction of what happened, so that nothing is lost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy import orm

from d3.adapters.sql.engine import Database
from d3.adapters.sql.inserts import (
    insert_deliveries,
    insert_entries,
    insert_events,
    insert_into,
)
from d3.adapters.sql.rows import row_of
from d3.adapters.sql.tables import User, WebhookDelivery, WebhookEvent, WebhookMark, WebhookRow
from d3.adapters.sql.types import UtcDateTime
from d3.domain.history import HistoryEntry, NewEntry
from d3.domain.services.export import document
from d3.domain.webhooks import (
    GIVEN_UP_AFTER,
    OF_THE_SERVICE,
    DeliveryState,
    Due,
    EventType,
    NewEvent,
    OutboxFigures,
    Outcome,
    Queue,
    new_event_id,
)

_W, _E, _D, _M = WebhookRow, WebhookEvent, WebhookDelivery, WebhookMark
_NOTED = ("state", "next_at", "tried_at", "status", "trouble")
_DELETED_AT_ONCE = 1000
_ENTRY = tuple(one.name for one in fields(NewEntry))


@dataclass(frozen=True, slots=True)
class Asking:
    """An endpoint that is to be told of some events.

    Attributes:
        id: of the endpoint.
        user_id: its owner.
        events: the types it asks for.
        verdicts: of results; all if empty.
        everyone: whether it gets every user's.
    """

    id: int
    user_id: int | None
    events: frozenset[str]
    verdicts: frozenset[str]
    everyone: bool

    def wants(self, event: NewEvent) -> bool:
        """Whether it is to be told of this event."""
        return event.type in self.events and (
            # Only administrators can ask for what is the service's own.
            event.type in OF_THE_SERVICE
            or (
                (self.everyone or event.user_id == self.user_id)
                and (not self.verdicts or event.verdict is None or event.verdict in self.verdicts)
            )
        )


def add_results(connection: sa.Connection, entries: Sequence[NewEntry]) -> list[int]:
    """Insert results, and keep what is to be told of them; their ids, in order."""
    types = frozenset({EventType.RESULT_CREATED})
    rows = [row_of(entry) for entry in entries]
    ids, perhaps = insert_entries.asking(connection, rows, _who_asks(types))
    if perhaps and (asking := _asking(connection, types)):
        _record(connection, list(_created(entries, ids, asking)), asking)
    return ids


def record_events(connection: sa.Connection, events: Sequence[NewEvent]) -> None:
    """Keep a delivery of each event for each endpoint that asks for it, and for its callback."""
    if events:
        _record(connection, events, _asking(connection, frozenset(one.type for one in events)))


def queue_of(webhook_id: int) -> str:
    """The name of an endpoint's queue."""
    return f"webhook {webhook_id}"


def callback_queue(user_id: int | None, url: str) -> str:
    """The name of the queue of a user's callbacks to one server."""
    server = urlsplit(url).netloc.lower()
    return f"callback {hashlib.sha256(f'{user_id} {server}'.encode()).hexdigest()[:32]}"


def body_of(event: NewEvent) -> str:
    """What is sent of it: JSON in ASCII, so that names of any kind can be stored and signed."""
    said = {"type": event.type.value, "timestamp": event.at.isoformat(), "data": event.data}
    return json.dumps(said, separators=(",", ":"))


def _asking(connection: sa.Connection, types: frozenset[EventType]) -> Sequence[Asking]:
    """The endpoints that ask for one of these types; their owners may not be disabled."""
    return [
        Asking(
            id=row.id,
            user_id=row.user_id,
            events=frozenset(row.events.split()),
            verdicts=frozenset(row.verdicts.split()),
            everyone=row.everyone,
        )
        for row in connection.execute(_who_asks(types))
    ]


@cache
def _who_asks(types: frozenset[EventType]) -> sa.Select[Any]:
    """Made once: it is part of every transaction that stores results."""
    webhooks, users = WebhookRow.__table__, User.__table__
    its = webhooks.c
    return (
        sa.select(its.id, its.user_id, its.events, its.verdicts, its.everyone)
        .select_from(webhooks.outerjoin(users, users.c.id == its.user_id))
        .where(
            its.enabled == sa.true(),
            sa.or_(*(its.events.contains(one.value) for one in sorted(types))),
            sa.or_(its.user_id.is_(None), users.c.is_active == sa.true()),
        )
    )


def _created(
    entries: Sequence[NewEntry], ids: Sequence[int], asking: Sequence[Asking]
) -> Iterator[NewEvent]:
    """An event for each result that somebody asks for."""
    for entry, id_ in zip(entries, ids, strict=True):
        event = NewEvent(
            type=EventType.RESULT_CREATED,
            data={},
            at=entry.created_at,
            user_id=entry.user_id,
            verdict=entry.verdict.value,
            result_id=id_,
        )
        if any(one.wants(event) for one in asking):
            kept = HistoryEntry(id=id_, **{name: getattr(entry, name) for name in _ENTRY})
            yield replace(event, data=document(kept))


def _record(
    connection: sa.Connection, events: Sequence[NewEvent], asking: Sequence[Asking]
) -> None:
    told = [(event, list(_deliveries(event, asking))) for event in events]
    told = [(event, deliveries) for event, deliveries in told if deliveries]
    ids = insert_events(connection, [event_row(event) for event, _ in told])
    insert_deliveries(
        connection,
        [
            one | {"event": id_}
            for id_, (_, deliveries) in zip(ids, told, strict=True)
            for one in deliveries
        ],
    )


def _deliveries(event: NewEvent, asking: Sequence[Asking]) -> Iterator[dict[str, Any]]:
    """The rows of an event's deliveries, without the event."""
    for one in asking:
        if one.wants(event):
            yield delivery_row(event) | {
                "webhook_id": one.id,
                "user_id": one.user_id,
                "queue": queue_of(one.id),
            }
    if (callback := event.callback) is not None:
        yield delivery_row(event) | {
            "user_id": event.user_id,
            "queue": callback_queue(event.user_id, callback.url),
            "url": callback.url,
            "secret": callback.secret,
        }


def event_row(event: NewEvent) -> dict[str, Any]:
    """The row of an event, all but its id."""
    return {
        "event_id": new_event_id(),
        "type": event.type.value,
        "result_id": event.result_id,
        "body": body_of(event),
        "created_at": event.at,
    }


def delivery_row(event: NewEvent) -> dict[str, Any]:
    """A row of a delivery that is due at once, for nobody yet."""
    empty = ("webhook_id", "url", "secret", "owner", "owner_until", "tried_at", "status", "trouble")
    return dict.fromkeys(empty) | {
        "state": DeliveryState.WAITING.value,
        "attempts": 0,
        "since": event.at,
        "next_at": event.at,
    }


class SqlOutbox:
    """Implements ``Outbox``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def queues(self, now: datetime) -> list[Queue]:
        with self._database.reading() as connection:
            _plan_anew(connection)
            return [
                Queue(
                    name=row.name,
                    proven=row.failures == 0 and row.answered_at is not None,
                    failures=row.failures or 0,
                )
                for row in connection.execute(_queues(), {"now": now})
            ]

    def exchange(
        self,
        outcomes: Sequence[Outcome],
        queues: Sequence[tuple[str, int]],
        owner: str,
        now: datetime,
        until: datetime,
    ) -> list[Due]:
        if not outcomes and not queues:
            return []
        with self._database.writing() as connection:
            _plan_anew(connection)
            _note_outcomes(connection, outcomes, owner)
            # In one order everywhere, so that two replicas never wait for each other.
            lease = {"me": owner, "now": now, "until": until}
            leased = [
                id_
                for name, most in sorted(queues)
                for id_ in connection.scalars(_lease(), lease | {"name": name, "most": most})
            ]
            return _due(connection, leased, now)

    def figures(self) -> OutboxFigures:
        due = sa.case((_W.rest_until > _D.next_at, _W.rest_until), else_=_D.next_at)
        waiting = (
            sa.select(sa.func.count(), sa.func.min(due))
            .select_from(_D)
            .outerjoin(_W, _W.id == _D.webhook_id)
            .outerjoin(User, User.id == _D.user_id)
            .where(_waiting(_D), *_wanted(_D))
        )
        dead = (
            sa.select(sa.func.count())
            .select_from(_D)
            .join(_E, _E.id == _D.event)
            .where(_D.state == literal(DeliveryState.DEAD), _E.type != EventType.TEST.value)
        )
        with self._database.reading() as connection:
            number, oldest = connection.execute(waiting).one()
            dead_ones = connection.scalar(dead) or 0
        return OutboxFigures(waiting=number, dead=dead_ones, oldest_due=oldest)

    def purge(self, before: datetime, now: datetime) -> int:
        lost = {
            "state": DeliveryState.DEAD.value,
            "next_at": None,
            "trouble": sa.func.coalesce(_D.trouble, "It waited for more than a day."),
        }
        free = sa.or_(_D.owner.is_(None), _D.owner_until <= now)
        over = (_waiting(_D), _D.since < now - GIVEN_UP_AFTER, free)
        old = sa.select(_E.id).where(_E.created_at < before).limit(_DELETED_AT_ONCE)
        gone = 0
        with self._database.writing() as connection:
            connection.execute(sa.update(_D).where(*over).values(**lost))
        while True:
            with self._database.writing() as connection:
                some = connection.execute(sa.delete(_E).where(_E.id.in_(old))).rowcount
            gone += some
            if some < _DELETED_AT_ONCE:
                return gone

    def move_mark(self, name: str, value: str, event: NewEvent | None, now: datetime) -> bool:
        known = sa.select(_M.value).where(_M.name == name)
        with self._database.reading() as connection:
            if connection.scalar(known) == value:
                return False
        values = {"value": value, "moved_at": now}
        with self._database.writing() as connection:
            last = connection.scalar(known.with_for_update())
            if last == value:
                return False
            if last is None:
                first = insert_into(connection, _M).values(name=name, **values)
                connection.execute(first.on_conflict_do_nothing())
                return False
            connection.execute(sa.update(_M).where(_M.name == name).values(**values))
            if event is not None:
                record_events(connection, [event])
        return True


def _plan_anew(connection: sa.Connection) -> None:
    """Have PostgreSQL look at how large the outbox is; it may fill within seconds.

    Else it goes on with a plan of a time when reading all of it was the quickest way.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_custom_plan")


def literal(state: DeliveryState) -> sa.ColumnElement[str]:
    """The state in the words of its index."""
    return sa.literal_column(f"'{state.value}'")


def _waiting(table: Any) -> sa.ColumnElement[bool]:
    waiting: sa.ColumnElement[bool] = table.state == literal(DeliveryState.WAITING)
    return waiting


def _wanted(delivery: Any) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    """Neither its endpoint nor its owner is disabled; both are joined."""
    return (
        sa.or_(_W.id.is_(None), _W.enabled == sa.true()),
        sa.or_(delivery.user_id.is_(None), User.is_active == sa.true()),
    )


def _held(queue: Any) -> sa.ColumnElement[bool]:
    """Whether somebody sends something of this queue."""
    one = orm.aliased(_D)
    return sa.exists().where(one.queue == queue, one.owner.is_not(None), one.owner_until > _NOW)


# Statements that are run often are made once: to make one takes longer than to run it.
_NOW = sa.bindparam("now", type_=UtcDateTime())


@cache
def _queues() -> sa.Select[Any]:
    """From one queue to the next in the index, however much waits in each."""
    names = sa.select(sa.func.min(_D.queue).label("name")).where(_waiting(_D)).cte(recursive=True)
    behind = sa.select(sa.func.min(_D.queue)).where(_waiting(_D), _D.queue > names.c.name)
    further = sa.select(behind.scalar_subquery()).where(names.c.name.is_not(None))
    names = names.union_all(further)
    head = (
        sa.select(_D.id)
        .where(_waiting(_D), _D.queue == names.c.name, _D.next_at <= _NOW)
        .order_by(_D.next_at, _D.id)
        .limit(1)
        .correlate(names)
        .scalar_subquery()
    )
    first = orm.aliased(_D)
    return (
        sa.select(names.c.name, _W.failures, _W.answered_at)
        .select_from(names)
        .join(first, first.id == head)
        .outerjoin(_W, _W.id == first.webhook_id)
        .outerjoin(User, User.id == first.user_id)
        .where(
            *_wanted(first),
            sa.or_(_W.rest_until.is_(None), _W.rest_until <= _NOW),
            ~_held(names.c.name),
        )
        .order_by(first.next_at, first.id)
    )


@cache
def _lease() -> sa.sql.dml.ReturningUpdate[int]:
    """Lease the first deliveries of a queue that are due, unless somebody sends of it.

    PostgreSQL looks at the outer conditions again after it has waited for another replica.
    """
    table = WebhookDelivery.__table__
    assert isinstance(table, sa.Table)
    some, its = table.alias(), table.c
    name = sa.bindparam("name", type_=its.queue.type)
    first = (
        sa.select(some.c.id)
        .where(_waiting(some.c), some.c.queue == name, some.c.next_at <= _NOW)
        .order_by(some.c.next_at, some.c.id)
        .limit(sa.bindparam("most", type_=sa.Integer()))
    )
    free = sa.or_(its.owner.is_(None), its.owner_until <= _NOW)
    return (
        sa.update(table)
        .where(its.id.in_(first), _waiting(its), free, ~_held(name))
        .values(owner=sa.bindparam("me"), owner_until=sa.bindparam("until"))
        .returning(its.id)
    )


def _due(connection: sa.Connection, ids: Sequence[int], now: datetime) -> list[Due]:
    """What is to be sent of leased deliveries, in order."""
    asked = (
        sa.select(
            *(_D.id, _D.queue, _D.webhook_id, _D.attempts, _D.since, _E.event_id, _E.body),
            *(_W.failures, _W.old_secret, _W.old_secret_until),
            sa.func.coalesce(_D.url, _W.url).label("url"),
            sa.func.coalesce(_D.secret, _W.secret).label("secret"),
        )
        .join(_E, _E.id == _D.event)
        .outerjoin(_W, _W.id == _D.webhook_id)
        .where(_D.id.in_(ids))
    )
    found = {row.id: row for row in connection.execute(asked)} if ids else {}
    return [
        Due(
            id=row.id,
            queue=row.queue,
            webhook_id=row.webhook_id,
            event_id=row.event_id,
            url=row.url,
            body=row.body,
            secrets=(
                (row.secret, row.old_secret)
                if row.old_secret_until is not None and row.old_secret_until > now
                else (row.secret,)
            ),
            attempts=row.attempts,
            failures=row.failures or 0,
            since=row.since,
        )
        for row in map(found.__getitem__, sorted(found))
    ]


def _note_outcomes(connection: sa.Connection, outcomes: Sequence[Outcome], owner: str) -> None:
    """Keep what became of deliveries that this owner still has, and of their endpoints."""
    back = [{"one": one.due.id, "me": owner} for one in outcomes if one.at is None]
    if back:
        connection.execute(_given_back(), back)
    tried = [one for one in outcomes if one.at is not None]
    if not tried:
        return
    connection.execute(_tried(), [{"one": o.due.id, "me": owner} | _noted(o) for o in tried])
    last = {one.due.webhook_id: one for one in tried if one.due.webhook_id is not None}
    for well in (True, False):
        seen = [
            {"one": id_, "its_at": one.at, "its_rest": one.rest_until}
            | {"its_trouble": one.answer.trouble}
            for id_, one in sorted(last.items())
            if (one.state is DeliveryState.SENT) is well
        ]
        if seen:
            connection.execute(_seen(well), seen)
    if gone := [one.due.webhook_id for one in tried if one.gone]:
        connection.execute(sa.update(_W).where(_W.id.in_(gone)).values(enabled=False))


@cache
def _given_back() -> sa.Update:
    table = WebhookDelivery.__table__
    assert isinstance(table, sa.Table)
    mine = (table.c.id == sa.bindparam("one"), table.c.owner == sa.bindparam("me"))
    return sa.update(table).where(*mine).values(owner=None, owner_until=None)


@cache
def _tried() -> sa.Update:
    columns = WebhookDelivery.__table__.c
    values = {name: sa.bindparam(f"its_{name}", type_=columns[name].type) for name in _NOTED}
    return _given_back().values(attempts=columns.attempts + 1, **values)


def _noted(one: Outcome) -> dict[str, Any]:
    answer = one.answer
    values = (one.state.value, one.next_at, one.at, answer.status, answer.trouble)
    return {f"its_{name}": value for name, value in zip(_NOTED, values, strict=True)}


@cache
def _seen(well: bool) -> sa.Update:  # noqa: FBT001  as it is cached
    """What the last attempt says of an endpoint."""
    table = WebhookRow.__table__
    assert isinstance(table, sa.Table)
    moment = table.c.answered_at.type
    values: dict[str, Any]
    if well:
        values = {"failures": 0, "trouble": None, "rest_until": None}
        values |= {"answered_at": sa.bindparam("its_at", type_=moment)}
    else:
        values = {"failures": table.c.failures + 1, "trouble": sa.bindparam("its_trouble")}
        values |= {"rest_until": sa.bindparam("its_rest", type_=moment)}
    return sa.update(table).where(table.c.id == sa.bindparam("one")).values(**values)
