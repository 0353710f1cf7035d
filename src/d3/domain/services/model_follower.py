"""A replica loads the active model when another one was chosen."""

from __future__ import annotations

import logging
import threading

from d3.domain.backoff import pause_after
from d3.domain.errors import D3Error, LoadInProgress
from d3.domain.models import ModelReference
from d3.domain.ports.clock import Clock
from d3.domain.ports.models import ModelRegistry
from d3.domain.services.model_host import ModelHost

_LOG = logging.getLogger(__name__)
_LONGEST_PAUSE = 600.0


class ActiveModelFollower:
    """Polls the registry, and loads the chosen model when it has changed.

    A change is another name, or a newer version of the same. A model loaded by hand in this process
    stays until then. Members of a panel that are missing or outdated are loaded too. If a model
    cannot be loaded, the old one goes on serving; the next attempts follow after pauses that
    double, up to ten minutes.

    Args:
        seconds: between two polls.
    """

    def __init__(
        self, registry: ModelRegistry, host: ModelHost, clock: Clock, seconds: float = 10.0
    ) -> None:
        self._registry = registry
        self._host = host
        self._clock = clock
        self._seconds = seconds
        self._current: ModelReference | None = None
        self._refused: ModelReference | None = None
        self._refusals = 0
        self._not_before = 0.0
        self._trouble: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why another model answers than the one chosen; None while they are the same."""
        return self._trouble

    def check(self) -> bool:
        """Poll once; whether a model was loaded.

        Never raises :class:`D3Error`: a problem is logged, once as long as it stays the same.
        """
        loaded = self._check_chief()
        if not loaded:
            self._host.refresh()
        return loaded

    def _check_chief(self) -> bool:
        try:
            newest = self._registry.describe(self._host.chosen()).reference
        except D3Error as error:
            self._warn_once(f"the default model could not be read: {error}")
            return False
        serving = self._host.loaded()
        if newest == self._current or (serving and newest == serving.manifest.reference):
            self._current, self._refused, self._trouble = newest, None, None
            return False
        if newest == self._refused and self._clock.monotonic() < self._not_before:
            return False
        return self._load(newest)

    def run(self, stop: threading.Event) -> None:
        """Poll until the event is set; for a thread of its own."""
        while not stop.wait(self._seconds):
            try:
                self.check()
            except Exception:  # noqa: BLE001  a follower must not die unnoticed
                _LOG.exception("Checking for a new default model failed. D3 will try again.")

    def _load(self, newest: ModelReference) -> bool:
        try:
            self._host.load(newest.name)
        except LoadInProgress:
            return False  # one is being loaded by hand; the next look sees which
        except D3Error as error:
            if newest != self._refused:
                self._refused, self._refusals = newest, 0
            still = "No model is loaded" if self._host.loaded() is None else "The old model stays"
            self._warn_once(
                f"{newest.name} version {newest.version} is the new default but could not be "
                f"loaded. {still}: {error}"
            )
            self._refusals += 1
            pause = pause_after(self._refusals, self._seconds, _LONGEST_PAUSE)
            self._not_before = self._clock.monotonic() + pause
            return False
        self._current, self._refused, self._trouble = newest, None, None
        return True

    def _warn_once(self, trouble: str) -> None:
        if trouble != self._trouble:
            _LOG.warning("%s", trouble)
        self._trouble = trouble
