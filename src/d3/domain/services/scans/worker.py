"""A worker of a bulk scan: adds shards, claims them, judges their images, stores the rows.

Any number of workers may share a scan, on one machine or many: the ledger gives each shard to
one at a time. The shard of a worker that died goes to the next one, which decodes its images in
child processes, as one of them may have killed the first. Rows are stored and counted in one
transaction; an image that is judged twice by accident has one row.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from d3.domain.errors import D3Error, ScanFailed, ScanIncomplete
from d3.domain.formats import is_no_image, named_as_clip
from d3.domain.ports.clock import Clock
from d3.domain.ports.scans import ImageCollection, Listed, ScanLedger
from d3.domain.ports.tracing import NULL_TRACER, Tracer
from d3.domain.scans import SHARD_IMAGES, Listing, Scan, ScanRow, Shard, row_of, stored_uri
from d3.domain.services.retrying import retry_while_unavailable
from d3.domain.services.scans.pipeline import Outcome, ScanPipeline
from d3.domain.services.scans.watcher import Watcher
from d3.domain.services.shards import (
    LEASE,
    PAUSE,
    RENEWAL_SECONDS,
    Held,
    ShardWorker,
    dead_among,
)

_LOG = logging.getLogger(__name__)
_DEAD_SECONDS = 2.0
_AHEAD_SHARDS = 1000
_FIRST_SHARD = 200
_SHARDS_OF_A_SIZE = 8


def release_dead(ledger: ScanLedger, scan_id: int, now: datetime) -> None:
    """Release the leases of dead processes of this machine."""
    if dead := dead_among(ledger.holders(scan_id, now)):
        ledger.release(scan_id, dead)


@dataclass(slots=True, kw_only=True)
class _Held(Held[ScanRow]):
    """A claimed shard.

    Attributes:
        passed_over: files that are no images.
    """

    passed_over: int = 0


class ScanWorker(ShardWorker[int, str, _Held]):
    """Works on one scan until it is over.

    Args:
        pipeline: judges the images; the worker closes it.
        outage_seconds: that the ledger may be away.
        shard_images: keys of a shard at most; the first ones are smaller.
        tracer: takes a span for each shard.
    """

    def __init__(
        self,
        scan: Scan,
        ledger: ScanLedger,
        collection: ImageCollection,
        pipeline: ScanPipeline[int],
        clock: Clock,
        *,
        outage_seconds: float,
        watcher: Watcher | None = None,
        shard_images: int = SHARD_IMAGES,
        tracer: Tracer = NULL_TRACER,
    ) -> None:
        super().__init__(pipeline, clock, "d3-scan", tracer)
        self._scan = scan
        self._ledger = ledger
        self._collection = collection
        self._scanning = pipeline
        self._outage_seconds = outage_seconds
        self._watcher = watcher or Watcher()
        self._shard_images = shard_images
        self._looked = self._monotonic
        self._failure: D3Error | None = None
        self._unlisted: D3Error | None = None

    def run(self) -> None:
        """Work until every image has its row, or the scan is cancelled.

        Raises:
            ScanIncomplete: all that could be listed is judged; the rest is listed on the next run.
            D3Error: something is away for too long or refuses; what is stored stays.
        """
        lister = threading.Thread(target=self._list_shards, name="d3-scan-list", daemon=True)
        with self._renewing():
            lister.start()
            try:
                self._work()
            finally:
                self._stop.set()
                self._pipeline.close()
                with suppress(D3Error):
                    self._flush()
                lister.join()
                with suppress(D3Error):
                    self._ledger.release(self._scan.id, [self._owner])

    def _work(self) -> None:
        while True:
            if self._failure is not None:
                raise self._failure
            self._step()
            self._watcher.idle()
            if not self._pipeline.in_flight and not self._held and self._over():
                return

    def _retry(self, work: Callable[[], object]) -> None:
        retry_while_unavailable(work, self._outage_seconds)

    def _claim(self) -> tuple[int, _Held, Iterable[str]] | None:
        now = self._clock.now()
        shard = retry_while_unavailable(
            lambda: self._ledger.claim(self._scan.id, self._owner, now, now + LEASE),
            self._outage_seconds,
        )
        if shard is None:
            if self._monotonic - self._looked >= _DEAD_SECONDS:
                self._looked = self._monotonic
                self._retry(lambda: release_dead(self._ledger, self._scan.id, now))
            return None
        # One lookup for many: a shard that was begun before has some of its rows.
        kept = self._known(shard)
        left = [uri for uri in shard.uris if stored_uri(uri) not in kept]
        return shard.number, _Held(left=len(left), isolated=shard.begun), left

    def _known(self, shard: Shard) -> set[str]:
        uris = [stored_uri(uri) for uri in shard.uris]
        return retry_while_unavailable(
            lambda: self._ledger.known(self._scan.id, uris), self._outage_seconds
        )

    def _put(self, key: int, held: _Held, item: str) -> bool:
        self._scanning.put(key, item, isolated=held.isolated)
        return True

    def _keep(self, key: int, held: _Held, item: str, outcome: Outcome) -> None:
        del key
        named = self._collection.named
        named = named or (self._scan.video and named_as_clip(item))
        if not named and isinstance(outcome, D3Error) and is_no_image(item, outcome):
            held.passed_over += 1
            self._watcher.passed_over(item)
            return
        row = row_of(item, outcome, self._clock.now())
        held.rows.append(row)
        self._watcher.judged(row)

    def _store(self, key: int, held: _Held) -> None:
        self._retry(partial(self._ledger.add, self._scan.id, key, held.rows))
        held.rows = []

    def _finish(self, key: int, held: _Held) -> None:
        if held.rows:
            self._flush()
        self._retry(partial(self._ledger.finish, self._scan.id, key, held.passed_over))
        self._watcher.finished(key)

    def _renew(self, until: datetime) -> None:
        self._ledger.renew(self._scan.id, self._owner, until)

    def _over(self) -> bool:
        """Whether no worker has anything left to do.

        Raises:
            ScanIncomplete: nothing of what could be listed, though there is more.
        """
        unlisted = self._unlisted  # before the ledger is asked: its shards were cut by then
        over = retry_while_unavailable(
            lambda: self._ledger.complete(self._scan.id, self._clock.now()), self._outage_seconds
        )
        if unlisted is None or over or self._open_shards():
            return over
        raise ScanIncomplete(unlisted.problem, unlisted.remedy) from unlisted

    def _open_shards(self) -> set[int]:
        return retry_while_unavailable(
            lambda: self._ledger.open_shards(self._scan.id), self._outage_seconds
        )

    def _list_shards(self) -> None:
        """List the collection and add shards, while no other worker does."""
        try:
            while not self._stop.is_set() and self._unlisted is None:
                listing = retry_while_unavailable(self._begin_listing, self._outage_seconds)
                if listing is not None:
                    self._list_from(listing.number, listing.cursor)
                self._stop.wait(RENEWAL_SECONDS)
        except Exception as error:  # noqa: BLE001  or the scan would wait for this thread for ever
            self._failure = _as_d3_error(error)

    def _begin_listing(self) -> Listing | None:
        now = self._clock.now()
        return self._ledger.begin_listing(self._scan.id, self._owner, now, now + LEASE)

    def _list_from(self, number: int, cursor: str | None) -> None:
        uris: list[str] = []
        failures: list[D3Error] = []
        for one in self._listed(cursor, failures):
            uris.append(one.uri)
            if len(uris) < self._shard_size(number):
                continue
            if not self._add_shard(number, uris, one.cursor) or not self._wait_for_workers():
                return
            number, uris = number + 1, []
        if uris:
            # Without a cursor of its own: that all is listed is said by a shard that is empty.
            if not self._add_shard(number, uris, one.cursor):
                return
            number += 1
        if failures:
            self._unlisted = failures[0]
        else:
            self._add_shard(number, [], None)

    def _listed(self, cursor: str | None, failures: list[D3Error]) -> Iterator[Listed]:
        """The collection's keys, until the end or a failure."""
        try:
            yield from self._collection.list(cursor)
        except Exception as error:  # noqa: BLE001  whatever it is, what was listed is judged
            failures.append(_as_d3_error(error))

    def _add_shard(self, number: int, uris: list[str], cursor: str | None) -> bool:
        done = retry_while_unavailable(
            lambda: self._ledger.add_shard(self._scan.id, self._owner, number, uris, cursor),
            self._outage_seconds,
        )
        self._claimed = -PAUSE
        self._more.set()  # there is something to claim again
        return done

    def _shard_size(self, number: int) -> int:
        """Grows with the scan: results come early, and the last shards are not waited for long."""
        return min(self._shard_images, _FIRST_SHARD * (1 + number // _SHARDS_OF_A_SIZE))

    def _wait_for_workers(self) -> bool:
        """Do not list millions of keys ahead of the workers; whether to go on at all."""
        while not self._stop.is_set():
            if len(self._open_shards()) < _AHEAD_SHARDS:
                return True
            self._stop.wait(1.0)
        return False


def _as_d3_error(error: Exception) -> D3Error:
    if isinstance(error, D3Error):
        return error
    _LOG.error("the images cannot be listed", exc_info=error)
    failed = ScanFailed(
        f"The images cannot be listed ({type(error).__name__}).",
        "The log has the details. Please report this.",
    )
    failed.__cause__ = error
    return failed
