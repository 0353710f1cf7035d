"""The background job that compares the last week with the calibration, for alerts."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from d3.domain.drift import DriftReport
from d3.domain.errors import D3Error
from d3.domain.ports.clock import Clock
from d3.domain.scoring import Share
from d3.domain.services.drift import DriftService
from d3.entrypoints.http.metrics import Metrics

_LOG = logging.getLogger("d3.http")
_SECONDS = 900.0
_WATCHED = timedelta(days=7)


def _end(name: str, end: str) -> Callable[[DriftReport], float]:
    """The value, or one end, of a share in the report's total."""

    def figure(report: DriftReport) -> float:
        share: Share | None = getattr(report.total, name)
        return math.nan if share is None else getattr(share, end)

    return figure


def _worst_day(report: DriftReport) -> float:
    return max((one.psi.low for one in report.days if one.psi is not None), default=math.nan)


def _generated(report: DriftReport) -> float:
    share = report.total.generated_share
    return math.nan if share is None else share


GAUGES: dict[str, tuple[str, Callable[[DriftReport], float]]] = {
    "images": ("Results of the model in use in the last 7 days.", lambda one: one.total.images),
    "psi": ("Population stability index of their scores.", _end("psi", "value")),
    "psi_low": ("Low end of its 95 % interval.", _end("psi", "low")),
    "psi_high": ("High end of its 95 % interval.", _end("psi", "high")),
    "worst_day_psi_low": ("Largest low end of a single day.", _worst_day),
    "psi_with_mix": (
        "The index against real and generated images in equal parts.",
        _end("psi_with_mix", "value"),
    ),
    "generated_share": ("Share of generated images that the scores suggest.", _generated),
    "uncertain_share": ("Share with the verdict `uncertain`.", _end("uncertain", "value")),
    "fpr": ("Share of images labelled real that were called fake.", _end("fpr", "value")),
    "fpr_low": ("Low end of its 95 % interval.", _end("fpr", "low")),
    "tpr": ("Share of images labelled generated that were called fake.", _end("tpr", "value")),
    "tpr_high": ("High end of its 95 % interval.", _end("tpr", "high")),
}
"""By the name behind ``d3_drift_``. Not a number where too few images or labels are there."""


class DriftWatch:
    """Compares the last week with the calibration, again and again.

    Args:
        drift: compares.
        clock: tells the time.
    """

    def __init__(self, drift: DriftService, clock: Clock) -> None:
        self._drift = drift
        self._clock = clock
        self._latest: DriftReport | None = None

    def run(self, stopping: threading.Event) -> None:
        """Run until the event is set. What fails is tried again at the next turn."""
        while not stopping.is_set():
            self.look()
            stopping.wait(_SECONDS)

    def look(self) -> None:
        """Compare now. While this fails, the gauges hold no numbers."""
        latest = None
        try:
            latest = self._drift.report(since=self._clock.now() - _WATCHED)
        except D3Error as error:
            _LOG.warning("drift could not be computed: %s", error)
        except Exception:  # noqa: BLE001  the thread has other work
            _LOG.exception("drift could not be computed")
        self._latest = latest

    @property
    def latest(self) -> DriftReport | None:
        """The last comparison; None while there is none."""
        return self._latest

    def register_gauges(self, metrics: Metrics) -> None:
        """Register a gauge for each figure."""
        for name, (about, figure) in GAUGES.items():
            metrics.watch(f"d3_drift_{name}", about, partial(self._figure, figure))

    def _figure(self, figure: Callable[[DriftReport], float]) -> float:
        latest = self._latest
        return math.nan if latest is None else figure(latest)
