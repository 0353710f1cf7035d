"""The history with its transactions, and the result cache."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from d3.domain.history import (
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
)
from d3.domain.idempotency import IdempotencyKey, Reservation, StoredAnswer
from d3.domain.labels import LabelChange, NewLabel
from d3.domain.ordering import NEWEST_FIRST, Order


class HistoryTransaction(Protocol):
    """Writes results, requests and idempotency keys, all or nothing.

    An idempotency key stands for a request that may come twice and counts once; it is unique per
    owner.
    """

    def add_many(self, entries: Sequence[NewEntry]) -> list[int]:
        """Write the entries in one statement; their ids, in order.

        Raises:
            EntryRefused: one of them cannot be stored, so none is.
            StorageFailed: the store cannot be written.
        """
        ...

    def log_many(self, records: Sequence[RequestRecord]) -> None:
        """Write request records.

        Raises:
            StorageFailed: they cannot be written.
        """
        ...

    def reserve(self, key: IdempotencyKey, now: datetime) -> Reservation | StoredAnswer:
        """Reserve this key, or return the answer that it got before.

        A reservation whose lease has expired (its process died) is taken over. An answer older than
        a day is forgotten.

        Raises:
            IdempotencyKeyReused: the key belongs to another request.
            RequestInFlight: the same request is being answered right now.
        """
        ...

    def renew(self, reservations: Sequence[Reservation], now: datetime) -> None:
        """Extend the leases of keys that are still being answered; others are left alone."""
        ...

    def complete(
        self, reservation: Reservation, body: bytes, ids: Sequence[int], now: datetime
    ) -> None:
        """Store the answer.

        Args:
            reservation: of the key.
            body: the answer.
            ids: of the entries in the answer; deleting one forgets the answer.
            now: the answer is kept for a day from then.

        Raises:
            ReservationLost: the lease expired and another request took over; roll back.
        """
        ...

    def release(self, reservation: Reservation) -> None:
        """Give the key back unanswered, so that the request may be sent again."""
        ...

    def purge(self, now: datetime) -> int:
        """Delete what has expired; how many there were."""
        ...


@runtime_checkable
class History(Protocol):
    """Stored results, newest first unless another order is given. Safe to use from many threads."""

    def transaction(self) -> AbstractContextManager[HistoryTransaction]:
        """Write several things at once; leaving the block commits, an exception rolls back.

        Raises:
            StorageUnavailable: the store does not answer or is busy; nothing was stored.
            CommitInDoubt: the connection broke while committing; the outcome is unknown.
            StorageFailed: the store cannot be written.
        """
        ...

    def add_many(self, entries: Sequence[NewEntry]) -> list[int]:
        """Write the entries in one transaction; their ids, in order.

        Raises:
            EntryRefused: one of them cannot be stored, so none is.
            StorageFailed: the store cannot be written.
        """
        ...

    def get(self, id_: int, user_id: int | None = None) -> HistoryEntry:
        """One entry; with ``user_id``, only if it is this user's.

        Raises:
            ResultNotFound: there is none.
        """
        ...

    def delete(self, id_: int, user_id: int | None = None) -> None:
        """Delete one entry; with ``user_id``, only if it is this user's.

        Answers to idempotency keys that contain it are deleted too.

        Raises:
            ResultNotFound: there is none.
        """
        ...

    def delete_many(self, ids: Collection[int], user_id: int | None = None) -> list[int]:
        """Delete entries in one transaction; the ids that were not there, in order.

        With ``user_id``, entries of others count as not there. As with :meth:`delete`, what tells
        of an entry goes with it: labels and kept answers.
        """
        ...

    def label(
        self,
        labels: Sequence[NewLabel],
        now: datetime,
        by: int | None = None,
        user_id: int | None = None,
    ) -> list[LabelChange]:
        """Say what images are, all in one transaction; what is now kept of it, in order.

        The last label of a result counts and stands in its entry; its verdict stays.

        Args:
            labels: to keep.
            now: when it is said.
            by: the account that says so.
            user_id: only results of this user may be labelled.

        Raises:
            ResultNotFound: a result is not there, so nothing was kept.
        """
        ...

    def labels(self, id_: int, user_id: int | None = None) -> list[LabelChange]:
        """All that was said about a result's image, newest first.

        Raises:
            ResultNotFound: there is no such result, or it is not this user's.
        """
        ...

    def last_labels(self, ids: Collection[int]) -> Mapping[int, LabelChange]:
        """What was last said about these results' images; those without a label are left out."""
        ...

    def identify(
        self, results: Collection[int | str], user_id: int | None = None
    ) -> Mapping[int | str, Sequence[int]]:
        """The ids that are meant by ids and by files' SHA-256, oldest first.

        What means no result, or with ``user_id`` none of this user's, is left out.
        """
        ...

    def forget(
        self, results_before: datetime | None, records_before: datetime | None
    ) -> tuple[int, int]:
        """Delete old results and request records, a thousand rows at a time; how many of each.

        Answers to idempotency keys from before are deleted with the results. If several replicas do
        this at once, one does it and the others stop.

        Args:
            results_before: deletes results judged before this; None: none.
            records_before: deletes records of requests from before this; None: none.
        """
        ...

    def page(
        self, where: HistoryFilter, limit: int, offset: int = 0, order: Order = NEWEST_FIRST
    ) -> Page:
        """``limit`` (1 to 500) entries after the first ``offset``, and the total.

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
        """``limit`` (1 to 500) entries from the first in order, or from the cursor.

        Raises:
            CursorInvalid: the cursor was changed or belongs to another filter or order.
            RequestInvalid: the limit is out of range.
        """
        ...

    def statistics(self, where: HistoryFilter, bucket: BucketSize | None = None) -> Statistics:
        """Counts over the entries that match, with a time series if asked for."""
        ...

    def distribution(self, where: HistoryFilter, parts: int) -> Distribution:
        """A histogram of the scores that match, in so many parts, and times."""
        ...

    def breakdown(self, where: HistoryFilter, by: GroupBy) -> Mapping[str | None, Tally]:
        """Counts for each model, label or provenance, the most first.

        None stands for results without one: of an unknown model, without a label, or of a file
        whose provenance nobody looked for.
        """
        ...

    def daily(self, where: HistoryFilter, parts: int) -> list[Day]:
        """Each day in which something was judged: its scores, doubts and labels, oldest first.

        For one version of a model, give the filter ``model`` and ``model_version``.
        """
        ...

    def failures(self, where: HistoryFilter, bucket: BucketSize) -> list[Failures]:
        """Failed requests to judge images, oldest first, without empty days or hours.

        Of the filter only the user and the times count: nothing else is known of them.
        """
        ...

    def iterate(self, where: HistoryFilter) -> Iterator[HistoryEntry]:
        """Every entry that matches, newest first, in bounded memory and without a long lock."""
        ...

    def check_writable(self) -> None:
        """Write a result and roll it back.

        Raises:
            StorageFailed: no result could be stored now.
        """
        ...

    def close(self) -> None:
        """Close all connections."""
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
    """Raw logits of images seen before. Never raises: without its server it is empty."""

    @property
    def trouble(self) -> str | None:
        """Why it cannot be used, as of the last attempt; None while it can."""
        ...

    @property
    def failures(self) -> int:
        """Lookups that failed since the start."""
        ...

    def get(self, key: CacheKey) -> tuple[float, ...] | None:
        """The logits, one per view; None if unknown."""
        ...

    def put(self, key: CacheKey, logits: Sequence[float]) -> None:
        """Store the logits, one per view."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...
