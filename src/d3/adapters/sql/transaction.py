"""Writing within one transaction: entries, idempotency keys and the request log."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from d3.adapters.sql.inserts import insert_into, insert_records
from d3.adapters.sql.outbox import add_results
from d3.adapters.sql.rows import log_row_of
from d3.adapters.sql.tables import IdempotencyRow
from d3.domain.errors import IdempotencyKeyReused, RequestInFlight, ReservationLost
from d3.domain.history import NewEntry, RequestRecord
from d3.domain.idempotency import KEPT, LEASE, IdempotencyKey, Reservation, StoredAnswer

_K = IdempotencyRow


class SqlTransaction:
    """Implements ``HistoryTransaction`` on an open transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add_many(self, entries: Sequence[NewEntry]) -> list[int]:
        return add_results(self._connection, entries)

    def log_many(self, records: Sequence[RequestRecord]) -> None:
        insert_records(self._connection, [log_row_of(record) for record in records])

    def reserve(self, key: IdempotencyKey, now: datetime) -> Reservation | StoredAnswer:
        mine = {
            "request_hash": key.request_hash,
            "token": secrets.token_hex(16),
            "answer": None,
            "first_id": None,
            "last_id": None,
            "created_at": now,
            "expires_at": now + LEASE,
        }
        # One statement takes a free key or one that has expired; of two at once, one gets it.
        taken = self._connection.scalar(
            insert_into(self._connection, _K)
            .values(owner=key.owner, key=key.key, **mine)
            .on_conflict_do_update(
                index_elements=[_K.owner, _K.key], set_=mine, where=_K.expires_at <= now
            )
            .returning(_K.token)
        )
        if taken is not None:
            return Reservation(key.owner, key.key, taken)
        there = self._connection.execute(
            sa.select(_K.request_hash, _K.answer, _K.expires_at).where(*_named(key))
        ).one()
        if there.request_hash != key.request_hash:
            raise IdempotencyKeyReused(
                "This idempotency key was used for another request.",
                "Use a new key for each new request.",
            )
        if there.answer is None:
            raise RequestInFlight(
                "The same request is being answered right now.",
                "Wait for its answer, or send it again in a moment.",
                retry_after=(there.expires_at - now).total_seconds(),
            )
        return StoredAnswer(bytes(there.answer))

    def renew(self, reservations: Sequence[Reservation], now: datetime) -> None:
        tokens = [reservation.token for reservation in reservations]
        if tokens:
            held = (_K.token.in_(tokens), _K.answer.is_(None))
            self._connection.execute(sa.update(_K).where(*held).values(expires_at=now + LEASE))

    def complete(
        self, reservation: Reservation, body: bytes, ids: Sequence[int], now: datetime
    ) -> None:
        told_of = {"first_id": min(ids), "last_id": max(ids)} if ids else {}
        kept = self._connection.execute(
            sa.update(_K)
            .where(*_held(reservation))
            .values(answer=body, expires_at=now + KEPT, **told_of)
        )
        if kept.rowcount != 1:
            raise ReservationLost(
                "This request took so long that another request with the same key replaced it.",
                "Send it again to get the answer of that request.",
            )

    def release(self, reservation: Reservation) -> None:
        self._connection.execute(sa.delete(_K).where(*_held(reservation)))

    def purge(self, now: datetime) -> int:
        return self._connection.execute(sa.delete(_K).where(_K.expires_at <= now)).rowcount


def _named(key: IdempotencyKey | Reservation) -> tuple[sa.ColumnElement[bool], ...]:
    return (_K.owner == key.owner, _K.key == key.key)


def _held(reservation: Reservation) -> tuple[sa.ColumnElement[bool], ...]:
    return (*_named(reservation), _K.token == reservation.token, _K.answer.is_(None))
