"""The history in this process's memory: the port's meaning in plain Python."""

from __future__ import annotations

import math
import operator
import threading
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from d3.domain.errors import (
    IdempotencyKeyReused,
    RequestInFlight,
    ReservationLost,
    ResultNotFound,
)
from d3.domain.history import (
    JUDGING,
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
    RequestRecord,
    Statistics,
    Tally,
    VerdictCounts,
    checked_limit,
    checked_offset,
    in_utc,
    nearest_rank,
)
from d3.domain.idempotency import KEPT, LEASE, IdempotencyKey, Reservation, StoredAnswer
from d3.domain.labels import Label, LabelChange, NewLabel
from d3.domain.ordering import NEWEST_FIRST, Order, decode_cursor, encode_cursor


@dataclass(frozen=True, slots=True)
class _Reserved:
    request_hash: str
    token: str
    answer: bytes | None
    expires_at: datetime
    ids: tuple[int, ...] = ()


@dataclass
class _Books:
    """All that is kept, with what a transaction changes."""

    entries: dict[int, HistoryEntry] = field(default_factory=dict)
    keys: dict[tuple[int, str], _Reserved] = field(default_factory=dict)
    records: list[RequestRecord] = field(default_factory=list)
    labels: list[LabelChange] = field(default_factory=list)
    last_id: int = 0

    def copy(self) -> _Books:
        return _Books(
            *(dict(self.entries), dict(self.keys), list(self.records), list(self.labels)),
            self.last_id,
        )


class MemoryTransaction:
    """Implements ``HistoryTransaction`` on a copy of the books."""

    def __init__(self, books: _Books) -> None:
        self._books = books

    def add_many(self, entries: Sequence[NewEntry]) -> list[int]:
        """Write the entries; their ids, in order."""
        first = self._books.last_id + 1
        for id_, entry in enumerate(entries, first):
            values = {one.name: getattr(entry, one.name) for one in fields(NewEntry)}
            self._books.entries[id_] = HistoryEntry(id=id_, **values)
            self._books.last_id = id_
        return list(range(first, first + len(entries)))

    def log_many(self, records: Sequence[RequestRecord]) -> None:
        """Keep the records."""
        self._books.records.extend(records)

    def reserve(self, key: IdempotencyKey, now: datetime) -> Reservation | StoredAnswer:
        """The right to answer this key, or the answer it got before."""
        there = self._books.keys.get((key.owner, key.key))
        if there is None or there.expires_at <= now:
            token = f"{len(self._books.keys)}@{now.isoformat()}"
            taken = _Reserved(key.request_hash, token, None, now + LEASE)
            self._books.keys[key.owner, key.key] = taken
            return Reservation(key.owner, key.key, token)
        if there.request_hash != key.request_hash:
            raise IdempotencyKeyReused("This idempotency key was used for another request.")
        if there.answer is None:
            wait = (there.expires_at - now).total_seconds()
            raise RequestInFlight("The same request is being answered right now.", "", wait)
        return StoredAnswer(there.answer)

    def renew(self, reservations: Sequence[Reservation], now: datetime) -> None:
        """Prolong the leases of keys that are still being answered."""
        for reservation in reservations:
            if (held := self._held(reservation)) is not None:
                place = (reservation.owner, reservation.key)
                self._books.keys[place] = replace(held, expires_at=now + LEASE)

    def complete(
        self, reservation: Reservation, body: bytes, ids: Sequence[int], now: datetime
    ) -> None:
        """Keep the answer, and which entries it tells of."""
        held = self._held(reservation)
        if held is None:
            raise ReservationLost("Another request with its key took over.")
        self._books.keys[reservation.owner, reservation.key] = replace(
            held, answer=body, expires_at=now + KEPT, ids=tuple(ids)
        )

    def release(self, reservation: Reservation) -> None:
        """Give the key back unanswered."""
        if self._held(reservation) is not None:
            del self._books.keys[reservation.owner, reservation.key]

    def purge(self, now: datetime) -> int:
        """Forget what has expired; how many there were."""
        expired = [place for place, one in self._books.keys.items() if one.expires_at <= now]
        for place in expired:
            del self._books.keys[place]
        return len(expired)

    def _held(self, reservation: Reservation) -> _Reserved | None:
        there = self._books.keys.get((reservation.owner, reservation.key))
        ours = there is not None and there.token == reservation.token and there.answer is None
        return there if ours else None


class MemoryHistory:
    """Implements ``History``; every transaction copies all of it."""

    def __init__(self) -> None:
        self._books = _Books()
        self._lock = threading.Lock()

    @property
    def records(self) -> tuple[RequestRecord, ...]:
        """The request log."""
        return tuple(self._books.records)

    @contextmanager
    def transaction(self) -> Iterator[MemoryTransaction]:
        """Write several things at once; leaving the block commits, an exception undoes all."""
        with self._lock:
            books = self._books.copy()
            yield MemoryTransaction(books)
            self._books = books

    def add_many(self, entries: Sequence[NewEntry]) -> list[int]:
        """Keep the entries in one transaction; their ids, in order."""
        with self.transaction() as transaction:
            return transaction.add_many(entries)

    def get(self, id_: int, user_id: int | None = None) -> HistoryEntry:
        """One entry; with ``user_id``, only if it is this account's."""
        entry = self._books.entries.get(id_)
        if entry is None or user_id not in (None, entry.user_id):
            known = f"the id {id_}" if 1 <= id_ <= LARGEST_ID else "this id"
            raise ResultNotFound(f"There is no result with {known}.")
        return entry

    def forget(
        self, results_before: datetime | None, records_before: datetime | None
    ) -> tuple[int, int]:
        """Delete what is older than these moments; how many there were."""
        with self._lock:
            old = [
                id_
                for id_, entry in self._books.entries.items()
                if results_before is not None and entry.created_at < results_before
            ]
            for id_ in old:
                del self._books.entries[id_]
            before = len(self._books.records)
            self._books.records = [
                one
                for one in self._books.records
                if records_before is None or one.created_at >= records_before
            ]
            return len(old), before - len(self._books.records)

    def delete(self, id_: int, user_id: int | None = None) -> None:
        """Remove one entry; with ``user_id``, only if it is this account's."""
        self.get(id_, user_id)
        self.delete_many([id_], user_id)

    def delete_many(self, ids: Collection[int], user_id: int | None = None) -> list[int]:
        """Remove entries; the ids that were not there."""
        missing = []
        with self._lock:
            books = self._books.copy()
            for id_ in sorted(set(ids)):
                try:
                    self.get(id_, user_id)
                except ResultNotFound:
                    missing.append(id_)
                    continue
                del books.entries[id_]
                for place in [place for place, one in books.keys.items() if id_ in one.ids]:
                    del books.keys[place]
            self._books = books
        return missing

    def label(
        self,
        labels: Sequence[NewLabel],
        now: datetime,
        by: int | None = None,
        user_id: int | None = None,
    ) -> list[LabelChange]:
        """Say what images are; all or nothing."""
        with self._lock:
            books, changes, missing = self._books.copy(), [], []
            for number, one in enumerate(labels, len(books.labels) + 1):
                try:
                    entry = self.get(one.result_id, user_id)
                except ResultNotFound:
                    missing.append(one.result_id)
                    continue
                books.entries[entry.id] = replace(entry, label=one.label)
                values = {part.name: getattr(one, part.name) for part in fields(NewLabel)}
                changes.append(LabelChange(id=number, created_at=in_utc(now), user_id=by, **values))
            if missing:
                raise ResultNotFound("There are no such results.")
            books.labels += changes
            self._books = books
        return changes

    def labels(self, id_: int, user_id: int | None = None) -> list[LabelChange]:
        """All that was said about a result's image, newest first."""
        self.get(id_, user_id)
        return [one for one in reversed(self._books.labels) if one.result_id == id_]

    def last_labels(self, ids: Collection[int]) -> Mapping[int, LabelChange]:
        """What was last said about these results' images."""
        return {one.result_id: one for one in self._books.labels if one.result_id in ids}

    def identify(
        self, results: Collection[int | str], user_id: int | None = None
    ) -> Mapping[int | str, Sequence[int]]:
        """The ids that are meant by ids and by files' SHA-256."""
        found: defaultdict[int | str, list[int]] = defaultdict(list)
        for id_, entry in sorted(self._books.entries.items()):
            if user_id in (None, entry.user_id):
                for name in {id_, entry.image_sha256} & set(results):
                    found[name].append(id_)
        return found

    def page(
        self, where: HistoryFilter, limit: int, offset: int = 0, order: Order = NEWEST_FIRST
    ) -> Page:
        """``limit`` entries after the first ``offset``, and how many there are."""
        found = self._ordered(where, order)
        checked_offset(offset)
        return Page(tuple(found[offset : offset + checked_limit(limit)]), len(found))

    def page_after(
        self,
        where: HistoryFilter,
        limit: int,
        cursor: str | None = None,
        order: Order = NEWEST_FIRST,
    ) -> CursorPage:
        """``limit`` entries from the first in order, or from where the cursor stands."""
        checked_limit(limit)
        left = self._ordered(where, order)
        if cursor is not None:
            place = decode_cursor(cursor, where, order)
            follows = operator.lt if order.descending else operator.gt
            left = [one for one in left if follows(order.place_of(one), place)]
        entries = tuple(left[:limit])
        if len(left) <= limit:
            return CursorPage(entries, None)
        return CursorPage(entries, encode_cursor(order.place_of(entries[-1]), where, order))

    def iterate(self, where: HistoryFilter) -> Iterator[HistoryEntry]:
        """Every entry that matches, newest first."""
        return iter(self._ordered(where, NEWEST_FIRST))

    def statistics(self, where: HistoryFilter, bucket: BucketSize | None = None) -> Statistics:
        """Counts over the entries that match, and a series in time if asked for."""
        found = list(self.iterate(where))
        if bucket is None:
            return Statistics(**_tally(found))
        buckets: defaultdict[datetime, list[HistoryEntry]] = defaultdict(list)
        for entry in found:
            buckets[_start(entry.created_at, bucket)].append(entry)
        return Statistics(
            **_tally(found),
            series=tuple(
                Bucket(start=start, **_tally(entries)) for start, entries in sorted(buckets.items())
            ),
        )

    def distribution(self, where: HistoryFilter, parts: int) -> Distribution:
        """How the scores of the entries that match lie in so many parts, and their times."""
        found = list(self.iterate(where))
        times = sorted(entry.processing_time for entry in found)
        p50, p95 = (
            times[nearest_rank(share, len(times))] if times else None for share in (0.5, 0.95)
        )
        return Distribution(scores=_scores(found, parts), p50=p50, p95=p95)

    def breakdown(self, where: HistoryFilter, by: GroupBy) -> Mapping[str | None, Tally]:
        """Counts for each model, label or provenance, the most first."""
        name = {"model": "model_name", "provenance": "provenance_says"}.get(by, by)
        groups: defaultdict[str | None, list[HistoryEntry]] = defaultdict(list)
        for entry in self.iterate(where):
            groups[getattr(entry, name)].append(entry)
        ranked = sorted(groups.items(), key=lambda one: (-len(one[1]), one[0] or ""))
        return {group: Tally(**_tally(entries)) for group, entries in ranked}

    def daily(self, where: HistoryFilter, parts: int) -> list[Day]:
        """Each day's scores, doubts and labels."""
        days: defaultdict[datetime, list[HistoryEntry]] = defaultdict(list)
        for entry in self.iterate(where):
            days[_start(entry.created_at, BucketSize.DAY)].append(entry)
        return [_day(start, entries, parts) for start, entries in sorted(days.items())]

    def failures(self, where: HistoryFilter, bucket: BucketSize) -> list[Failures]:
        """Requests to judge that failed, oldest first, without the empty days or hours."""
        counts: defaultdict[datetime, list[int]] = defaultdict(lambda: [0, 0])
        for one in self._books.records:
            if (
                one.endpoint in JUDGING
                and one.status_code >= 400
                and where.user_id in (None, one.user_id)
                and (where.since is None or one.created_at >= where.since)
                and (where.until is None or one.created_at < where.until)
            ):
                counts[_start(one.created_at, bucket)][one.status_code >= 500] += one.requests
        return [Failures(start=at, refused=k, failed=n) for at, (k, n) in sorted(counts.items())]

    def check_writable(self) -> None:
        """Memory takes every result."""

    def close(self) -> None:
        """Nothing to give back."""

    def _ordered(self, where: HistoryFilter, order: Order) -> list[HistoryEntry]:
        entries = filter(where.matches, self._books.entries.values())
        return sorted(entries, key=order.place_of, reverse=order.descending)


def _start(moment: datetime, bucket: BucketSize) -> datetime:
    start = in_utc(moment).replace(minute=0, second=0, microsecond=0)
    return start.replace(hour=0) if bucket is BucketSize.DAY else start


def _scores(entries: Sequence[HistoryEntry], parts: int) -> tuple[int, ...]:
    scores = [0] * parts
    for entry in entries:
        scores[min(int(entry.prediction * parts), parts - 1)] += 1
    return tuple(scores)


def _day(start: datetime, entries: Sequence[HistoryEntry], parts: int) -> Day:
    known = (Label.REAL, Label.GENERATED)
    return Day(
        start=start,
        scores=_scores(entries, parts),
        uncertain=sum(one.verdict.value == "uncertain" for one in entries),
        labelled=Counter((one.label, one.verdict) for one in entries if one.label in known),
    )


def _tally(entries: Sequence[HistoryEntry]) -> dict[str, Any]:
    """In the words of :class:`d3.domain.history.Tally`."""
    seconds = math.fsum(one.processing_time for one in entries)
    verdicts = Counter(one.verdict.value for one in entries)
    agreement = Counter(one.agreement.value for one in entries if one.agreement is not None)
    return {
        "total_inferences": len(entries),
        "total_fake": sum(one.is_fake for one in entries),
        "avg_processing_time": seconds / len(entries) if entries else 0.0,
        "by_verdict": VerdictCounts(**verdicts),
        "demo": sum(one.is_demo for one in entries),
        "agreement": AgreementCounts(**agreement),
    }
