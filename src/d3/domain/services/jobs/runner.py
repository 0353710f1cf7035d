"""Runs the workers on jobs, and sweeps what crashes, cancelled and old jobs leave behind."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta

from d3.domain.errors import D3Error, JobNotFound
from d3.domain.jobs import JobTotals
from d3.domain.ports.clock import Clock
from d3.domain.ports.jobs import JobLedger, Spool, Spooled
from d3.domain.services.detection import Judged
from d3.domain.services.jobs.worker import JobWorker
from d3.domain.services.model_host import ModelHost
from d3.domain.services.shards import dead_among

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 5.0
_SWEEP_SECONDS = 60.0
_ELSEWHERE = timedelta(days=1)
"""How long a job whose files lie in a spool that is not seen here is left to whoever sees it."""


class JobRunner:
    """Works on jobs in this process until it is told to stop.

    Args:
        make: makes the workers.
        ledger: gives the ledger; its database must be ready by then.
        spool: gives the place for files.
        host: holds the models.
        clock: tells the time.
        receiving: how long the files of a job may take to arrive.
        close: called when all workers have ended.

    Attributes:
        judged: is told of each image's outcome, if it is set before it runs.
    """

    def __init__(  # noqa: PLR0917  its parts, one by one
        self,
        make: Callable[[], Sequence[JobWorker]],
        ledger: Callable[[], JobLedger],
        spool: Callable[[], Spool],
        host: ModelHost,
        clock: Clock,
        receiving: timedelta,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._make = make
        self._ledger = ledger
        self._spool = spool
        self._host = host
        self._clock = clock
        self._receiving = receiving
        self._close = close
        self._workers: Sequence[JobWorker] = ()
        self._woken = threading.Event()
        self.totals = JobTotals()
        self.judged: Callable[[Judged | D3Error], None] | None = None

    @property
    def working(self) -> bool:
        """Whether a worker holds shards."""
        return any(one.working for one in self._workers)

    def wake(self) -> None:
        """Look for work now."""
        for worker in self._workers:
            worker.wake()
        self._woken.set()

    def run(self, stopping: threading.Event) -> None:
        """Run until the event is set and :meth:`wake` is called. What fails is tried again."""
        self._workers = self._make()
        for one in self._workers:
            one.judged = self.judged or one.judged
        threads = [
            threading.Thread(target=one.run, args=[stopping], name=f"d3-jobs-{number}", daemon=True)
            for number, one in enumerate(self._workers)
        ]
        for thread in threads:
            thread.start()
        swept = -_SWEEP_SECONDS
        while not stopping.is_set():
            self._attempt(self.look)
            if self._clock.monotonic() - swept >= _SWEEP_SECONDS:
                swept = self._clock.monotonic()
                self._attempt(self.sweep)
            self._woken.wait(_LOOK_SECONDS)
            self._woken.clear()
        self.wake()
        for thread in threads:
            thread.join()
        self._close()

    def look(self) -> None:
        """See how jobs stand, and free what dead processes held."""
        ledger, now = self._ledger(), self._clock.now()
        if dead := dead_among(ledger.holders(now)):
            ledger.release(dead)
        if self._host.loaded() is None:
            ledger.note(f"No model is loaded. {self._host.trouble or ''}".rstrip())
        self.totals = ledger.totals()

    def sweep(self) -> None:
        """Remove files that nobody needs any more, and forget old jobs."""
        ledger, now = self._ledger(), self._clock.now()
        for one in ledger.abandoned(now - self._receiving):
            if self._remove(one):
                ledger.forget(one.id)
        for one in ledger.uncleared():
            if self._remove(one):
                ledger.note_cleared(one.id)
        for one in ledger.expired(now):
            with suppress(JobNotFound):  # another replica has forgotten it
                ledger.cancel(one.name, now)
                if self._remove(one) or one in ledger.expired(now - _ELSEWHERE):
                    ledger.forget(one.id)

    def _remove(self, one: Spooled) -> bool:
        """Remove a job's files, if they can be seen from here; whether none is left."""
        if one.spool is None:
            return True
        spool = self._spool()
        if spool.seen != one.spool:
            return False
        spool.remove(one.name)
        return True

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except D3Error as error:
            _LOG.warning("jobs cannot be looked after: %s", error)
        except Exception:  # noqa: BLE001  the thread has other work
            _LOG.exception("jobs cannot be looked after")
