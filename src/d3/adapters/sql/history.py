"""The history in a database."""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, TypeVar

import sqlalchemy as sa

from d3.adapters.sql import queries
from d3.adapters.sql.engine import Database
from d3.adapters.sql.inserts import insert_labels
from d3.adapters.sql.rows import COLUMNS, entry_of_row
from d3.adapters.sql.tables import (
    Base,
    IdempotencyRow,
    InferenceResult,
    RequestLogRow,
    ResultLabel,
)
from d3.adapters.sql.transaction import SqlTransaction
from d3.domain.errors import ResultNotFound, StorageFailed
from d3.domain.history import (
    LARGEST_ID,
    AgreementCounts,
    Bucket,
    BucketSize,
    CursorPage,
    Day,
    Distribution,
    Failures,
    GroupBy,
    HistoryEntry,
    HistoryFilter,
    NewEntry,
    Page,
    Statistics,
    Tally,
    VerdictCounts,
    checked_limit,
    checked_offset,
    in_utc,
    nearest_rank,
)
from d3.domain.idempotency import ANONYMOUS
from d3.domain.labels import Label, LabelChange, NewLabel
from d3.domain.ordering import NEWEST_FIRST, Order, Place, decode_cursor, encode_cursor
from d3.domain.scoring import Verdict

_Key = TypeVar("_Key", int, str)

_CHUNK = 1000
_K = IdempotencyRow
_L = ResultLabel
_T = InferenceResult.__table__.c
_MAY_COUNT = sa.text(
    "SELECT has_sequence_privilege("
    "pg_get_serial_sequence('inference_results', 'id'), 'USAGE, UPDATE')"
)
_SHARES = (0.5, 0.95)
_TOLD = 10
"""Missing results that are named."""
_FORGETTING = 0x6433_464F_5247_4554  # "d3FORGET"


class SqlHistory:
    """Implements ``History``; the tables are :mod:`.schema`'s business."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def transaction(self) -> Iterator[SqlTransaction]:
        with self._database.writing() as connection:
            yield SqlTransaction(connection)

    def add_many(self, entries: Sequence[NewEntry]) -> list[int]:
        if not entries:
            return []
        with self.transaction() as transaction:
            return transaction.add_many(entries)

    def get(self, id_: int, user_id: int | None = None) -> HistoryEntry:
        with self._database.reading() as connection:
            row = connection.execute(sa.select(*COLUMNS).where(*_one(id_, user_id))).one_or_none()
        if row is None:
            raise _not_found(id_)
        return entry_of_row(row)

    def delete(self, id_: int, user_id: int | None = None) -> None:
        if self.delete_many([id_], user_id):
            raise _not_found(id_)

    def delete_many(self, ids: Collection[int], user_id: int | None = None) -> list[int]:
        missing: list[int] = []
        with self._database.writing() as connection:
            for some in _chunks(ids):
                there = _lock(connection, some, user_id)
                missing += [id_ for id_ in some if id_ not in there]
                connection.execute(sa.delete(InferenceResult).where(_T.id.in_(list(there))))
                _forget_answers(connection, there)
        return missing

    def label(
        self,
        labels: Sequence[NewLabel],
        now: datetime,
        by: int | None = None,
        user_id: int | None = None,
    ) -> list[LabelChange]:
        now = in_utc(now)
        last = {one.result_id: one.label for one in labels}
        kept = {"created_at": now, "user_id": by}
        rows = [_label_row(one) | kept for one in labels]
        with self._database.writing() as connection:
            missing = []
            for some in _chunks(last):
                there = _lock(connection, some, user_id)
                missing += [id_ for id_ in some if id_ not in there]
                for label in Label:
                    meant = [id_ for id_ in there if last[id_] is label]
                    changed = sa.update(InferenceResult).where(_T.id.in_(meant))
                    connection.execute(changed.values(label=label.value))
            if missing:
                raise _not_found(*missing)
            ids = insert_labels(connection, rows)
        return [
            LabelChange(**{**row, "id": id_, "label": one.label})
            for id_, row, one in zip(ids, rows, labels, strict=True)
        ]

    def labels(self, id_: int, user_id: int | None = None) -> list[LabelChange]:
        meant = _one(id_, user_id)
        with self._database.reading() as connection:
            if connection.execute(sa.select(_T.id).where(*meant)).one_or_none() is None:
                raise _not_found(id_)
            changes = sa.select(*_L.__table__.c).where(_L.result_id == id_).order_by(_L.id.desc())
            rows = connection.execute(changes).mappings().all()
        return [_change_of(row) for row in rows]

    def last_labels(self, ids: Collection[int]) -> Mapping[int, LabelChange]:
        found = {}
        with self._database.reading() as connection:
            for some in _chunks(ids):
                last = sa.select(sa.func.max(_L.id)).where(_L.result_id.in_(some))
                meant = _L.id.in_(last.group_by(_L.result_id))
                for row in connection.execute(sa.select(*_L.__table__.c).where(meant)).mappings():
                    found[row["result_id"]] = _change_of(row)
        return found

    def identify(
        self, results: Collection[int | str], user_id: int | None = None
    ) -> Mapping[int | str, Sequence[int]]:
        found: defaultdict[int | str, list[int]] = defaultdict(list)
        ids = [one for one in results if isinstance(one, int) and 1 <= one <= LARGEST_ID]
        hashes = [one for one in results if isinstance(one, str)]
        with self._database.reading() as connection:
            for some in _chunks(ids):
                for id_ in connection.scalars(_owned(sa.select(_T.id), _T.id.in_(some), user_id)):
                    found[id_].append(id_)
            for files in _chunks(hashes):
                wanted = _owned(
                    sa.select(_T.image_sha256, _T.id), _T.image_sha256.in_(files), user_id
                )
                for sha256, id_ in connection.execute(wanted):
                    found[sha256].append(id_)
        return found

    def forget(
        self, results_before: datetime | None, records_before: datetime | None
    ) -> tuple[int, int]:
        if results_before is not None:
            answers = (_K.created_at < results_before, _K.answer.is_not(None))
            with self._database.writing() as connection:
                connection.execute(sa.delete(_K).where(*answers))
        return (
            self._forget(InferenceResult, results_before),
            self._forget(RequestLogRow, records_before),
        )

    def _forget(self, table: type[Base], before: datetime | None) -> int:
        columns, gone = table.__table__.c, 0
        while before is not None:
            old = sa.select(columns.id).where(columns.created_at < before).limit(_CHUNK)
            with self._database.writing() as connection:
                if not self._database.is_sqlite and not connection.scalar(
                    sa.select(sa.func.pg_try_advisory_xact_lock(_FORGETTING))
                ):
                    break  # another replica is at it
                some = connection.execute(sa.delete(table).where(columns.id.in_(old))).rowcount
            gone += some
            if some < _CHUNK:
                break
        return gone

    def page(
        self, where: HistoryFilter, limit: int, offset: int = 0, order: Order = NEWEST_FIRST
    ) -> Page:
        checked_limit(limit)
        wanted = queries.page(where, limit, offset=checked_offset(offset), order=order)
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
            total = connection.scalar(queries.count(where)) or 0
        return Page(tuple(map(entry_of_row, rows)), total)

    def page_after(
        self,
        where: HistoryFilter,
        limit: int,
        cursor: str | None = None,
        order: Order = NEWEST_FIRST,
    ) -> CursorPage:
        checked_limit(limit)
        place = None if cursor is None else decode_cursor(cursor, where, order)
        entries = self._after(where, limit + 1, place, order)
        if len(entries) <= limit:
            return CursorPage(entries, None)
        entries = entries[:limit]
        return CursorPage(entries, encode_cursor(order.place_of(entries[-1]), where, order))

    def iterate(self, where: HistoryFilter) -> Iterator[HistoryEntry]:
        place = None
        while entries := self._after(where, _CHUNK, place):
            yield from entries
            place = NEWEST_FIRST.place_of(entries[-1])

    def statistics(self, where: HistoryFilter, bucket: BucketSize | None = None) -> Statistics:
        if bucket is None:
            with self._database.reading() as connection:
                row = connection.execute(queries.totals(where)).one()
            return Statistics(**_tally(queries.sums_of(row)))
        wanted = queries.series(where, bucket, sqlite=self._database.is_sqlite)
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
        # Summed here, so that totals and series agree whatever arrives between two statements.
        buckets = [(_moment(row.start), queries.sums_of(row)) for row in rows]
        nothing = queries.Sums(0, 0, 0.0, 0, 0, 0, 0, 0, 0)
        columns = zip(nothing, *(sums for _, sums in buckets), strict=True)
        together = queries.Sums(*map(sum, columns))
        return Statistics(
            **_tally(together),
            series=tuple(Bucket(start=start, **_tally(sums)) for start, sums in buckets),
        )

    def distribution(self, where: HistoryFilter, parts: int) -> Distribution:
        sqlite = self._database.is_sqlite
        wanted = queries.days(where, parts, sqlite=True) if sqlite else queries.scores(where, parts)
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
            found: Counter[int] = Counter()
            for row in queries.day_groups(rows) if sqlite else rows:
                found[row.part] += row.total
            total = sum(found.values())
            if sqlite:
                ranks = [nearest_rank(share, total) for share in _SHARES]
                p50, p95 = (
                    connection.scalar(queries.time_at(where, rank, total)) for rank in ranks
                )
            else:
                p50, p95 = connection.execute(queries.quantiles(where, *_SHARES)).one()
        scores = tuple(found[part] for part in range(parts))
        return Distribution(scores=scores, p50=p50, p95=p95)

    def breakdown(self, where: HistoryFilter, by: GroupBy) -> Mapping[str | None, Tally]:
        with self._database.reading() as connection:
            rows = connection.execute(queries.breakdown(where, by)).all()
        groups = [(row.name, Tally(**_tally(queries.sums_of(row)))) for row in rows]
        groups.sort(key=lambda one: (-one[1].total_inferences, one[0] or ""))
        return dict(groups)

    def daily(self, where: HistoryFilter, parts: int) -> list[Day]:
        wanted = queries.days(where, parts, sqlite=self._database.is_sqlite)
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
        return [
            _day(start, list(some), parts)
            for start, some in groupby(queries.day_groups(rows), attrgetter("start"))
        ]

    def failures(self, where: HistoryFilter, bucket: BucketSize) -> list[Failures]:
        wanted = queries.failures(where, bucket, sqlite=self._database.is_sqlite)
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
        return [
            Failures(start=_moment(row.start), refused=row.total - row.failed, failed=row.failed)
            for row in rows
        ]

    def check_writable(self) -> None:
        with suppress(_UndoneError), self._database.writing() as connection:
            if connection.dialect.name == "postgresql" and not connection.scalar(_MAY_COUNT):
                raise StorageFailed(
                    "D3 is not allowed to number its results in the database.",
                    "Grant USAGE on the sequence of inference_results.",
                )
            for table in (InferenceResult.__table__, _K.__table__):
                assert isinstance(table, sa.Table)
                connection.execute(sa.insert(table).values(_blank_row(table)))
            raise _UndoneError

    def close(self) -> None:
        self._database.close()

    def _after(
        self, where: HistoryFilter, limit: int, place: Place | None, order: Order = NEWEST_FIRST
    ) -> tuple[HistoryEntry, ...]:
        with self._database.reading() as connection:
            rows = connection.execute(queries.page(where, limit, after=place, order=order)).all()
        return tuple(map(entry_of_row, rows))


class _UndoneError(Exception):
    """Leaves a transaction whose work is not to be kept."""


def _blank_row(table: sa.Table) -> dict[str, object]:
    """A row that the table would accept, with a key that no other row has."""
    blanks: dict[type, object] = {
        str: secrets.token_hex(8),
        int: -secrets.randbelow(2**31 - 1) - 1,
        float: 0.0,
        bool: False,
        datetime: datetime.now(UTC),
    }
    needed = (column for column in table.columns if not column.nullable)
    return {column.name: blanks[_python_type(column.type)] for column in needed}


def _python_type(kind: sa.types.TypeEngine[Any]) -> type:
    python_type: type = (
        kind.impl_instance if isinstance(kind, sa.types.TypeDecorator) else kind
    ).python_type
    return python_type


def _one(id_: int, user_id: int | None) -> list[sa.ColumnElement[bool]]:
    if not 1 <= id_ <= LARGEST_ID:
        raise _not_found(id_)
    meant = [_T.id == id_]
    return meant if user_id is None else [*meant, _T.user_id == user_id]


def _label_row(label: NewLabel) -> dict[str, Any]:
    """What a row of labels has of it."""
    return {**asdict(label), "label": label.label.value}


def _change_of(row: sa.RowMapping) -> LabelChange:
    return LabelChange(**{**row, "label": Label(row["label"])})


def _chunks(keys: Collection[_Key]) -> Iterator[list[_Key]]:
    """All of them in order, a thousand at a time."""
    ordered = sorted(set(keys))
    for start in range(0, len(ordered), _CHUNK):
        yield ordered[start : start + _CHUNK]


def _owned(
    wanted: sa.Select[Any], meant: sa.ColumnElement[bool], user_id: int | None
) -> sa.Select[Any]:
    """Of the results that are meant those of a user, or all, by id."""
    wanted = wanted.where(meant).order_by(_T.id)
    return wanted if user_id is None else wanted.where(_T.user_id == user_id)


def _lock(connection: sa.Connection, ids: Sequence[int], user_id: int | None) -> dict[int, int]:
    """The results that are there, with their owners; nobody else changes them meanwhile.

    Locked in the order of their ids, so that two writers never wait for each other.
    """
    possible = [id_ for id_ in ids if 1 <= id_ <= LARGEST_ID]
    wanted = _owned(sa.select(_T.id, _T.user_id), _T.id.in_(possible), user_id)
    rows = connection.execute(wanted.with_for_update())
    return {row.id: row.user_id or ANONYMOUS for row in rows}


def _forget_answers(connection: sa.Connection, owners: Mapping[int, int]) -> None:
    """Delete the answers to idempotency keys that tell of these results."""
    one, owner = (
        sa.bindparam("one", type_=_K.first_id.type),
        sa.bindparam("whose", type_=_K.owner.type),
    )
    meant = (_K.owner == owner, _K.first_id <= one, _K.last_id >= one)
    if owners:
        connection.execute(
            sa.delete(_K.__table__).where(*meant),  # type: ignore[arg-type]
            [{"one": id_, "whose": whose} for id_, whose in owners.items()],
        )


def _day(start: str | datetime, rows: Sequence[Any], parts: int) -> Day:
    scores, uncertain = [0] * parts, 0
    labelled: Counter[tuple[Label, Verdict]] = Counter()
    for row in rows:
        scores[row.part] += row.total
        uncertain += row.total if row.verdict == Verdict.UNCERTAIN else 0
        if row.label is not None:
            labelled[Label(row.label), Verdict(row.verdict)] += row.total
    return Day(
        start=_moment(start), scores=tuple(scores), uncertain=uncertain, labelled=dict(labelled)
    )


def _not_found(*ids: int) -> ResultNotFound:
    told = ", ".join(str(id_) for id_ in ids[:_TOLD])
    if len(ids) > _TOLD:
        told += f" and {len(ids) - _TOLD:,} others"
    elif not all(1 <= id_ <= LARGEST_ID for id_ in ids):
        return ResultNotFound("There is no result with this id.", "The history lists all results.")
    known = f"with the id {told}" if len(ids) == 1 else f"with the ids {told}"
    problem = f"There is no result {known}." if len(ids) == 1 else f"There are no results {known}."
    return ResultNotFound(problem, "The history lists all results.")


def _tally(sums: queries.Sums) -> dict[str, Any]:
    return {
        "total_inferences": sums.total,
        "total_fake": sums.is_fake,
        "avg_processing_time": sums.seconds / sums.total if sums.total else 0.0,
        "by_verdict": VerdictCounts(
            fake=sums.fake, real=sums.total - sums.fake - sums.uncertain, uncertain=sums.uncertain
        ),
        "demo": sums.demo,
        "agreement": AgreementCounts(
            agree=sums.panels - sums.partial - sums.disagree,
            partial=sums.partial,
            disagree=sums.disagree,
        ),
    }


def _moment(start: str | datetime) -> datetime:
    """The start of a bucket, from PostgreSQL's timestamp or SQLite's day or hour."""
    if isinstance(start, datetime):
        return start.astimezone(UTC)
    return datetime.fromisoformat(start).replace(tzinfo=UTC)
