"""Jobs as callers use them: begun, looked at, cancelled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice

from d3.domain.errors import CommitInDoubt, D3Error, StorageFailed
from d3.domain.idempotency import ANONYMOUS, IdempotencyKey, Reservation, StoredAnswer
from d3.domain.jobs import (
    FETCHED_ITEMS,
    ItemPlace,
    Job,
    JobItem,
    NewItem,
    NewJob,
    NewShard,
    new_job_name,
)
from d3.domain.panels import PanelRule, checked_panel
from d3.domain.ports.clock import Clock
from d3.domain.ports.jobs import JobLedger, Spool
from d3.domain.scans import S3_SCHEME
from d3.domain.services.history_writer import HistoryWriter
from d3.domain.services.jobs.receiving import Receiving, larger_than_spool
from d3.domain.services.model_host import ModelHost
from d3.domain.services.questions import Question
from d3.domain.webhooks import Callback, new_secret


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLimits:
    """What jobs may cost.

    Attributes:
        items: of one job.
        file_bytes: of one file.
        spool_bytes: of all files that wait.
        days: after which a job is forgotten.
    """

    items: int
    file_bytes: int
    spool_bytes: int
    days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """How the items of a job are judged, and for whom; see :class:`NewJob`.

    Attributes:
        callback: the address of who is told.
        idempotency_key: under which the same request gets the same answer.
    """

    threshold: float | None = None
    views: int = 1
    panel: tuple[str, ...] | None = None
    panel_rule: PanelRule | None = None
    stability: bool = False
    callback: str | None = None
    every: float | None = None
    most: int | None = None
    user_id: int | None = None
    request_id: str | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """The answer to a request for a job.

    Attributes:
        body: of the response.
        replayed: whether it is the answer to an earlier request with the same key.
    """

    body: bytes
    replayed: bool = False


class JobService:
    """Begins and ends jobs. Safe to call from many threads.

    Args:
        ledger: gives the ledger; its database must be ready by then.
        spool: gives the place for files.
        host: holds the models.
        writer: reserves idempotency keys.
        clock: tells the time.
        check_receiver: gives the address of who is told, if events may be sent there.
        limits: what jobs may cost.
    """

    def __init__(  # noqa: PLR0917  its parts, one by one
        self,
        ledger: Callable[[], JobLedger],
        spool: Callable[[], Spool],
        host: ModelHost,
        writer: HistoryWriter,
        clock: Clock,
        check_receiver: Callable[[str], str],
        limits: JobLimits,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._host = host
        self._writer = writer
        self._clock = clock
        self._check_receiver = check_receiver
        self.limits = limits

    def receive(self, announced: int = 0) -> Receiving:
        """Make ready for the files of a job.

        Args:
            announced: bytes to come; 0 where that is not known.

        Raises:
            FormTooLarge: it is more than the whole spool takes.
            SpoolFull: there is no room for so many at the moment; nothing was kept.
            StorageFailed: the spool or the ledger cannot be used.
        """
        if announced > self.limits.spool_bytes:
            raise larger_than_spool(self.limits.spool_bytes)
        ledger, spool = self._ledger(), self._spool()
        new = replace(self._new(JobRequest()), spool=spool.id)
        job_id = ledger.begin(new)
        try:
            if announced:
                ledger.grow(job_id, announced, self.limits.spool_bytes)
        except D3Error:
            with suppress(StorageFailed):
                ledger.forget(job_id)
            raise
        return Receiving(
            ledger,
            spool,
            job_id,
            new.name,
            max_items=self.limits.items,
            max_file_bytes=self.limits.file_bytes,
            spool_bytes=self.limits.spool_bytes,
            announced=announced,
        )

    def start_received(
        self,
        received: Receiving,
        asked: JobRequest,
        external_ids: Sequence[str | None],
        body: Callable[[Job], bytes],
    ) -> Started:
        """Begin a job with files that were received; if not, they are removed.

        Args:
            received: all its files.
            asked: how they are judged.
            external_ids: of each file; or none at all.
            body: makes the response.

        Raises:
            D3Error: it cannot be judged so, or not be kept.
        """
        try:
            self._check(asked)
            shards, refused = received.finish()
            if external_ids:
                shards = [_named(one, external_ids) for one in shards]
                refused = [_with_id(one, external_ids) for one in refused]
            new = replace(self._new(asked), name=received.name, spool=self._spool().id)
            digest = f"{received.digest}{external_ids!r}"
            started = self._start(received.job_id, new, asked, shards, refused, digest, body)
        except CommitInDoubt:
            raise  # it may have begun; if not, its files are swept
        except BaseException:
            received.discard()
            raise
        if started.replayed:
            received.discard()
        elif not shards:
            received.clear()
        return started

    def start_fetched(
        self,
        items: Sequence[NewItem],
        asked: JobRequest,
        digest: str,
        body: Callable[[Job], bytes],
    ) -> Started:
        """Begin a job whose items are fetched when their turn comes.

        Args:
            items: with their sources; or with what is wrong with them.
            asked: how they are judged.
            digest: of what was sent of them, for an idempotency key.
            body: makes the response.

        Raises:
            D3Error: it cannot be judged so, or not be kept.
        """
        self._check(asked)
        shards: list[NewShard] = []
        refused = [one for one in items if one.error is not None]
        for place in (ItemPlace.S3, ItemPlace.LINK):
            some = iter([one for one in items if one.error is None and _place_of(one) is place])
            while part := tuple(islice(some, FETCHED_ITEMS)):
                shards.append(NewShard(number=len(shards), place=place, items=part))
        new, ledger = self._new(asked), self._ledger()
        job_id = ledger.begin(new)
        try:
            started = self._start(job_id, new, asked, shards, refused, digest, body)
        except CommitInDoubt:
            raise
        except BaseException:
            with suppress(StorageFailed):
                ledger.forget(job_id)
            raise
        if started.replayed:
            ledger.forget(job_id)
        return started

    def page(
        self, name: str, after: int, limit: int, user_id: int | None = None
    ) -> tuple[Job, list[JobItem]]:
        """A job and its items after one of that number.

        Raises:
            JobNotFound: there is none.
        """
        job = self._ledger().get(name, user_id)
        return job, self._ledger().items(job.id, after, limit)

    def newest(self, limit: int, offset: int = 0, user_id: int | None = None) -> list[Job]:
        """Jobs, newest first."""
        return self._ledger().newest(limit, offset, user_id)

    def cancel(self, name: str, user_id: int | None = None) -> Job:
        """Cancel what has no result yet; the job then, which is over.

        Raises:
            JobNotFound: there is none.
        """
        return self._ledger().cancel(name, self._clock.now(), user_id)

    def _check(self, asked: JobRequest) -> None:
        """Check that it makes sense, as far as the models that are loaded now can say.

        Raises:
            D3Error: threshold, views or panel make no sense.
        """
        names = None if asked.panel is None else checked_panel(asked.panel)
        if self._host.loaded() is None:
            return
        with self._host.panel(names) as panel:
            Question.of(panel, threshold=asked.threshold, views=asked.views)

    def _new(self, asked: JobRequest) -> NewJob:
        now, callback = self._clock.now(), None
        if asked.callback is not None:
            callback = Callback(self._check_receiver(asked.callback), new_secret())
        return NewJob(
            name=new_job_name(),
            created_at=now,
            expires_at=now + timedelta(days=self.limits.days),
            user_id=asked.user_id,
            request_id=asked.request_id,
            threshold=asked.threshold,
            views=asked.views,
            panel=asked.panel,
            panel_rule=asked.panel_rule,
            stability=asked.stability,
            callback=callback,
            every=asked.every,
            most=asked.most,
        )

    def _start(  # noqa: PLR0917  what there is to know of a job
        self,
        job_id: int,
        new: NewJob,
        asked: JobRequest,
        shards: Sequence[NewShard],
        refused: Sequence[NewItem],
        digest: str,
        body: Callable[[Job], bytes],
    ) -> Started:
        """Start it, once for each idempotency key."""
        reservation: Reservation | None = None
        if asked.idempotency_key is not None:
            said = replace(asked, idempotency_key=None, request_id=None, user_id=None)
            hashed = hashlib.sha256(f"{said!r}{digest}".encode()).hexdigest()
            owner = asked.user_id or ANONYMOUS
            key = IdempotencyKey(owner, asked.idempotency_key, hashed)
            reserved = self._writer.reserve(key).result()
            if isinstance(reserved, StoredAnswer):
                return Started(reserved.body, replayed=True)
            reservation = reserved
        try:
            job = self._ledger().start(
                job_id,
                new,
                shards,
                self._clock.now(),
                refused=refused,
                answer=None if reservation is None else (reservation, body),
            )
        except BaseException:
            if reservation is not None:
                with suppress(StorageFailed):
                    self._writer.release(reservation)
            raise
        return Started(body(job))


def _place_of(item: NewItem) -> ItemPlace:
    return ItemPlace.S3 if item.source.startswith(S3_SCHEME) else ItemPlace.LINK


def _named(shard: NewShard, external_ids: Sequence[str | None]) -> NewShard:
    return replace(shard, items=tuple(_with_id(one, external_ids) for one in shard.items))


def _with_id(item: NewItem, external_ids: Sequence[str | None]) -> NewItem:
    return replace(item, external_id=external_ids[item.number - 1])
