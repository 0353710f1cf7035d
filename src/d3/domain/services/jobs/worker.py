"""A worker on jobs: claims shards of all running jobs in turn, and stores what they give.

What is wrong with an image is that item's error. What is wrong with a store, a decoder or a model
is nobody's error: the shard is left alone for a while, and its job says why.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from d3.domain.backoff import pause_after
from d3.domain.clips import FrameSampling
from d3.domain.errors import (
    D3Error,
    DecodingInterrupted,
    EntryRefused,
    ImageError,
    ModelNotLoaded,
    Overloaded,
    RequestInvalid,
    ScoreUndefined,
    StorageFailed,
    StorageUnavailable,
)
from d3.domain.formats import SNIFFED_BYTES
from d3.domain.history import NewEntry, entry_of
from d3.domain.images import ImageSource
from d3.domain.jobs import ItemOutcome, ItemPlace, Job, JobShard, NewItem, ShardProgress
from d3.domain.ports.clock import Clock
from d3.domain.ports.jobs import JobLedger, Spool, SpoolReader
from d3.domain.ports.tracing import NULL_TRACER, Tracer
from d3.domain.services.clips import recognises
from d3.domain.services.detection import Judged
from d3.domain.services.model_host import ModelHost
from d3.domain.services.pipeline import Pipeline
from d3.domain.services.questions import Question
from d3.domain.services.shards import LEASE, PAUSE, Held, ShardWorker

_LOG = logging.getLogger(__name__)
_IDLE_SECONDS = 1.0
_TRIES = 5
"""Claims of a shard after which a failing detector or decoder is its items' error."""
_LONGEST_PAUSE = 60.0

Key = tuple[int, int]
Fetch = Callable[[ItemPlace, str], ImageSource]
"""Gives the bytes behind a link or an ``s3://`` URI."""


@dataclass(slots=True, kw_only=True)
class _Held(Held[tuple[int, ItemOutcome]]):
    """A claimed shard.

    Attributes:
        shard: as it was claimed.
        question: what is asked of the models, which are held until the shard is through.
        models: lets go of them.
        sampling: which frames of clips are judged.
        file: of the spool; None for items from elsewhere.
        trouble: why it is left alone for a while; None for most.
    """

    shard: JobShard
    question: Question
    models: ExitStack
    sampling: FrameSampling
    file: SpoolReader | None = None
    trouble: D3Error | None = None


class JobWorker(ShardWorker[Key, NewItem, _Held]):
    """Works on the shards of all running jobs until it is stopped.

    Args:
        ledger: of the jobs.
        spool: that is seen from here.
        host: holds the models.
        fetch: gets what is not in the spool.
        pipeline: judges the images; the worker closes it.
        clock: tells the time.
        version: of D3, kept with each result.
        places: of the items that this worker takes.
        sampling: makes that of clips of what was asked.
        tracer: takes a span for each shard.

    Attributes:
        judged: is told of each image's outcome.
    """

    def __init__(  # noqa: PLR0917  its parts, one by one
        self,
        ledger: JobLedger,
        spool: Spool,
        host: ModelHost,
        fetch: Fetch,
        pipeline: Pipeline[Key, NewItem],
        clock: Clock,
        version: str,
        places: Collection[ItemPlace],
        sampling: Callable[[float | None, int | None], FrameSampling],
        tracer: Tracer = NULL_TRACER,
    ) -> None:
        super().__init__(pipeline, clock, "d3-jobs", tracer)
        self._ledger = ledger
        self._spool = spool
        self._host = host
        self._fetch = fetch
        self._judging = pipeline
        self._version = version
        self._places = places
        self._sampling = sampling
        self._looked = -_IDLE_SECONDS
        self._said: str | None = None
        self.judged: Callable[[Judged | D3Error], object] = lambda _: None

    @property
    def working(self) -> bool:
        """Whether it holds shards."""
        return bool(self._held)

    def wake(self) -> None:
        """Look for work now."""
        self._looked, self._claimed = -_IDLE_SECONDS, -PAUSE
        self._more.set()

    def run(self, stopping: threading.Event) -> None:
        """Run until the event is set and :meth:`wake` is called. What fails is tried again."""
        with self._renewing():
            try:
                while not stopping.is_set():
                    self._go_on(stopping)
            finally:
                self._pipeline.close()
                with suppress(D3Error):
                    self._take_last()
                for held in self._held.values():
                    _let_go(held)
                with suppress(D3Error):
                    self._ledger.release([self._owner])

    def _go_on(self, stopping: threading.Event) -> None:
        try:
            self._step()
        except D3Error as error:
            if (said := str(error)) != self._said:
                _LOG.warning("jobs wait: %s", said)
                self._said = said
            stopping.wait(_IDLE_SECONDS)
        except Exception:  # noqa: BLE001  the thread has other work
            _LOG.exception("the worker on jobs has failed; it goes on")
            stopping.wait(_IDLE_SECONDS)

    def _take_last(self) -> None:
        """Store what is through; the rest is judged by whoever claims it next."""
        for key, item, outcome in self._judging.take(0.01):
            self._keep(key, self._held[key], item, outcome)
        self._flush()

    def _claim(self) -> tuple[Key, _Held, Iterable[NewItem]] | None:
        if self._monotonic - self._looked < _IDLE_SECONDS or self._host.loaded() is None:
            return None
        now = self._clock.now()
        seen = self._spool.seen if ItemPlace.SPOOL in self._places else None
        spools = [] if seen is None else [seen]
        shard = self._ledger.claim(self._owner, self._places, spools, now, now + LEASE)
        if shard is None:
            self._looked = self._monotonic
            return None
        models = ExitStack()
        try:
            panel = models.enter_context(self._host.panel(shard.job.panel))
            question = Question.of(
                panel,
                threshold=shard.job.threshold,
                views=shard.job.views,
                rule=shard.job.panel_rule,
                stability=shard.job.stability,
            )
            sampling = self._sampling(shard.job.every, shard.job.most)
        except D3Error as error:
            models.close()
            self._refuse(shard, error)
            return None
        file = None
        if shard.place is ItemPlace.SPOOL:
            file = self._spool.open(shard.job.name, shard.number)
        held = _Held(
            left=len(shard.items),
            isolated=shard.begun,
            shard=shard,
            question=question,
            models=models,
            sampling=sampling,
            file=file,
        )
        return shard.key, held, shard.items

    def _refuse(self, shard: JobShard, error: D3Error) -> None:
        """Say what is wrong with a question: of its items, or of the moment."""
        if isinstance(error, RequestInvalid):
            outcomes: dict[int, ItemOutcome] = {one.number: error for one in shard.items}
            self._told(shard, self._ledger.store(shard.key, outcomes, self._clock.now()))
        else:
            self._put_off(shard, error)

    def _put(self, key: Key, held: _Held, item: NewItem) -> bool:
        read: Callable[[], ImageSource] = partial(self._fetch, held.shard.place, item.source)
        may_be_clip = None
        if held.file is not None:
            read = partial(held.file.read, item.offset, item.size_bytes)
            may_be_clip = partial(_begins_as_clip, held.file, item)
        try:
            self._judging.put(
                key,
                item,
                held.question,
                item.name,
                read,
                file_bytes=item.size_bytes,
                isolated=held.isolated,
                sampling=held.sampling,
                may_be_clip=may_be_clip,
            )
        except Overloaded:
            return False
        except D3Error as error:
            held.left -= 1
            self._keep(key, held, item, error)
        return True

    def _keep(self, key: Key, held: _Held, item: NewItem, outcome: Judged | D3Error) -> None:
        if isinstance(outcome, D3Error) and _is_of_the_moment(outcome, held.shard.claims):
            if held.trouble is None:
                held.trouble = outcome
                self._drop(key)
            return
        self.judged(outcome)
        kept = outcome if isinstance(outcome, D3Error) else self._entry(held.shard.job, outcome)
        held.rows.append((item.number, kept))

    def _entry(self, job: Job, judged: Judged) -> NewEntry:
        return entry_of(
            judged.detection,
            created_at=self._clock.now(),
            d3_version=self._version,
            cached=judged.cached,
            user_id=job.user_id,
            request_id=job.request_id,
        )

    def _store(self, key: Key, held: _Held) -> None:
        del key
        self._send(held)

    def _flush(self) -> None:
        """Store, and see what is of no use any more, such as the rest of a cancelled job."""
        super()._flush()
        if self._held:
            for key in self._held.keys() - self._ledger.held(self._owner):
                self._drop(key)
                self._held[key].left -= self._judging.cancel(key)

    def _finish(self, key: Key, held: _Held) -> None:
        progress = self._send(held)
        if not progress.finished:
            if held.trouble is not None:
                self._put_off(held.shard, held.trouble)
            else:
                self._ledger.put_off(key, self._owner, self._clock.now(), "")
        _let_go(held)
        self._told(held.shard, progress)

    def _send(self, held: _Held) -> ShardProgress:
        """Store what is not stored yet; an outcome that no database takes is an error alone."""
        key, now = held.shard.key, self._clock.now()
        try:
            progress = self._ledger.store(key, dict(held.rows), now)
        except EntryRefused:
            for number, outcome in held.rows:
                try:
                    progress = self._ledger.store(key, {number: outcome}, now)
                except EntryRefused as error:
                    progress = self._ledger.store(key, {number: error}, now)
        held.rows = []
        return progress

    def _told(self, shard: JobShard, progress: ShardProgress) -> None:
        """Remove files that nobody needs any more; what cannot be removed now is swept."""
        if not progress.finished or shard.job.spool is None:
            return
        with suppress(StorageFailed):
            if progress.over:
                self._spool.remove(shard.job.name)
                self._ledger.note_cleared(shard.job.id)
            elif shard.place is ItemPlace.SPOOL:
                self._spool.remove(shard.job.name, shard.number)

    def _put_off(self, shard: JobShard, error: D3Error) -> None:
        pause = timedelta(seconds=pause_after(shard.claims, 2.0, _LONGEST_PAUSE))
        self._ledger.put_off(shard.key, self._owner, self._clock.now() + pause, str(error))

    def _renew(self, until: datetime) -> None:
        if self._held:
            self._ledger.renew(self._owner, until)


def _is_of_the_moment(error: D3Error, claims: int) -> bool:
    """Whether it may go better later, for no fault of the image."""
    if isinstance(error, StorageUnavailable | ModelNotLoaded):
        return True
    innocent = not isinstance(error, ImageError | ScoreUndefined | RequestInvalid)
    return (innocent or isinstance(error, DecodingInterrupted)) and claims < _TRIES


def _begins_as_clip(file: SpoolReader, item: NewItem) -> bool:
    return recognises(file.read(item.offset, min(item.size_bytes, SNIFFED_BYTES)))


def _let_go(held: _Held) -> None:
    held.models.close()
    if held.file is not None:
        held.file.close()
