"""The background jobs that delete old rows and record when keys were last used."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from d3.domain.errors import D3Error
from d3.domain.ports.clock import Clock
from d3.domain.ports.history import History
from d3.domain.ports.webhooks import Outbox
from d3.domain.services.key_cache import KeyCache
from d3.domain.webhooks import KEPT
from d3.settings import Settings

_LOG = logging.getLogger("d3.http")
_NOTES_SECONDS = 30.0
_PURGE_SECONDS = 3600.0


class KeyUses:
    """Writes the last uses of keys, again and again.

    Args:
        key_cache: knows which keys were used in this process.
    """

    def __init__(self, key_cache: KeyCache) -> None:
        self._key_cache = key_cache

    def run(self, stopping: threading.Event) -> None:
        """Run until the event is set. What fails is tried again at the next turn."""
        while not stopping.is_set():
            stopping.wait(_NOTES_SECONDS)
            _attempt("the last uses of keys could not be written", self._key_cache.write_uses)


class RetentionJob:
    """Deletes old rows, again and again.

    Args:
        history: rows are deleted here.
        outbox: and events of webhooks here.
        clock: tells the time.
        settings: hold how long rows are kept.
    """

    def __init__(self, history: History, outbox: Outbox, clock: Clock, settings: Settings) -> None:
        self._history = history
        self._outbox = outbox
        self._clock = clock
        self._settings = settings

    def run(self, stopping: threading.Event) -> None:
        """Run until the event is set. What fails is tried again at the next turn."""
        while not stopping.is_set():
            self.purge()
            stopping.wait(_PURGE_SECONDS)

    def purge(self) -> None:
        """Delete expired idempotency keys, old events, and rows older than the settings allow."""
        settings, now = self._settings, self._clock.now()
        self._attempt(self._purge_keys)
        self._attempt(lambda: self._outbox.purge(now - KEPT, now))
        results, records = map(self._before, (settings.history_days, settings.request_log_days))
        if results is not None or records is not None:
            self._attempt(lambda: self._history.forget(results, records))

    def _purge_keys(self) -> None:
        with self._history.transaction() as transaction:
            transaction.purge(self._clock.now())

    def _before(self, days: int) -> datetime | None:
        return self._clock.now() - timedelta(days=days) if days else None

    @staticmethod
    def _attempt(work: Callable[[], object]) -> None:
        _attempt("old results and records could not be deleted", work)


def _attempt(failed: str, work: Callable[[], object]) -> None:
    try:
        work()
    except D3Error as error:
        _LOG.warning("%s: %s", failed, error)
    except Exception:  # noqa: BLE001  the thread has other work
        _LOG.exception("%s", failed)
