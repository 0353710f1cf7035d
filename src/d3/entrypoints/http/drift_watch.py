"""The background job that compares the last week with the calibration, for alerts."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from d3.domain.drift import Drift
from d3.domain.errors import D3Error
from d3.domain.ports.clock import Clock
from d3.domain.scoring import Share
from d3.domain.services.drift import DriftService
from d3.entrypoints.http.metrics import Metrics

_LOG = logging.getLogger("d3.http")
_SECONDS = 900.0
_WATCHED = timedelta(days=7)


def _of(share: Share | None, end: str) -> float:
    return math.nan if share is None else getattr(share, end)


GAUGES: dict[str, tuple[str, Callable[[Drift], float]]] = {
    "images": ("Results of the last 7 days of the model in use.", lambda one: one.images),
    "psi": ("Population stability index of their scores.", lambda one: _of(one.psi, "value")),
    "psi_low": ("Low end of its 95 % interval.", lambda one: _of(one.psi, "low")),
    "psi_high": ("High end of its 95 % interval.", lambda one: _of(one.psi, "high")),
    "generated_share": (
        "Share of generated images that their scores suggest.",
        lambda one: math.nan if one.generated_share is None else one.generated_share,
    ),
    "uncertain_share": (
        "Share of them with the verdict `uncertain`.",
        lambda one: _of(one.uncertain, "value"),
    ),
    "fpr": (
        "Share of images labelled real that were called fake.",
        lambda one: _of(one.fpr, "value"),
    ),
    "fpr_low": ("Low end of its 95 % interval.", lambda one: _of(one.fpr, "low")),
    "tpr": (
        "Share of images labelled generated that were called fake.",
        lambda one: _of(one.tpr, "value"),
    ),
    "tpr_high": ("High end of its 95 % interval.", lambda one: _of(one.tpr, "high")),
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
        self._latest: Drift | None = None

    def run(self, stopping: threading.Event) -> None:
        """Run until the event is set. What fails is tried again at the next turn."""
        while not stopping.is_set():
            self.look()
            stopping.wait(_SECONDS)

    def look(self) -> None:
        """Compare now. While this fails, the gauges hold no numbers."""
        latest = None
        try:
            latest = self._drift.report(since=self._clock.now() - _WATCHED).total
        except D3Error as error:
            _LOG.warning("drift could not be computed: %s", error)
        except Exception:  # noqa: BLE001  the thread has other work
            _LOG.exception("drift could not be computed")
        self._latest = latest

    def register_gauges(self, metrics: Metrics) -> None:
        """Register a gauge for each figure."""
        for name, (about, figure) in GAUGES.items():
            metrics.watch(f"d3_drift_{name}", about, partial(self._figure, figure))

    def _figure(self, figure: Callable[[Drift], float]) -> float:
        latest = self._latest
        return math.nan if latest is None else figure(latest)
