"""Writes the history: all that waits at the same moment shares a transaction (group commit)."""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from d3.domain.errors import (
    EntryRefused,
    HistoryOverloaded,
    IdempotencyKeyReused,
    RequestInFlight,
    StorageFailed,
    StorageUnavailable,
)
from d3.domain.history import NewEntry
from d3.domain.idempotency import (
    RENEWAL,
    Completion,
    IdempotencyKey,
    Reservation,
    StoredAnswer,
)
from d3.domain.ports.clock import Clock
from d3.domain.ports.history import History, HistoryTransaction
from d3.domain.ports.tracing import NULL_TRACER, TraceContext, Tracer

_RENEWAL_SECONDS = RENEWAL.total_seconds()


@dataclass(eq=False, slots=True)
class _Job:
    """Something to write, and a future for its result."""

    future: Future[Any] = field(default_factory=Future, init=False)

    @property
    def weight(self) -> int:
        """How much of the queue it takes."""
        return 1


@dataclass(eq=False, slots=True)
class _Submission(_Job):
    entries: Sequence[NewEntry]
    completion: Completion | None
    trace: TraceContext | None = None

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
    """Owns the writing side of a history. Safe to call from many threads.

    One thread takes everything that waits and writes it in one transaction; while that commits, the
    next batch gathers. An idle writer writes at once. What cannot be written is found by halving
    the batch, so it fails alone.

    The same thread renews the leases of reserved keys while they are being answered, and releases
    keys later if the history did not answer at first.

    Args:
        waiting: entries and requests that may wait at most.
        share: entries of one transaction at most, a larger submission aside.
        tracer: is told how long a submission's transaction took.

    Attributes:
        on_transaction: is told of each transaction: its entries, the seconds it took, and whether
            it was committed. Entries that no database takes are no failure of a transaction.
    """

    def __init__(
        self,
        history: History,
        clock: Clock,
        *,
        waiting: int = 10_000,
        share: int = 1000,
        tracer: Tracer = NULL_TRACER,
    ) -> None:
        self._history = history
        self._clock = clock
        self._bound = waiting
        self._share = share
        self._tracer = tracer
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._closed = False
        # Weakly: a caller that was cancelled while reserving cannot release its reservation.
        self._held: WeakValueDictionary[str, Reservation] = WeakValueDictionary()
        self._unreleased: dict[str, Reservation] = {}
        self._renewal_due = 0.0
        self._owner: threading.Thread | None = None
        self._changed = threading.Condition()
        self.on_transaction: Callable[[int, float, bool], None] = lambda *_: None

    @property
    def waiting(self) -> int:
        """How many entries and requests wait to be written."""
        return self._waiting

    def submit(
        self,
        entries: Sequence[NewEntry],
        completion: Completion | None = None,
        trace: TraceContext | None = None,
    ) -> Future[list[int]]:
        """Write the entries; the future gives their ids, in order, after the commit.

        Args:
            entries: all or none are stored; may be empty if there is a completion.
            completion: an idempotency key's answer, stored in the same transaction.
            trace: where the work lies.

        The future raises:
            EntryRefused: one of the entries cannot be stored.
            ReservationLost: another request took the key over; nothing was stored.
            StorageUnavailable, CommitInDoubt, StorageFailed: see the port.

        Raises:
            HistoryOverloaded: too much waits already, or the writer is closed.
        """
        return self._put(_Submission(entries, completion, trace)).future

    def reserve(self, key: IdempotencyKey) -> Future[Reservation | StoredAnswer]:
        """Reserve a key; the future gives the reservation, or the answer there is.

        The future raises:
            IdempotencyKeyReused: the key belongs to another request.
            RequestInFlight: the same request is being answered right now.

        Raises:
            HistoryOverloaded: too much waits already, or the writer is closed.
        """
        return self._put(_Reserve(key)).future

    def release(self, reservation: Reservation) -> Future[None]:
        """Give a key back unanswered, so that the request may be sent again.

        If the history does not answer, the future says so, and the key is released later.

        Raises:
            HistoryOverloaded: too much waits already; the key is released later.
        """
        try:
            return self._put(_Release(reservation)).future
        except HistoryOverloaded:
            self._keep_for_later(reservation)
            raise

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
                    "Too many results are waiting to be written."
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
                    rest = self._renewal_due - self._clock.monotonic()
                    leases = self._held or self._unreleased
                    if leases and rest <= 0:
                        break
                    self._changed.wait(rest if leases else None)
                if self._closed and not self._jobs:
                    break
                jobs = self._take()
            if jobs:
                self._write(jobs)
            self._renew_leases()
        self._renew_leases(at_once=True)

    def _renew_leases(self, *, at_once: bool = False) -> None:
        """Renew the keys that are being answered, and release those that could not be before."""
        if not at_once and self._clock.monotonic() < self._renewal_due:
            return
        self._renewal_due = self._clock.monotonic() + _RENEWAL_SECONDS
        with self._changed:
            held, unreleased = list(self._held.values()), list(self._unreleased.values())
        if not held and not unreleased:
            return
        with suppress(StorageFailed):  # retried at the next renewal
            with self._history.transaction() as transaction:
                transaction.renew(held, self._clock.now())
                for reservation in unreleased:
                    transaction.release(reservation)
            with self._changed:
                for reservation in unreleased:
                    del self._unreleased[reservation.token]

    def _keep_for_later(self, reservation: Reservation) -> None:
        with self._changed:
            self._held.pop(reservation.token, None)
            self._unreleased[reservation.token] = reservation
            self._changed.notify()

    def _take(self) -> list[_Job]:
        """What goes into the next transaction, without what was cancelled."""
        jobs: list[_Job] = []
        entries = 0
        while self._jobs and (not jobs or entries + self._jobs[0].weight <= self._share):
            job = self._jobs.popleft()
            self._waiting -= job.weight
            entries += job.weight
            if job.future.set_running_or_notify_cancel():
                jobs.append(job)
        return jobs

    def _write(self, jobs: Sequence[_Job], *, retried: bool = False) -> None:
        """Write it all in one transaction, or find out what of it cannot be written."""
        begun = self._clock.monotonic()
        try:
            outcomes = self._commit(jobs)
        except Exception as error:  # noqa: BLE001  every future gets an outcome
            if isinstance(error, StorageFailed) and not isinstance(error, EntryRefused):
                self.on_transaction(0, self._clock.monotonic() - begun, False)
            if self._tracer.enabled:
                self._trace(jobs, begun, getattr(error, "code", type(error).__name__))
            self._write_apart(jobs, error, retried=retried)
        else:
            entries = sum(len(one.entries) for one in jobs if isinstance(one, _Submission))
            self.on_transaction(entries, self._clock.monotonic() - begun, True)
            self._note_leases(jobs, outcomes)
            for job, outcome in zip(jobs, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    job.future.set_exception(outcome)
                else:
                    job.future.set_result(outcome)
            if self._tracer.enabled:
                self._trace(jobs, begun, None)

    def _trace(self, jobs: Sequence[_Job], begun: float, error: str | None) -> None:
        """A span for each submission; those of a transaction name each other's traces."""
        ended = self._clock.monotonic()
        traced = [one for one in jobs if isinstance(one, _Submission) and one.trace is not None]
        shared = sum(len(one.entries) for one in jobs if isinstance(one, _Submission))
        first: TraceContext | None = None
        for one in traced:
            others = [] if first is None else [first]
            if one is traced[0]:
                others = [other.trace for other in traced[1:] if other.trace is not None]
            place = self._tracer.record(
                "d3.rows",
                begun,
                ended,
                one.trace,
                {"d3.rows": len(one.entries), "d3.transaction.rows": shared},
                links=others,
                error=error,
            )
            first = first or place

    def _note_leases(self, jobs: Sequence[_Job], outcomes: Sequence[Any]) -> None:
        """Remember which keys are being answered, after the commit."""
        with self._changed:
            for job, outcome in zip(jobs, outcomes, strict=True):
                if isinstance(outcome, Reservation):
                    if not self._held and not self._unreleased:
                        self._renewal_due = self._clock.monotonic() + _RENEWAL_SECONDS
                    self._held[outcome.token] = outcome
                elif isinstance(job, _Release):
                    self._held.pop(job.reservation.token, None)
                elif isinstance(job, _Submission) and job.completion is not None:
                    self._held.pop(job.completion.reservation.token, None)

    def _write_apart(self, jobs: Sequence[_Job], error: Exception, *, retried: bool) -> None:
        if isinstance(error, StorageUnavailable) and not retried:
            self._write(jobs, retried=True)
        elif (isinstance(error, StorageFailed) and not isinstance(error, EntryRefused)) or (
            len(jobs) == 1
        ):
            self._fail(jobs, error)
        else:
            middle = len(jobs) // 2
            self._write(jobs[:middle], retried=retried)
            self._write(jobs[middle:], retried=retried)

    def _fail(self, jobs: Sequence[_Job], error: Exception) -> None:
        for job in jobs:
            if isinstance(job, _Release):
                self._keep_for_later(job.reservation)
            # Each a copy: one exception raised in many threads would collect all their traces.
            own = copy.copy(error)
            own.__cause__ = error.__cause__
            job.future.set_exception(own)

    def _commit(self, jobs: Sequence[_Job]) -> list[Any]:
        """The results of the jobs, once all is committed."""
        now = self._clock.now()
        with self._history.transaction() as transaction:
            entries = [e for job in jobs if isinstance(job, _Submission) for e in job.entries]
            ids = deque(transaction.add_many(entries))
            return [self._settle(job, ids, transaction, now) for job in jobs]

    @staticmethod
    def _settle(
        job: _Job, ids: deque[int], transaction: HistoryTransaction, now: datetime
    ) -> list[int] | Reservation | StoredAnswer | Exception | None:
        if isinstance(job, _Submission):
            mine = [ids.popleft() for _ in job.entries]
            if job.completion is not None:
                body = job.completion.answer(mine)
                transaction.complete(job.completion.reservation, body, mine, now)
            return mine
        if isinstance(job, _Reserve):
            try:
                return transaction.reserve(job.key, now)
            except (IdempotencyKeyReused, RequestInFlight) as refusal:
                return refusal
        assert isinstance(job, _Release)
        transaction.release(job.reservation)
        return None
