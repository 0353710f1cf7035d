"""Traces by OpenTelemetry, sent to a collector by OTLP over HTTP.

What goes where, how much of it, and how the service is called is set by OpenTelemetry's own
variables (``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_TRACES_SAMPLER``, ``OTEL_SERVICE_NAME`` ...),
which its SDK reads. Where the program that D3 is part of has set a provider, that one is used.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Self

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
)
from opentelemetry.trace.status import Status, StatusCode

from d3.adapters.circuit_breaker import CircuitBreaker
from d3.domain.ports.clock import Clock
from d3.domain.ports.tracing import NOTHING, Attributes, Kind, TraceContext, current

_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_CLOSE_SECONDS = 3.0
_OURS = otel_context.create_key("d3")
"""Where a context has the last span that D3 has made current."""


class OpenTelemetryTracer:
    """Implements ``Tracer``.

    Args:
        clock: that spans are measured with.
        version: of D3.
        provider: takes the spans; that of the program that D3 is part of, or one of D3's own,
            unless given.
    """

    enabled = True

    def __init__(
        self, clock: Clock, version: str, provider: trace.TracerProvider | None = None
    ) -> None:
        self._clock = clock
        self._own: TracerProvider | None = None
        if provider is None and _is_set(found := trace.get_tracer_provider()):
            provider = found
        if provider is None:
            provider = self._own = _provider(version)
            atexit.register(self.close)
        self._tracer = provider.get_tracer("d3", version)

    def span(
        self, name: str, kind: Kind = "internal", attributes: Attributes = NOTHING
    ) -> OpenSpan:
        return self._begin(name, _KINDS[kind], _around(current.get()), attributes)

    def request(
        self, name: str, headers: Iterable[tuple[bytes, bytes]], attributes: Attributes
    ) -> OpenSpan:
        place, here = _named(headers), otel_context.get_current()
        # A server may begin a connection's next request in the context of the last one.
        if trace.get_current_span() is otel_context.get_value(_OURS):
            here = otel_context.Context()
        if place is not None and not trace.get_current_span(here).get_span_context().is_valid:
            here = _inside(place)
        return self._begin(name, SpanKind.SERVER, here, attributes)

    def record(
        self,
        name: str,
        began: float,
        ended: float,
        parent: TraceContext | None,
        attributes: Attributes = NOTHING,
        *,
        links: Iterable[TraceContext] = (),
        error: str | None = None,
    ) -> TraceContext | None:
        if parent is not None and not parent.sampled:
            return None
        offset = time.time() - self._clock.monotonic()
        span = self._tracer.start_span(
            name,
            _inside(parent) if parent is not None else otel_context.Context(),
            attributes=dict(attributes),
            links=[Link(_span_context(one)) for one in links],
            start_time=_nanoseconds(began + offset),
        )
        if error is not None:
            _fail(span, error)
        span.end(_nanoseconds(ended + offset))
        return _place(span)

    def close(self) -> None:
        """The program's own provider is its own to close."""
        if self._own is None:
            return
        own, self._own = self._own, None
        atexit.unregister(self.close)
        # A collector that hangs must not hold up the end of the process.
        closing = threading.Thread(target=own.shutdown, name="d3-traces-end", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)

    def _begin(
        self, name: str, kind: SpanKind, place: otel_context.Context, attributes: Attributes
    ) -> OpenSpan:
        return OpenSpan(
            self._tracer.start_span(name, place, kind=kind, attributes=dict(attributes))
        )


class OpenSpan:
    """Implements ``Span``.

    Args:
        span: the SDK's.
    """

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._place = _place(span)
        self._restored: list[Any] = []

    @property
    def context(self) -> TraceContext | None:
        return self._place

    def note(
        self, attributes: Attributes, *, name: str | None = None, error: str | None = None
    ) -> None:
        if name is not None:
            self._span.update_name(name)
        self._span.set_attributes(dict(attributes))
        if error is not None:
            _fail(self._span, error)

    def end(self) -> None:
        self._span.end()

    def __enter__(self) -> Self:
        # Both: D3's own parts look at the one, the program's instrumentation at the other.
        here = otel_context.set_value(_OURS, self._span, trace.set_span_in_context(self._span))
        self._restored = [current.set(self._place), otel_context.attach(here)]
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        before, attached = self._restored
        otel_context.detach(attached)
        current.reset(before)
        if error is not None:
            _fail(self._span, getattr(error, "code", None) or type(error).__name__)
        self._span.end()


class QuietExporter(SpanExporter):
    """Says once that the collector is away and once that it is back.

    By itself, OpenTelemetry writes several lines about every batch for as long as it is away.

    Args:
        exporter: sends the spans.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._breaker = CircuitBreaker(
            "The collector of traces", "Its spans are dropped until it is back.", 0.0
        )
        self._lines = _LastLine()
        self._logger = logging.getLogger(type(exporter).__module__)
        self._logger.addFilter(self._lines)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._lines.status = None
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._breaker.worked()
        else:
            status = self._lines.status
            said = "It does not answer." if status is None else f"It answers with {status}."
            self._breaker.failed(said)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()
        self._logger.removeFilter(self._lines)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class _LastLine(logging.Filter):
    """Keeps the lines of OpenTelemetry's exporter from the log, but for debugging.

    Attributes:
        status: of the collector's answer that the last lines told; None if they told none.
    """

    status: int | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        told = record.args if isinstance(record.args, tuple) else ()
        self.status = next((one for one in told if type(one) is int), self.status)
        return logging.getLogger("d3").isEnabledFor(logging.DEBUG)


def _is_set(provider: trace.TracerProvider) -> bool:
    """Whether a program has set a provider: the placeholder is not one."""
    return not isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider)


def _provider(version: str) -> TracerProvider:
    ours: dict[str, str | int] = {
        "service.name": "d3",
        "service.version": version,
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        "process.pid": os.getpid(),
    }
    resource = Resource.create(ours).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(QuietExporter(OTLPSpanExporter())))
    return provider


def _around(place: TraceContext | None) -> otel_context.Context:
    """Where a span begins: in the program's own current span, else in this place."""
    here = trace.get_current_span().get_span_context()
    if here.is_valid:
        return otel_context.get_current()
    return _inside(place) if place is not None else otel_context.get_current()


def _inside(place: TraceContext) -> otel_context.Context:
    return trace.set_span_in_context(NonRecordingSpan(_span_context(place)), otel_context.Context())


def _span_context(place: TraceContext) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if place.sampled else TraceFlags.DEFAULT)
    state = TraceState.from_header([place.state]) if place.state else None
    return SpanContext(
        place.trace_id, place.span_id, is_remote=True, trace_flags=flags, trace_state=state
    )


def _place(span: trace.Span) -> TraceContext | None:
    found = span.get_span_context()
    if not found.is_valid:
        return None
    sampled, state = found.trace_flags.sampled, found.trace_state
    return TraceContext(found.trace_id, found.span_id, sampled, state.to_header() if state else "")


def _named(headers: Iterable[tuple[bytes, bytes]]) -> TraceContext | None:
    """The place that the headers of a request name."""
    parents: list[str] = []
    states: list[str] = []
    for name, value in headers:
        if name == b"traceparent":
            parents.append(value.decode("latin-1"))
        elif name == b"tracestate":
            states.append(value.decode("latin-1"))
    # Of two that differ neither can be right.
    return TraceContext.of(parents[0], ",".join(states)) if len(parents) == 1 else None


def _fail(span: trace.Span, error: str) -> None:
    span.set_attribute("error.type", error)
    span.set_status(Status(StatusCode.ERROR))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
