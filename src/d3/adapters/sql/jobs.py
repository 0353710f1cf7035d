"""The ledger of jobs in SQLite or PostgreSQL.

Whatever changes a shard and what belongs to it locks in one order: items, shard, job.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from d3.adapters.sql.engine import Database
from d3.adapters.sql.inserts import from_arrays
from d3.adapters.sql.job_rows import (
    COUNTS,
    MAX_ERROR,
    columns_of,
    event_of,
    item_of,
    item_row,
    job_of,
    outcome_row,
    shard_row,
)
from d3.adapters.sql.leases import ShardLeases
from d3.adapters.sql.outbox import record_events
from d3.adapters.sql.rows import COLUMNS
from d3.adapters.sql.tables import InferenceResult, JobEntry, JobItemRow, JobShardRow
from d3.adapters.sql.transaction import SqlTransaction
from d3.domain.errors import JobNotFound, SpoolFull
from d3.domain.history import NewEntry
from d3.domain.idempotency import Reservation
from d3.domain.jobs import (
    ItemOutcome,
    ItemPlace,
    ItemState,
    Job,
    JobCounts,
    JobItem,
    JobShard,
    JobState,
    JobTotals,
    NewItem,
    NewJob,
    NewShard,
    ShardProgress,
    counted,
)
from d3.domain.ports.jobs import Spooled
from d3.domain.text import storable

_J, _H, _I = JobEntry, JobShardRow, JobItemRow
_LEASES = ShardLeases(JobShardRow)
_RECEIVING = "receiving"
"""The state of a job whose files are not all there yet; nobody is shown it."""

_SHOWN = _J.state != _RECEIVING
_RUNNING = _J.state == JobState.RUNNING.value
_OPEN = _J.state.in_([_RECEIVING, JobState.RUNNING.value])
_DELETED_AT_ONCE = 5000
_INSERTED_AT_ONCE = 1000
_SPOOLING = 0x6433_5350_4F4F_4C00  # "d3SPOOL"
_NOBODY = ""
"""Holds a shard that is left alone for a while."""

_HELD = sa.and_(_LEASES.open, _H.owner.is_not(None), _H.owner != _NOBODY)
_HELD_BY_OTHERS = sa.exists().where(_H.job_id == _J.id, _HELD)


class SqlJobLedger:
    """Implements ``JobLedger``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, new: NewJob) -> int:
        values = columns_of(new) | dict.fromkeys((*COUNTS, "open_shards", "spooled_bytes"), 0)
        insert = sa.insert(_J).values(state=_RECEIVING, cleared=new.spool is None, **values)
        with self._database.writing() as connection:
            return connection.execute(insert.returning(_J.id)).scalar_one()

    def grow(self, job_id: int, more_bytes: int, limit: int) -> None:
        with self._database.writing() as connection:
            if not self._database.is_sqlite:  # one after another, or two would take the same room
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SPOOLING)))
            spool = sa.select(_J.spool).where(_J.id == job_id).scalar_subquery()
            held = sa.select(sa.func.coalesce(sa.func.sum(_J.spooled_bytes), 0))
            used = connection.scalar(held.where(_OPEN, _J.spool == spool)) or 0
            if used + more_bytes > limit:
                raise SpoolFull(
                    "There is no room for more files that wait to be judged.",
                    "Try again when running jobs are further on, or raise D3_SPOOL_BYTES.",
                    retry_after=30,
                )
            more = _J.spooled_bytes + more_bytes
            connection.execute(sa.update(_J).where(_J.id == job_id).values(spooled_bytes=more))

    def start(
        self,
        job_id: int,
        new: NewJob,
        shards: Sequence[NewShard],
        now: datetime,
        *,
        refused: Sequence[NewItem] = (),
        answer: tuple[Reservation, Callable[[Job], bytes]] | None = None,
    ) -> Job:
        number = len(refused) + sum(len(one.items) for one in shards)
        job = Job(
            **{one.name: getattr(new, one.name) for one in fields(NewJob)},
            id=job_id,
            state=JobState.RUNNING if shards else JobState.DONE,
            finished_at=None if shards else now,
            counts=JobCounts(items=number, error=len(refused)),
        )
        values = columns_of(new) | {
            "state": job.state.value,
            "finished_at": job.finished_at,
            "items": number,
            "error": len(refused),
            "open_shards": len(shards),
            "spooled_bytes": sum(one.size_bytes for one in shards),
        }
        with self._database.writing() as connection:
            connection.execute(sa.update(_J).where(_J.id == job_id).values(values))
            if shards:
                first = _turn_now(connection)
                rows = [shard_row(job_id, one, first + one.number) for one in shards]
                connection.execute(sa.insert(_H), rows)
            items = [item_row(job_id, None, item) for item in refused]
            items += [item_row(job_id, one.number, item) for one in shards for item in one.items]
            for start in range(0, len(items), _INSERTED_AT_ONCE):
                connection.execute(sa.insert(_I), items[start : start + _INSERTED_AT_ONCE])
            if not shards:
                record_events(connection, [event_of(job, now)])
            if answer is not None:
                reservation, body = answer
                SqlTransaction(connection).complete(reservation, body(job), (), now)
        return job

    def forget(self, job_id: int) -> None:
        numbers = sa.select(_I.number).where(_I.job_id == job_id).limit(_DELETED_AT_ONCE)
        some = sa.delete(_I).where(_I.job_id == job_id, _I.number.in_(numbers))
        while True:
            with self._database.writing() as connection:
                if connection.execute(some).rowcount == _DELETED_AT_ONCE:
                    continue
                connection.execute(sa.delete(_J).where(_J.id == job_id))
                return

    def get(self, name: str, user_id: int | None = None) -> Job:
        with self._database.reading() as connection:
            return _get(connection, name, user_id)

    def newest(self, limit: int = 50, offset: int = 0, user_id: int | None = None) -> list[Job]:
        asked = sa.select(_J.__table__).where(_SHOWN).order_by(_J.id.desc())
        if user_id is not None:
            asked = asked.where(_J.user_id == user_id)
        with self._database.reading() as connection:
            return [job_of(one) for one in connection.execute(asked.limit(limit).offset(offset))]

    def items(self, job_id: int, after: int = 0, limit: int = 500) -> list[JobItem]:
        results = InferenceResult.__table__
        own = (_I.number, _I.name, _I.external_id, _I.state, _I.result_id, _I.error, _I.code)
        asked = (
            sa.select(*COLUMNS, *(one.label(f"item_{one.key}") for one in own))
            .select_from(sa.outerjoin(_I, results, results.c.id == _I.result_id))
            .where(_I.job_id == job_id, _I.number > after)
            .order_by(_I.number)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [item_of(row) for row in connection.execute(asked)]

    def claim(
        self,
        owner: str,
        places: Collection[ItemPlace],
        spools: Collection[str],
        now: datetime,
        until: datetime,
    ) -> JobShard | None:
        seen = sa.or_(_H.place != ItemPlace.SPOOL.value, _J.spool.in_(list(spools)))
        asked = (
            sa.select(_H.job_id, _H.number, _H.place, _H.owner_until, _H.claims)
            .join(_J, _J.id == _H.job_id)
            .where(_RUNNING, _H.place.in_([one.value for one in places]), seen)
            .order_by(_H.turn, _H.job_id)
        )
        with self._database.reading() as connection:  # most of the time there is none
            if connection.execute(asked.where(_LEASES.free(now)).limit(1)).first() is None:
                return None
        with self._database.writing() as connection:
            more = {"claims": _H.claims + 1}
            found = _LEASES.claim(connection, asked, owner, now, until, **more)
            if found is None:
                return None
            this = (_J.id == found.job_id, _J.trouble.is_not(None))
            connection.execute(sa.update(_J).where(*this).values(trouble=None))
            job = connection.execute(sa.select(_J.__table__).where(_J.id == found.job_id)).one()
            items = connection.execute(_waiting(found.job_id, found.number)).all()
        return JobShard(
            job=job_of(job),
            number=found.number,
            place=ItemPlace(found.place),
            items=tuple(
                NewItem(
                    number=one.number,
                    name=one.name,
                    external_id=one.external_id,
                    source=one.source,
                    offset=one.offset,
                    size_bytes=one.size_bytes,
                )
                for one in items
            ),
            begun=found.owner_until is not None,
            claims=found.claims + 1,
        )

    def store(
        self,
        key: tuple[int, int],
        outcomes: Mapping[int, ItemOutcome],
        now: datetime,
    ) -> ShardProgress:
        job_id, shard = key
        with self._database.writing() as connection:
            locked = _waiting(job_id, shard).with_for_update()
            waiting = {one.number for one in connection.execute(locked)}
            new = {number: one for number, one in outcomes.items() if number in waiting}
            _settle_items(connection, job_id, new)
            left = waiting - new.keys()
            finished = sa.false() if left else _H.number == shard
            job = _count(connection, job_id, finished, counted(new), now)
        return ShardProgress(finished=not left, over=job is None or job.finished_at is not None)

    def put_off(self, key: tuple[int, int], owner: str, until: datetime, trouble: str) -> None:
        job_id, shard = key
        mine = (_H.job_id == job_id, _H.number == shard, _H.owner == owner, _LEASES.open)
        with self._database.writing() as connection:
            off = sa.update(_H).where(*mine).values(owner=_NOBODY, owner_until=until)
            if connection.execute(off).rowcount:
                said = sa.update(_J).where(_J.id == job_id, _RUNNING)
                connection.execute(said.values(trouble=storable(trouble, MAX_ERROR)))

    def renew(self, owner: str, until: datetime) -> None:
        with self._database.writing() as connection:
            _LEASES.renew(connection, owner, until)

    def held(self, owner: str) -> set[tuple[int, int]]:
        asked = sa.select(_H.job_id, _H.number).where(_H.owner == owner, _LEASES.open)
        with self._database.reading() as connection:
            return {(job_id, number) for job_id, number in connection.execute(asked)}

    def release(self, owners: Iterable[str]) -> None:
        with self._database.writing() as connection:
            _LEASES.release(connection, owners)

    def holders(self, now: datetime) -> set[str]:
        with self._database.reading() as connection:
            return _LEASES.holders(connection, now) - {_NOBODY}

    def note(self, trouble: str) -> None:
        said = sa.and_(_RUNNING, _J.trouble.is_(None), ~_HELD_BY_OTHERS)
        with self._database.reading() as connection:
            if connection.execute(sa.select(_J.id).where(said).limit(1)).first() is None:
                return
        with self._database.writing() as connection:
            text = storable(trouble, MAX_ERROR)
            connection.execute(sa.update(_J).where(said).values(trouble=text))

    def cancel(self, name: str, now: datetime, user_id: int | None = None) -> Job:
        with self._database.writing() as connection:
            job_id = _get(connection, name, user_id).id
            waiting = _I.job_id == job_id, _I.state == ItemState.WAITING.value
            items = sa.select(_I.number).where(*waiting).order_by(_I.number)
            connection.execute(items.with_for_update())  # nobody stores any of them now
            _LEASES.lock(connection, _H.job_id == job_id)
            changed = sa.update(_I).where(*waiting).values(state=ItemState.CANCELLED.value)
            counts = {"cancelled": connection.execute(changed).rowcount}
            _count(connection, job_id, sa.true(), counts, now, ended=JobState.CANCELLED)
            return _get(connection, name, user_id)

    def abandoned(self, before: datetime) -> list[Spooled]:
        return self._spooled(_J.state == _RECEIVING, _J.created_at < before)

    def uncleared(self) -> list[Spooled]:
        return self._spooled(_J.finished_at.is_not(None), _J.cleared == sa.false())

    def note_cleared(self, job_id: int) -> None:
        with self._database.writing() as connection:
            connection.execute(sa.update(_J).where(_J.id == job_id).values(cleared=True))

    def expired(self, now: datetime) -> list[Spooled]:
        return self._spooled(_SHOWN, _J.expires_at <= now)

    def _spooled(self, *where: sa.ColumnElement[bool]) -> list[Spooled]:
        asked = sa.select(_J.id, _J.name, _J.spool).where(*where).order_by(_J.id)
        with self._database.reading() as connection:
            return [Spooled(*one) for one in connection.execute(asked)]

    def totals(self) -> JobTotals:
        through = _J.fake + _J.real + _J.uncertain + _J.error + _J.cancelled
        asked = sa.select(
            sa.func.count().filter(_SHOWN),
            sa.func.coalesce(sa.func.sum(_J.items - through), 0),
            sa.func.coalesce(sa.func.sum(_J.spooled_bytes), 0),
        )
        with self._database.reading() as connection:
            found = connection.execute(asked.where(_OPEN)).one()
        return JobTotals(*map(int, found))


_SETTLED = ("state", "result_id", "error", "code")


def _settle_one() -> sa.Update:
    """What became of one item."""
    values: Any = {name: sa.bindparam(f"new_{name}") for name in _SETTLED}
    mine = _ITEMS.c.job_id == sa.bindparam("job"), _ITEMS.c.number == sa.bindparam("item")
    return sa.update(_ITEMS).where(*mine).values(values)


def _settle_all() -> sa.Update:
    """What became of many, in one statement: they are found at once, however many there are."""
    named = (_ITEMS.c[name].label(f"new_{name}") for name in ("number", *_SETTLED))
    given = from_arrays(named).subquery("settled")
    mine = _ITEMS.c.job_id == sa.bindparam("job"), _ITEMS.c.number == given.c.new_number
    return sa.update(_ITEMS).where(*mine).values({one: given.c[f"new_{one}"] for one in _SETTLED})


_ITEMS: Any = JobItemRow.__table__
_SETTLE_ONE, _SETTLE_ALL = _settle_one(), _settle_all()


def _get(connection: sa.Connection, name: str, user_id: int | None) -> Job:
    asked = sa.select(_J.__table__).where(_J.name == name, _SHOWN)
    if user_id is not None:
        asked = asked.where(_J.user_id == user_id)
    found = connection.execute(asked).one_or_none()
    if found is None:
        raise JobNotFound("There is no job with this id.", "`d3 jobs list` shows all jobs.")
    return job_of(found)


def _turn_now(connection: sa.Connection) -> int:
    """The turn of the shards in work, with which a new job joins those that wait."""
    last = connection.scalar(sa.select(sa.func.max(_H.turn)).where(_HELD))
    if last is None:
        last = connection.scalar(sa.select(sa.func.min(_H.turn)).where(_LEASES.open))
    return last or 0


def _waiting(job_id: int, shard: int) -> sa.Select[Any]:
    return (
        sa.select(_I.__table__)
        .where(_I.job_id == job_id, _I.shard == shard, _I.state == ItemState.WAITING.value)
        .order_by(_I.number)
    )


def _settle_items(
    connection: sa.Connection, job_id: int, outcomes: Mapping[int, ItemOutcome]
) -> None:
    """Insert the results, and say of each item what became of it."""
    entries = {number: one for number, one in outcomes.items() if isinstance(one, NewEntry)}
    ids = SqlTransaction(connection).add_many(list(entries.values()))
    result_ids = dict(zip(entries, ids, strict=True))
    rows = [outcome_row(n, one, result_ids.get(n)) for n, one in outcomes.items()]
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        connection.execute(_SETTLE_ONE, [{"job": job_id, **row} for row in rows])
        return
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    columns["new_number"] = columns.pop("item")
    connection.execute(_SETTLE_ALL, {"job": job_id, **columns})


def _count(
    connection: sa.Connection,
    job_id: int,
    finished: sa.ColumnElement[bool],
    counts: Mapping[str, int],
    now: datetime,
    *,
    ended: JobState = JobState.DONE,
) -> Job | None:
    """Finish shards, count their items, and end the job with its last shard; the job then."""
    closed = connection.execute(
        sa.update(_H)
        .where(_H.job_id == job_id, finished, _LEASES.open)
        .values(finished=True, owner=None)
        .returning(_H.size_bytes)
    ).all()
    more = {name: getattr(_J, name) + number for name, number in counts.items() if number}
    if closed:
        more["open_shards"] = _J.open_shards - len(closed)
        more["spooled_bytes"] = _J.spooled_bytes - sum(one.size_bytes for one in closed)
    if more:
        connection.execute(sa.update(_J).where(_J.id == job_id).values(more))
    found = connection.execute(sa.select(_J.__table__).where(_J.id == job_id)).one_or_none()
    if found is None:
        return None
    job = job_of(found)
    if closed and not found.open_shards and job.finished_at is None:
        over = {"state": ended.value, "finished_at": now, "trouble": None}
        connection.execute(sa.update(_J).where(_J.id == job_id).values(over))
        job = replace(job, state=ended, finished_at=now, trouble=None)
        record_events(connection, [event_of(job, now)])
    return job
