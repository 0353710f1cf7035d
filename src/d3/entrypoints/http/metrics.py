"""Prometheus metrics of the service and its queue.

Each application has its own registry, unless the process shares its metrics with others: see
:mod:`d3.entrypoints.http.machine_metrics`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from d3.domain.errors import D3Error
from d3.domain.ports.queue import DetectionQueue, Lane, Waiting
from d3.domain.services.detection import Judged
from d3.entrypoints.http import machine_metrics

Across = Literal["sum", "min", "max"]
"""What a gauge of several processes together is."""

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_FILL = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Counters, gauges and histograms of one service.

    Attributes:
        registry: where further metrics are registered.
    """

    def __init__(self) -> None:
        self.registry = self._registry = CollectorRegistry()
        self._followers: list[CountFollower] = []
        labels = ("method", "route", "status")
        # Looking up a metric by its labels costs more than counting, so lookups are cached.
        self._requests = cache(
            Counter(
                "d3_http_requests", "Requests answered.", labels, registry=self._registry
            ).labels
        )
        self._durations = cache(
            Histogram(
                "d3_http_request_seconds",
                "Seconds to answer a request.",
                ("method", "route"),
                buckets=_SECONDS,
                registry=self._registry,
            ).labels
        )
        self.in_flight = Gauge(
            "d3_http_requests_in_flight",
            "Requests being answered.",
            registry=self._registry,
            multiprocess_mode="sum",
        )
        self._images = cache(
            Counter(
                "d3_images",
                "Images by verdict, or by error code if they could not be judged.",
                ("outcome",),
                registry=self._registry,
            ).labels
        )
        self._agreements = cache(
            Counter(
                "d3_panel_results",
                "Images judged by a panel, by what its models' opinions are to each other.",
                ("agreement",),
                registry=self._registry,
            ).labels
        )
        self._cache = cache(
            Counter(
                "d3_cache_lookups",
                "Lookups of the result cache.",
                ("found",),
                registry=self._registry,
            ).labels
        )
        self._stages = cache(
            Histogram(
                "d3_stage_seconds",
                "Seconds an image spent in a stage: decode, queue or model.",
                ("stage",),
                buckets=_SECONDS,
                registry=self._registry,
            ).labels
        )

    def observe(
        self,
        method: str,
        route: str,
        status: int,
        seconds: float,
        judgements: Iterable[Judged | D3Error],
    ) -> None:
        """Count one request and its images."""
        method = method if method in _METHODS else "other"
        self._requests(method, route, str(status)).inc()
        self._durations(method, route).observe(seconds)
        for one in judgements:
            self.judged(one)

    def judged(self, outcome: Judged | D3Error) -> None:
        """Count an image."""
        if isinstance(outcome, D3Error):
            self._images(outcome.code).inc()
            return
        self._images(outcome.detection.verdict.value).inc()
        if (agreement := outcome.detection.agreement) is not None:
            self._agreements(agreement.value).inc()
        self._cache("yes" if outcome.cached else "no").inc()
        self._stages("decode").observe(outcome.decode_seconds)
        if not outcome.cached:
            self._stages("queue").observe(outcome.queue_seconds)
            self._stages("model").observe(outcome.model_seconds)

    def watch(
        self, name: str, about: str, value: Callable[[], float], across: Across = "sum"
    ) -> None:
        """Register a gauge that calls a function for its value."""
        _watch(Gauge(name, about, registry=self._registry, multiprocess_mode=across), value)

    def counter(self, name: str, about: str) -> Counter:
        """Register a counter, which is shown with ``_total`` after its name."""
        return Counter(name, about, registry=self._registry)

    def watch_count(self, name: str, about: str, value: Callable[[], int]) -> None:
        """Register a counter that follows a function's value, which only grows."""
        follower = CountFollower(self.counter(name, about), value)
        self._followers.append(follower)
        if machine_metrics.shared is not None:
            machine_metrics.shared.follow(follower.catch_up)

    def history(self) -> Callable[[int, float, bool], None]:
        """Register the metrics of a history's writer; gives what :class:`HistoryWriter` tells."""
        rows = self.counter("d3_history_rows", "Results that were written to the database.")
        failures = self.counter(
            "d3_history_failures", "Transactions that the database failed to commit."
        )
        seconds = Histogram(
            "d3_history_commit_seconds",
            "Seconds of a transaction that writes results.",
            buckets=_SECONDS,
            registry=self._registry,
        )

        def committed(written: int, took: float, succeeded: bool) -> None:  # noqa: FBT001
            if succeeded:
                rows.inc(written)
                seconds.observe(took)
            else:
                failures.inc()

        return committed

    def build(self, version: str) -> None:
        """Register the gauge that tells the version of D3."""
        gauge = Gauge(
            "d3_build_info",
            "1, with the version of D3 as a label.",
            ("version",),
            registry=self._registry,
            multiprocess_mode="max",
        )
        _watch(gauge.labels(version), lambda: 1.0)

    def render(self) -> tuple[bytes, str]:
        """The metrics as text, and the text's media type, which every scraper knows."""
        registry = self._registry
        if (shared := machine_metrics.shared) is not None:
            shared.refresh()
            registry = shared.registry
        else:
            for one in self._followers:
                one.catch_up()
        return generate_latest(registry), "text/plain; version=0.0.4"


class CountFollower:
    """Brings a counter to what a part has counted by itself.

    Args:
        counter: follows.
        value: the part's count; it never falls.
    """

    def __init__(self, counter: Counter, value: Callable[[], int]) -> None:
        self._counter = counter
        self._value = value
        self._seen = 0
        self._lock = threading.Lock()

    def catch_up(self) -> None:
        """Count what has been added since the last call."""
        with self._lock:
            now = self._value()
            if now > self._seen:
                self._counter.inc(now - self._seen)
                self._seen = now


def _watch(gauge: Gauge, value: Callable[[], float]) -> None:
    if machine_metrics.shared is None:
        gauge.set_function(value)
    else:
        machine_metrics.shared.watch(gauge, value)


class QueueMetrics:
    """Implements ``QueueEvents``.

    Args:
        registry: where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._images = Histogram(
            "d3_batch_images", "Images per forward pass.", buckets=_IMAGES, registry=registry
        )
        self._fill = Histogram(
            "d3_batch_fill",
            "Images per forward pass as a share of D3_BATCH_SIZE.",
            buckets=_FILL,
            registry=registry,
        )
        self._seconds = Histogram(
            "d3_batch_seconds",
            "Seconds of a forward pass on the device.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._dropped = Counter(
            "d3_queue_dropped",
            "Images without a result: rejected, expired, cancelled or failed.",
            ("lane", "reason"),
            registry=registry,
        )
        self._out_of_memory = Counter(
            "d3_device_out_of_memory",
            "Batches that did not fit in the device's memory.",
            registry=registry,
        )
        self._restarts = Counter(
            "d3_detector_restarts", "Times the detector's thread was replaced.", registry=registry
        )

    def watch(self, queues: Callable[[], Sequence[DetectionQueue]]) -> None:
        """Register gauges of what waits in the current queues, together.

        For the process that runs the model.
        """
        begun, started = (
            time.time(),
            Gauge(
                "d3_engine_start_timestamp_seconds",
                "When the process that runs the model was started last, in seconds since 1970.",
                registry=self._registry,
                multiprocess_mode="max",
            ),
        )
        _watch(started, lambda: begun)

        def report(
            name: str, about: str, value: Callable[[Waiting], float], across: Across = "sum"
        ) -> None:
            gauge = Gauge(name, about, ("lane",), registry=self._registry, multiprocess_mode=across)
            for lane in Lane:
                _watch(gauge.labels(lane.value), partial(now, lane, value, across))

        def now(lane: Lane, value: Callable[[Waiting], float], across: Across) -> float:
            waiting = [value(one.waiting(lane)) for one in queues()]
            return max(waiting, default=0.0) if across == "max" else sum(waiting)

        report(
            "d3_queue_images", "Images that are waiting or being decoded.", lambda one: one.images
        )
        report(
            "d3_queue_bytes",
            "Memory of images that are waiting or being decoded, in bytes.",
            lambda one: one.size_bytes,
        )
        report(
            "d3_queue_oldest_seconds",
            "Seconds the oldest image has waited for the device.",
            lambda one: one.oldest_seconds,
            "max",
        )

    def scored(self, images: int, fill: float, seconds: float) -> None:
        self._images.observe(images)
        self._fill.observe(fill)
        self._seconds.observe(seconds)

    def dropped(self, lane: Lane, reason: str, images: int) -> None:
        self._dropped.labels(lane.value, reason).inc(images)

    def out_of_memory(self) -> None:
        self._out_of_memory.inc()

    def restarted(self) -> None:
        self._restarts.inc()
