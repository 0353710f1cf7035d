"""Writing the history: whatever waits at the same moment shares one transaction (group commit)."""

from __future__ import annotations

import copy
import logging
import math
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from d3.domain.errors import (
    EntryRefused,
    HistoryOverloaded,
    IdempotencyKeyReused,
    RequestInFlight,
    StorageFailed,
    StorageUnavailable,
)
from d3.domain.history import NewEntry, RequestRecord
from d3.domain.idempotency import Completion, IdempotencyKey, Reservation, StoredAnswer
from d3.domain.ports import Clock
from d3.domain.ports_history import History, HistoryTransaction

_LOG = logging.getLogger(__name__)
_LOG_SECONDS = 1.0
_PURGE_SECONDS = 3600.0


@dataclass(eq=False, slots=True)
class _Job:
    """Something that somebody waits for."""

    future: Future[Any] = field(default_factory=Future, init=False)

    @property
    def weight(self) -> int:
        """What it counts for among all that waits."""
        return 1


@dataclass(eq=False, slots=True)
class _Submission(_Job):
    entries: Sequence[NewEntry]
    completion: Completion | None

    @property
    def weight(self) -> int:
        return max(1, len(self.entries))


@dataclass(eq=False, slots=True)
class _Reserve(_Job):
    key: IdempotencyKey


@dataclass(eq=False, slots=True)
class _Release(_Job):
    reservation: Reservation


_J = TypeVar("_J", bound=_Job)


class HistoryWriter:
    """Owns the writing side of a history; safe to call from many threads.

    One thread takes everything that waits and writes it in one transaction; while that commits,
    the next lot gathers. Nobody waits for company: on an idle writer a submission goes at once.
    What cannot be written is found by halving, so it fails alone.

    Args:
        history: where to.
        clock: for leases and expiry.
        waiting: entries and requests that may wait at most, request records as many again.
        share: entries that one transaction holds at most, a larger submission aside.
    """

    def __init__(
        self, history: History, clock: Clock, *, waiting: int = 10_000, share: int = 1000
    ) -> None:
        self._history = history
        self._clock = clock
        self._bound = waiting
        self._share = share
        self._jobs: deque[_Job] = deque()
        self._records: deque[RequestRecord] = deque()
        self._waiting = 0
        self._dropped = 0
        self._closed = False
        self._purge_at = -math.inf
        self._records_due = 0.0
        self._owner: threading.Thread | None = None
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """Entries and requests that wait to be written."""
        return self._waiting

    @property
    def dropped_records(self) -> int:
        """Records of the request log that were given up: too many waited, or writing failed."""
        return self._dropped

    def submit(
        self, entries: Sequence[NewEntry], completion: Completion | None = None
    ) -> Future[list[int]]:
        """Have the entries written; the future gives their ids, in order, after the commit.

        Args:
            entries: kept together or not at all; may be empty where there is a completion.
            completion: an idempotency key's answer, kept in the same transaction.

        The future raises:
            EntryRefused: one of the entries cannot be kept.
            ReservationLost: another request took the key over; nothing was kept.
            StorageUnavailable, CommitInDoubt, StorageFailed: see the port.

        Raises:
            HistoryOverloaded: too much waits already, or the writer is closed.
        """
        return self._put(_Submission(entries, completion)).future

    def reserve(self, key: IdempotencyKey) -> Future[Reservation | StoredAnswer]:
        """Ask for the right to answer a key; the future gives it, or the answer there is.

        The future raises:
            IdempotencyKeyReused: the key stands for another request.
            RequestInFlight: the same request is being answered right now.

        Raises:
            HistoryOverloaded: too much waits already, or the writer is closed.
        """
        return self._put(_Reserve(key)).future

    def release(self, reservation: Reservation) -> Future[None]:
        """Give a key back unanswered, so that the request may be sent again.

        Raises:
            HistoryOverloaded: too much waits already; the lease will end by itself.
        """
        return self._put(_Release(reservation)).future

    def log(self, record: RequestRecord) -> None:
        """Have a request's record written within a second or so; never raises, never waits."""
        with self._changed:
            if self._closed or len(self._records) >= self._bound:
                self._dropped += 1
                return
            if not self._records:
                self._records_due = self._clock.monotonic() + _LOG_SECONDS
                self._start()
                self._changed.notify()
            self._records.append(record)

    def close(self) -> None:
        """Write what waits, then stop; the history itself stays open."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            owner = self._owner
        if owner is not None and owner is not threading.current_thread():
            owner.join()

    def _put(self, job: _J) -> _J:
        weight = job.weight
        with self._changed:
            if self._closed or self._waiting + weight > max(self._bound, weight):
                raise HistoryOverloaded(
                    "Too many results wait to be written."
                    if not self._closed
                    else "The history is closed.",
                    "Try again in a moment.",
                )
            self._jobs.append(job)
            self._waiting += weight
            self._start()
            self._changed.notify()
        return job

    def _start(self) -> None:
        if self._owner is None:
            self._owner = threading.Thread(target=self._run, name="d3-history", daemon=True)
            self._owner.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    rest = self._records_due - self._clock.monotonic() if self._records else None
                    if rest is not None and rest <= 0:
                        break
                    self._changed.wait(rest)
                if self._closed and not self._jobs and not self._records:
                    return
                jobs, records = self._take()
            if jobs or records:
                self._write(jobs, records)

    def _take(self) -> tuple[list[_Job], list[RequestRecord]]:
        """What goes into the next transaction; whoever has stopped waiting is left out."""
        jobs: list[_Job] = []
        entries = 0
        while self._jobs and (not jobs or entries + self._jobs[0].weight <= self._share):
            job = self._jobs.popleft()
            self._waiting -= job.weight
            entries += job.weight
            if job.future.set_running_or_notify_cancel():
                jobs.append(job)
        records = [self._records.popleft() for _ in range(min(len(self._records), self._share))]
        return jobs, records

    def _write(
        self, jobs: Sequence[_Job], records: Sequence[RequestRecord], *, retried: bool = False
    ) -> None:
        """Write it all in one transaction, or find out what of it cannot be written."""
        try:
            outcomes = self._commit(jobs, records)
        except Exception as error:  # noqa: BLE001 -- whatever it is, those who wait must hear it
            self._write_apart(jobs, records, error, retried=retried)
        else:
            for job, outcome in zip(jobs, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    job.future.set_exception(outcome)
                else:
                    job.future.set_result(outcome)

    def _write_apart(
        self,
        jobs: Sequence[_Job],
        records: Sequence[RequestRecord],
        error: Exception,
        *,
        retried: bool,
    ) -> None:
        if isinstance(error, StorageUnavailable) and not retried:
            self._write(jobs, records, retried=True)
        elif isinstance(error, StorageFailed) and not isinstance(error, EntryRefused):
            self._fail(jobs, records, error)
        elif jobs and records:
            # Nobody waits for records; they must not take anybody's result with them.
            self._write(jobs, (), retried=retried)
            self._write((), records, retried=retried)
        elif len(jobs) > 1:
            middle = len(jobs) // 2
            self._write(jobs[:middle], (), retried=retried)
            self._write(jobs[middle:], (), retried=retried)
        else:
            self._fail(jobs, records, error)

    def _fail(
        self, jobs: Sequence[_Job], records: Sequence[RequestRecord], error: Exception
    ) -> None:
        for job in jobs:
            # Each a copy: an exception raised in many threads would gather all their traces.
            told = copy.copy(error)
            told.__cause__ = error.__cause__
            job.future.set_exception(told)
        if records:
            self._dropped += len(records)
            _LOG.warning("the request log lost %d records: %s", len(records), error)

    def _commit(self, jobs: Sequence[_Job], records: Sequence[RequestRecord]) -> list[Any]:
        """What each job is to be told, once all is committed."""
        now = self._clock.now()
        with self._history.transaction() as transaction:
            entries = [e for job in jobs if isinstance(job, _Submission) for e in job.entries]
            ids = deque(transaction.add_many(entries))
            outcomes = [self._settle(job, ids, transaction, now) for job in jobs]
            transaction.log_many(records)
            if any(isinstance(job, _Reserve) for job in jobs) and self._purge_due():
                transaction.purge(now)
        return outcomes

    @staticmethod
    def _settle(
        job: _Job, ids: deque[int], transaction: HistoryTransaction, now: datetime
    ) -> list[int] | Reservation | StoredAnswer | Exception | None:
        if isinstance(job, _Submission):
            mine = [ids.popleft() for _ in job.entries]
            if job.completion is not None:
                body = job.completion.answer(mine)
                transaction.complete(job.completion.reservation, body, now)
            return mine
        if isinstance(job, _Reserve):
            try:
                return transaction.reserve(job.key, now)
            except (IdempotencyKeyReused, RequestInFlight) as refusal:
                return refusal
        assert isinstance(job, _Release)
        transaction.release(job.reservation)
        return None

    def _purge_due(self) -> bool:
        due = self._clock.monotonic() >= self._purge_at
        if due:
            self._purge_at = self._clock.monotonic() + _PURGE_SECONDS
        return due
