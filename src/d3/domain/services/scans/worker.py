"""A worker of a bulk scan: adds shards, claims them, judges their images, stores the rows.

Any number of workers may share a scan, on one machine or many: the ledger gives each shard to
one at a time. The shard of a worker that died goes to the next one, which decodes its images in
child processes, as one of them may have killed the first. Rows are stored and counted in one
transaction; an image that is judged twice by accident has one row.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TypeAlias

from d3.domain.detections import Detection
from d3.domain.errors import D3Error, ScanFailed, ScanIncomplete
from d3.domain.formats import is_no_image
from d3.domain.ports.clock import Clock
from d3.domain.ports.scans import ImageCollection, Listed, ScanLedger
from d3.domain.scans import (
    SHARD_IMAGES,
    Listing,
    Scan,
    ScanRow,
    Shard,
    row_of,
    stored_uri,
)
from d3.domain.services.retrying import retry_while_unavailable
from d3.domain.services.scans.pipeline import Pipeline
from d3.domain.services.scans.watcher import Watcher


def new_owner() -> str:
    """A unique name for this process, to hold leases by."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def release_dead(ledger: ScanLedger, scan_id: int, now: datetime) -> None:
    """Release the leases of dead processes of this machine."""
    if dead := [one for one in ledger.holders(scan_id, now) if _is_dead(one)]:
        ledger.release(scan_id, dead)


def _is_dead(owner: str) -> bool:
    """Whether this was a process of this machine, and has ended."""
    machine, process, _ = owner.rsplit(":", 2)
    if machine != socket.gethostname():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


Outcome: TypeAlias = "Detection | D3Error"
_LOG = logging.getLogger(__name__)
_LEASE = timedelta(seconds=30)
_RENEWALS = 5
_FLUSH_ROWS = 512
_FLUSH_SECONDS = 1.0
_PAUSE = 0.2
_DEAD_SECONDS = 2.0
_AHEAD_SHARDS = 1000
_FIRST_SHARD = 200
_SHARDS_OF_A_SIZE = 8


@dataclass(slots=True)
class _Held:
    """A claimed shard.

    Attributes:
        isolated: whether its images are decoded in child processes.
        passed_over: files that are no images.
    """

    number: int
    left: int
    isolated: bool
    passed_over: int = 0
    rows: list[ScanRow] = field(default_factory=list)


class ScanWorker:
    """Works on one scan until it is over.

    Args:
        pipeline: judges the images; the worker closes it.
        outage_seconds: that the ledger may be away.
        shard_images: keys of a shard at most; the first ones are smaller.
    """

    def __init__(
        self,
        scan: Scan,
        ledger: ScanLedger,
        collection: ImageCollection,
        pipeline: Pipeline[int],
        clock: Clock,
        *,
        outage_seconds: float,
        watcher: Watcher | None = None,
        shard_images: int = SHARD_IMAGES,
    ) -> None:
        self._scan = scan
        self._ledger = ledger
        self._collection = collection
        self._pipeline = pipeline
        self._clock = clock
        self._outage_seconds = outage_seconds
        self._watcher = watcher or Watcher()
        self._shard_images = shard_images
        self._owner = new_owner()
        self._held: dict[int, _Held] = {}
        self._waiting: Iterator[tuple[int, str]] = iter(())
        self._flushed = 0.0
        self._claimed = -_PAUSE
        self._looked = self._monotonic
        self._more = threading.Event()
        self._stop = threading.Event()
        self._failure: D3Error | None = None
        self._unlisted: D3Error | None = None

    def run(self) -> None:
        """Work until every image has its row, or the scan is cancelled.

        Raises:
            ScanIncomplete: all that could be listed is judged; the rest is listed on the next run.
            D3Error: something is away for too long or refuses; what is stored stays.
        """
        threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for work, name in ((self._renew, "d3-scan-lease"), (self._list_shards, "d3-scan-list"))
        ]
        for thread in threads:
            thread.start()
        try:
            self._work()
        finally:
            self._stop.set()
            self._pipeline.close()
            with suppress(D3Error):
                self._flush()
            for thread in threads:
                thread.join()
            with suppress(D3Error):
                self._ledger.release(self._scan.id, [self._owner])

    def _work(self) -> None:
        while True:
            if self._failure is not None:
                raise self._failure
            while self._pipeline.room and (item := self._next()) is not None:
                number, uri = item
                self._pipeline.put(number, uri, isolated=self._held[number].isolated)
            if self._pipeline.in_flight:
                for number, uri, outcome in self._pipeline.take(_PAUSE):
                    self._keep(number, uri, outcome)
            else:
                self._more.wait(_PAUSE)
                self._more.clear()
            if self._rows >= _FLUSH_ROWS or self._monotonic - self._flushed >= _FLUSH_SECONDS:
                self._flush()
            self._finish_shards()
            self._watcher.idle()
            if not self._pipeline.in_flight and not self._held and self._over():
                return

    @property
    def _rows(self) -> int:
        return sum(len(held.rows) for held in self._held.values())

    @property
    def _monotonic(self) -> float:
        return self._clock.monotonic()

    def _retry(self, work: Callable[[], object]) -> None:
        retry_while_unavailable(work, self._outage_seconds)

    def _next(self) -> tuple[int, str] | None:
        """The next image to judge; None if there is none at the moment."""
        while (item := next(self._waiting, None)) is None:
            if self._monotonic - self._claimed < _PAUSE or (shard := self._claim()) is None:
                return None
            # One lookup for many: a shard that was begun before has some of its rows.
            kept = self._known(shard)
            left = [uri for uri in shard.uris if stored_uri(uri) not in kept]
            self._held[shard.number] = _Held(shard.number, len(left), shard.begun)
            self._waiting = ((shard.number, uri) for uri in left)
        return item

    def _claim(self) -> Shard | None:
        now = self._clock.now()
        shard = retry_while_unavailable(
            lambda: self._ledger.claim(self._scan.id, self._owner, now, now + _LEASE),
            self._outage_seconds,
        )
        if shard is None:
            self._claimed = self._monotonic
            if self._claimed - self._looked >= _DEAD_SECONDS:
                self._looked = self._claimed
                self._retry(lambda: release_dead(self._ledger, self._scan.id, now))
        return shard

    def _known(self, shard: Shard) -> set[str]:
        uris = [stored_uri(uri) for uri in shard.uris]
        return retry_while_unavailable(
            lambda: self._ledger.known(self._scan.id, uris), self._outage_seconds
        )

    def _keep(self, number: int, uri: str, outcome: Outcome) -> None:
        held = self._held[number]
        held.left -= 1
        named = self._collection.named
        if not named and isinstance(outcome, D3Error) and is_no_image(uri, outcome):
            held.passed_over += 1
            self._watcher.passed_over()
            return
        row = row_of(uri, outcome, self._clock.now())
        held.rows.append(row)
        self._watcher.judged(row)

    def _flush(self) -> None:
        for held in self._held.values():
            if held.rows:
                self._retry(partial(self._ledger.add, self._scan.id, held.number, held.rows))
                held.rows = []
        self._flushed = self._monotonic

    def _finish_shards(self) -> None:
        for held in [one for one in self._held.values() if not one.left]:
            if held.rows:
                self._flush()
            self._retry(partial(self._ledger.finish, self._scan.id, held.number, held.passed_over))
            del self._held[held.number]
            self._watcher.finished(held.number)

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

    def _renew(self) -> None:
        """Renew the leases, however long the main thread is busy."""
        while not self._stop.wait(_LEASE.total_seconds() / _RENEWALS):
            try:
                self._ledger.renew(self._scan.id, self._owner, self._clock.now() + _LEASE)
            except D3Error as error:
                _LOG.debug("leases could not be renewed: %s", error)

    def _list_shards(self) -> None:
        """List the collection and add shards, while no other worker does."""
        try:
            while not self._stop.is_set() and self._unlisted is None:
                listing = retry_while_unavailable(self._begin_listing, self._outage_seconds)
                if listing is not None:
                    self._list_from(listing.number, listing.cursor)
                self._stop.wait(_LEASE.total_seconds() / _RENEWALS)
        except Exception as error:  # noqa: BLE001  or the scan would wait for this thread for ever
            self._failure = _as_d3_error(error)

    def _begin_listing(self) -> Listing | None:
        now = self._clock.now()
        return self._ledger.begin_listing(self._scan.id, self._owner, now, now + _LEASE)

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
        self._claimed = -_PAUSE
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
