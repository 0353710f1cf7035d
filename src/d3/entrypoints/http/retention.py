"""What a running service does by itself: notes of used keys, and old rows deleted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from d3.domain.errors import D3Error
from d3.domain.ports.clock import Clock
from d3.domain.ports.history import History
from d3.domain.services.key_cache import KeyCache
from d3.settings import Settings

_LOG = logging.getLogger("d3.http")
_NOTES_SECONDS = 30.0
_PURGE_SECONDS = 3600.0


class RetentionJob:
    """Looks after things in a thread of its own.

    Args:
        key_cache: knows which keys were used.
        history: loses what is too old.
        clock: tells the time.
        settings: say what is too old.
    """

    def __init__(
        self, key_cache: KeyCache, history: History, clock: Clock, settings: Settings
    ) -> None:
        self._key_cache = key_cache
        self._history = history
        self._clock = clock
        self._settings = settings

    def run(self, stopping: threading.Event) -> None:
        """Go on until the service stops; what cannot be done now is tried again."""
        purged_at = -_PURGE_SECONDS
        while not stopping.is_set():
            if self._clock.monotonic() - purged_at >= _PURGE_SECONDS:
                purged_at = self._clock.monotonic()
                self.purge()
            stopping.wait(_NOTES_SECONDS)
            self._try(self._key_cache.write_uses)

    def purge(self) -> None:
        """Delete idempotency keys that have expired and what the settings say is too old."""
        settings = self._settings
        self._try(self._purge_keys)
        results, records = map(self._before, (settings.history_days, settings.request_log_days))
        if results is not None or records is not None:
            self._try(lambda: self._history.forget(results, records))

    def _purge_keys(self) -> None:
        with self._history.transaction() as transaction:
            transaction.purge(self._clock.now())

    def _before(self, days: int) -> datetime | None:
        return self._clock.now() - timedelta(days=days) if days else None

    @staticmethod
    def _try(work: Callable[[], object]) -> None:
        try:
            work()
        except D3Error as error:
            _LOG.warning("old results and records could not be deleted: %s", error)
        except Exception:  # noqa: BLE001  the thread looks after more than this
            _LOG.exception("old results and records could not be deleted")
