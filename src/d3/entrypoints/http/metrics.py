"""What Prometheus reads at ``/metrics``; one registry per application, nothing global."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from d3.domain.errors import D3Error
from d3.domain.services.detection import Judged

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Counters, gauges and histograms of one service.

    Attributes:
        registry: for whoever has more to report.
    """

    def __init__(self) -> None:
        self.registry = self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        # Finding a metric by its labels costs more than counting: what was found is kept.
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
            "d3_http_requests_in_flight", "Requests being answered.", registry=self._registry
        )
        self._images = cache(
            Counter(
                "d3_images",
                "Images by verdict, or by error code if they could not be judged.",
                ("outcome",),
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
            if isinstance(one, Judged):
                self._images(one.detection.verdict.value).inc()
                self._cache("yes" if one.cached else "no").inc()
                self._stages("decode").observe(one.decode_seconds)
                if not one.cached:
                    self._stages("queue").observe(one.queue_seconds)
                    self._stages("model").observe(one.model_seconds)
            else:
                self._images(one.code).inc()

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Report what a function tells whenever somebody asks."""
        Gauge(name, about, registry=self._registry).set_function(value)

    def render(self) -> tuple[bytes, str]:
        """The text for Prometheus, and its media type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
