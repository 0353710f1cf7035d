"""Writes the request log, apart from results."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from d3.domain.errors import D3Error, EntryRefused, StorageUnavailable, UserGone
from d3.domain.history import RequestRecord
from d3.domain.ports.clock import Clock
from d3.domain.ports.history import History

_LOG = logging.getLogger(__name__)
_DELAY_SECONDS = 1.0


class RequestLogWriter:
    """Writes request records in a thread of its own. Safe to call from many threads.

    Records are worth less than results: if too many wait or the log cannot be written, they are
    dropped and counted.

    Args:
        waiting: records that may wait at most.
        share: records of one transaction at most.
    """

    def __init__(
        self, history: History, clock: Clock, *, waiting: int = 10_000, share: int = 1000
    ) -> None:
        self._history = history
        self._clock = clock
        self._bound = waiting
        self._share = share
        self._records: deque[RequestRecord] = deque()
        self._due = 0.0
        self._dropped = 0
        self._closed = False
        self._owner: threading.Thread | None = None
        self._changed = threading.Condition()

    @property
    def dropped(self) -> int:
        """How many records were dropped: too many waited, or writing failed."""
        return self._dropped

    def log(self, record: RequestRecord) -> None:
        """Write a record within about a second; never raises, never waits."""
        with self._changed:
            if self._closed or len(self._records) >= self._bound:
                self._dropped += 1
                return
            if not self._records:
                self._due = self._clock.monotonic() + _DELAY_SECONDS
                self._changed.notify()
            self._records.append(record)
            if self._owner is None:
                self._owner = threading.Thread(target=self._run, name="d3-log", daemon=True)
                self._owner.start()

    def close(self) -> None:
        """Write what waits, then stop; the history itself stays open."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            owner = self._owner
        if owner is not None and owner is not threading.current_thread():
            owner.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed:
                    rest = self._due - self._clock.monotonic() if self._records else None
                    if rest is not None and rest <= 0:
                        break
                    self._changed.wait(rest)
                if not self._records:
                    return
                size = min(len(self._records), self._share)
                records = [self._records.popleft() for _ in range(size)]
            self._write(records)

    def _write(self, records: Sequence[RequestRecord], *, retried: bool = False) -> None:
        try:
            with self._history.transaction() as transaction:
                transaction.log_many(records)
        except StorageUnavailable as error:
            if retried:
                self._drop(records, error)
            else:
                self._write(records, retried=True)
        except UserGone as error:
            users = {record.user_id for record in records}
            if len(users) > 1:
                for user in users:
                    self._write([record for record in records if record.user_id == user])
            elif users == {None}:
                self._drop(records, error)
            else:  # as what was written before the user was deleted
                self._write([replace(record, user_id=None) for record in records])
        except EntryRefused as error:
            if len(records) == 1:
                self._drop(records, error)
            else:  # only those that cannot be kept are dropped
                middle = len(records) // 2
                self._write(records[:middle])
                self._write(records[middle:])
        except D3Error as error:
            self._drop(records, error)

    def _drop(self, records: Sequence[RequestRecord], error: D3Error) -> None:
        self._dropped += len(records)
        _LOG.warning("the request log lost %d records: %s", len(records), error)
