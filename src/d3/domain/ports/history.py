"""What the domain needs to remember: the history and its transactions, and the result cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from d3.domain.history import (
    BucketSize,
    CursorPage,
    Distribution,
    Failures,
    HistoryEntry,
    HistoryFilter,
    NewEntry,
    Page,
    RequestRecord,
    Statistics,
)
from d3.domain.idempotency import IdempotencyKey, Reservation, StoredAnswer
from d3.domain.ordering import NEWEST_FIRST, Order


class HistoryTransaction(Protocol):
    """Writing that is kept as a whole or not at all: results, requests, and idempotency keys.

    A key stands for a request that may come twice and counts once; it is unique per owner.
    """

    def add_many(self, entries: Sequence[NewEntry]) -> list[int]:
        """Write the entries by one statement; their ids, in order.

        Raises:
            EntryRefused: one of them cannot be kept, so none is.
            StorageFailed: the store cannot be written.
        """
        ...

    def log_many(self, records: Sequence[RequestRecord]) -> None:
        """Keep the records.

        Raises:
            StorageFailed: they cannot be written.
        """
        ...

    def reserve(self, key: IdempotencyKey, now: datetime) -> Reservation | StoredAnswer:
        """The right to answer this key, or the answer it got before.

        A reservation whose lease has run out (its process died) is taken over, an answer older
        than a day forgotten.

        Raises:
            IdempotencyKeyReused: the key stands for another request.
            RequestInFlight: the same request is being answered right now.
        """
        ...

    def renew(self, reservations: Sequence[Reservation], now: datetime) -> None:
        """Prolong the leases of keys that are still being answered; others are left alone."""
        ...

    def complete(
        self, reservation: Reservation, body: bytes, ids: Sequence[int], now: datetime
    ) -> None:
        """Keep the answer.

        Args:
            reservation: of the key.
            body: the answer.
            ids: of the entries in the answer; deleting one forgets the answer.
            now: the answer is kept for a day from then.

        Raises:
            ReservationLost: the lease ran out and another request took over; what the
                transaction wrote must not be kept.
        """
        ...

    def release(self, reservation: Reservation) -> None:
        """Give the key back unanswered, so that the request may be sent again."""
        ...

    def purge(self, now: datetime) -> int:
        """Forget what has expired; how many there were."""
        ...


@runtime_checkable
class History(Protocol):
    """Results that were kept; newest first, by time, then by id, unless another order is asked for.

    Safe to use from many threads.
    """

    def transaction(self) -> AbstractContextManager[HistoryTransaction]:
        """Write several things at once; leaving the block commits, an exception undoes all.

        Raises:
            StorageUnavailable: the store is away or busy; nothing was kept.
            CommitInDoubt: the connection broke while committing; it may be kept or not.
            StorageFailed: the store cannot be written.
        """
        ...

    def add_many(self, entries: Sequence[NewEntry]) -> list[int]:
        """Keep the entries in one transaction; their ids, in order.

        Raises:
            EntryRefused: one of them cannot be kept, so none is.
            StorageFailed: the store cannot be written.
        """
        ...

    def get(self, id_: int, user_id: int | None = None) -> HistoryEntry:
        """One entry; with ``user_id``, only if it is this account's.

        Raises:
            ResultNotFound: there is none.
        """
        ...

    def delete(self, id_: int, user_id: int | None = None) -> None:
        """Remove one entry; with ``user_id``, only if it is this account's.

        Answers to idempotency keys that tell of it go with it.

        Raises:
            ResultNotFound: there is none.
        """
        ...

    def forget(
        self, results_before: datetime | None, records_before: datetime | None
    ) -> tuple[int, int]:
        """Delete what is older than these moments, a thousand rows at a time; how many there were.

        Answers to idempotency keys from before go with the results.
        Of several replicas that do this at once, one does and the others stop.

        Args:
            results_before: results judged before this go; None: none do.
            records_before: records of requests that came before this go; None: none do.
        """
        ...

    def page(
        self, where: HistoryFilter, limit: int, offset: int = 0, order: Order = NEWEST_FIRST
    ) -> Page:
        """``limit`` (1 to 500) entries after the first ``offset``, and how many there are.

        Raises:
            RequestInvalid: the limit or the offset is out of range.
        """
        ...

    def page_after(
        self,
        where: HistoryFilter,
        limit: int,
        cursor: str | None = None,
        order: Order = NEWEST_FIRST,
    ) -> CursorPage:
        """``limit`` (1 to 500) entries from the first in order, or from where the cursor stands.

        Raises:
            CursorInvalid: the cursor was changed or belongs to another filter or order.
            RequestInvalid: the limit is out of range.
        """
        ...

    def statistics(self, where: HistoryFilter, bucket: BucketSize | None = None) -> Statistics:
        """Counts over the entries that match, and a series in time if asked for."""
        ...

    def distribution(self, where: HistoryFilter, parts: int) -> Distribution:
        """How the scores of the entries that match lie in so many parts, and their times."""
        ...

    def failures(self, where: HistoryFilter, bucket: BucketSize) -> list[Failures]:
        """Requests to judge that failed, oldest first, without the empty days or hours.

        Of the filter only the account and the times count: nothing else is known of them.
        """
        ...

    def iterate(self, where: HistoryFilter) -> Iterator[HistoryEntry]:
        """Every entry that matches, newest first, in bounded memory and without a long lock."""
        ...

    def check_writable(self) -> None:
        """Try what keeping a result needs, and undo it.

        Raises:
            StorageFailed: a result could not be kept now.
        """
        ...

    def close(self) -> None:
        """Give connections back; the history is of no use afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class CacheKey:
    """All that decides an image's logits.

    Attributes:
        image_sha256: of the encoded file or the pixels.
        model_sha256: of the weights, the shape and the permutations.
    """

    image_sha256: str
    model_sha256: str
    views: int
    engine: str
    precision: str


@runtime_checkable
class ResultCache(Protocol):
    """Raw logits of images seen before. Never raises: a cache that is away remembers nothing."""

    @property
    def trouble(self) -> str | None:
        """Why it cannot be used."""
        ...

    @property
    def failures(self) -> int:
        """How many questions it did not answer."""
        ...

    def get(self, key: CacheKey) -> tuple[float, ...] | None:
        """The logits, one per view; None where they are not known."""
        ...

    def put(self, key: CacheKey, logits: Sequence[float]) -> None:
        """Remember the logits, one per view."""
        ...

    def close(self) -> None:
        """Give connections back."""
        ...
