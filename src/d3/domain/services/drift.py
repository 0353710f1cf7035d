"""Compares what the history holds of a model with the model's calibration."""

from __future__ import annotations

from datetime import datetime, timedelta

from d3.domain.drift import DriftReport, report
from d3.domain.history import HistoryFilter
from d3.domain.ports.clock import Clock
from d3.domain.ports.history import History
from d3.domain.ports.models import ModelRegistry
from d3.domain.scoring import BINS
from d3.domain.services.model_host import ModelHost

USUAL = timedelta(days=30)
"""How far back is looked unless said otherwise."""


class DriftService:
    """Whether results are still like the calibration of their model.

    Args:
        history: holds the results.
        registry: holds the calibrations.
        host: knows the model in use.
        clock: tells the time.
    """

    def __init__(
        self, history: History, registry: ModelRegistry, host: ModelHost, clock: Clock
    ) -> None:
        self._history = history
        self._registry = registry
        self._host = host
        self._clock = clock

    def report(
        self,
        model: str | None = None,
        version: int | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        user_id: int | None = None,
    ) -> DriftReport:
        """How the results of one version of a model compare with its calibration.

        Args:
            model: its name; the one in use unless given.
            version: the newest unless given.
            since: results of this time or later; 30 days before ``until`` unless given.
            until: results of before this time; up to now unless given.
            user_id: only this account's.

        Raises:
            ModelNotFound: there is no such model or version.
            ValueError: a time without a zone.
        """
        manifest = self._registry.describe(model or self._host.chosen(), version)
        where = HistoryFilter(
            model=manifest.name,
            model_version=manifest.version,
            since=since or (until or self._clock.now()) - USUAL,
            until=until,
            user_id=user_id,
        )
        return report(manifest, self._history.daily(where, BINS), where.since, where.until)
