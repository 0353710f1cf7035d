"""Tells webhooks of what changes by itself: the model in use, and drift."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict

from d3.domain.drift import DriftReport, Level
from d3.domain.errors import D3Error
from d3.domain.models import ModelReference
from d3.domain.ports.clock import Clock
from d3.domain.ports.webhooks import Outbox
from d3.domain.services.model_host import ModelHost
from d3.domain.webhooks import EventType, NewEvent

_LOG = logging.getLogger(__name__)
_SECONDS = 5.0


class EventWatch:
    """Compares with what was told last, in the database, so that replicas tell it once.

    A replica looks only at changes of its own: two that serve different models do not take turns.

    Args:
        outbox: keeps events and what was told last.
        host: knows the model in use.
        drift: the latest comparison, if there is one.
        clock: tells the time.
    """

    def __init__(
        self,
        outbox: Outbox,
        host: ModelHost,
        drift: Callable[[], DriftReport | None],
        clock: Clock,
    ) -> None:
        self._outbox = outbox
        self._host = host
        self._drift = drift
        self._clock = clock
        self._seen: dict[str, str] = {}

    def run(self, stopping: threading.Event) -> None:
        """Run until the event is set. What fails is tried again at the next turn."""
        while not stopping.wait(_SECONDS):
            try:
                self.look()
            except D3Error as error:
                _LOG.warning("changes could not be kept for webhooks: %s", error)
            except Exception:  # noqa: BLE001  the thread has other work
                _LOG.exception("changes could not be kept for webhooks")

    def look(self) -> None:
        """Look now.

        Raises:
            StorageFailed: the database cannot be used.
        """
        if (serving := self._host.loaded()) is not None:
            model = serving.manifest.reference
            value = f"{model.name} {model.version} {model.sha256}"
            self._compare("model", value, EventType.MODEL_CHANGED, model_changed(model))
        if (report := self._drift()) is not None and (drifted := _drifted(report)) is not None:
            value = f"{report.model_name} {report.model_version} {drifted}"
            told = EventType.DRIFT_ALERT if drifted else None
            self._compare("drift", value, told, drift_alert(report))

    def _compare(
        self, name: str, value: str, told: EventType | None, data: dict[str, object]
    ) -> None:
        if self._seen.get(name) == value:
            return
        now = self._clock.now()
        event = None if told is None else NewEvent(type=told, data=data, at=now)
        self._outbox.move_mark(name, value, event, now)
        self._seen[name] = value


def _drifted(report: DriftReport) -> bool | None:
    """Whether scores drifted in all or on one day; None if there are too few to say."""
    levels = {report.total.level, *(one.level for one in report.days)}
    if Level.DRIFTED in levels:
        return True
    return None if report.total.level is Level.UNCLEAR else False


def model_changed(model: ModelReference) -> dict[str, object]:
    """What is told of another model in use."""
    return {"model": asdict(model)}


def drift_alert(report: DriftReport) -> dict[str, object]:
    """What is told of scores that drifted."""
    psi = report.total.psi
    return {
        "model": {"name": report.model_name, "version": report.model_version},
        "images": report.total.images,
        "psi": None if psi is None else asdict(psi),
        "since": None if report.since is None else report.since.isoformat(),
        "days": [one.start.isoformat() for one in report.days if one.level is Level.DRIFTED],
    }
