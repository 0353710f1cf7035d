"""Prometheus metrics of the detection queue, whichever model is loaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from d3.domain.ports.queue import DetectionQueue, Lane, Waiting

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_FILL = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


class QueueMetrics:
    """Implements ``QueueEvents``.

    Args:
        registry: where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._images = Histogram(
            "d3_batch_images", "Images of a forward pass.", buckets=_IMAGES, registry=registry
        )
        self._fill = Histogram(
            "d3_batch_fill",
            "How full a forward pass was, of D3_BATCH_SIZE.",
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
            "Images left without an answer: rejected, expired, cancelled or failed.",
            ("lane", "reason"),
            registry=registry,
        )
        self._out_of_memory = Counter(
            "d3_device_out_of_memory", "Batches that did not fit the device.", registry=registry
        )
        self._restarts = Counter(
            "d3_detector_restarts", "Times the detector's thread was replaced.", registry=registry
        )

    def watch(self, queue: Callable[[], DetectionQueue | None]) -> None:
        """Register gauges of what waits in the current queue."""

        def report(name: str, about: str, value: Callable[[Waiting], float]) -> None:
            gauge = Gauge(name, about, ("lane",), registry=self._registry)
            for lane in Lane:
                gauge.labels(lane.value).set_function(partial(now, lane, value))

        def now(lane: Lane, value: Callable[[Waiting], float]) -> float:
            one = queue()
            return value(one.waiting(lane) if one is not None else Waiting())

        report("d3_queue_images", "Images that wait, or are decoded.", lambda one: one.images)
        report("d3_queue_bytes", "Memory they take.", lambda one: one.size_bytes)
        report(
            "d3_queue_oldest_seconds",
            "Age of the oldest image that waits for the device.",
            lambda one: one.oldest_seconds,
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
