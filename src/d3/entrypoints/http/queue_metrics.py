"""What Prometheus reads of the queue in front of the detector, whichever model is loaded."""

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
        registry: what it is reported with.
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

    def watch(self, queue: Callable[[], DetectionQueue | None]) -> None:
        """Report what waits in the queue in use whenever somebody asks."""

        def report(name: str, about: str, value: Callable[[Waiting], float]) -> None:
            gauge = Gauge(name, about, ("lane",), registry=self._registry)
            for lane in Lane:
                gauge.labels(lane.value).set_function(partial(now, lane, value))

        def now(lane: Lane, value: Callable[[Waiting], float]) -> float:
            one = queue()
            return value(one.waiting(lane) if one is not None else Waiting())

        report(
            "d3_queue_images", "Images that are waiting or being decoded.", lambda one: one.images
        )
        report(
            "d3_queue_bytes", "Memory used by these images, in bytes.", lambda one: one.size_bytes
        )
        report(
            "d3_queue_oldest_seconds",
            "Seconds the oldest image has waited for the device.",
            lambda one: one.oldest_seconds,
        )

    def scored(self, images: int, fill: float, seconds: float) -> None:
        """A forward pass ended well."""
        self._images.observe(images)
        self._fill.observe(fill)
        self._seconds.observe(seconds)

    def dropped(self, lane: Lane, reason: str, images: int) -> None:
        """Images left without an answer."""
        self._dropped.labels(lane.value, reason).inc(images)

    def out_of_memory(self) -> None:
        """A batch did not fit."""
        self._out_of_memory.inc()

    def restarted(self) -> None:
        """The detector's thread was replaced."""
        self._restarts.inc()
