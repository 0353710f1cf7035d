"""Telemetry of every request: id, duration, log line, metrics and record.

This is ASGI middleware around everything else, so that refused and unknown paths count too. Refused
requests are sampled: a few records a second one by one, the rest as counts. Anybody can cause
refusals without a key, and one row for each would fill the disk.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
import time
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from d3.domain.errors import D3Error
from d3.domain.history import RequestRecord
from d3.domain.ports.tracing import NULL_SPAN, NULL_TRACER, Span, Tracer, current
from d3.domain.services.detection import Judged
from d3.entrypoints.http.metrics import Metrics

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOG = logging.getLogger("d3.http")
_STATE = "telemetry"
ERROR_CODE = "error_code"
"""Where the state of a request has the code of the error that it was answered with."""
_QUIET = ("/health", "/metrics", "/console/")
_IDS = random.Random()  # noqa: S311  seeded by the system; ids are names, not secrets
os.register_at_fork(after_in_child=_IDS.seed)  # else forked processes give the same ids
_RECORDS_A_SECOND = 10
_COUNTED_KINDS = 16
_SECONDS = 1.0


class SampledRecords:
    """Passes records on. Used on one event loop only.

    Args:
        pass_on: takes each record or count.
    """

    def __init__(self, pass_on: Callable[[RequestRecord], None]) -> None:
        self._pass_on = pass_on
        self._passed = 0
        self._counts: dict[tuple[str, int], RequestRecord] = {}
        self._running = False

    def add(self, record: RequestRecord) -> None:
        """Pass a record on now, or within a second as a count of similar ones."""
        if not self._running:
            self._running = True
            # In no request's context: its lines in the log are not of one request.
            asyncio.get_running_loop().call_later(_SECONDS, self._pass_counts, context=Context())
        if self._passed < _RECORDS_A_SECOND:
            self._passed += 1
            self._pass_on(record)
            return
        kind = (record.endpoint, record.status_code)
        if kind not in self._counts and len(self._counts) >= _COUNTED_KINDS:
            kind = ("", record.status_code)  # there is no limit to made-up paths
        before = self._counts.get(kind)
        self._counts[kind] = replace(record, requests=before.requests + 1 if before else 1)

    def _pass_counts(self) -> None:
        counts, self._counts = self._counts, {}
        self._passed, self._running = 0, False
        for record in counts.values():
            self._pass_on(record)


@dataclass(slots=True)
class RequestTelemetry:
    """What is known of one request.

    Attributes:
        request_id: the client's if it is usable, else a new one.
        address: the client's, behind trusted proxies.
        user_id: of the key that was sent.
        status: of the response; 499 if the client disconnected before.
        decode_seconds: spent decoding images.
        queue_seconds: longest time that an image waited for the device.
        model_seconds: spent on the device.
        judgements: the outcome of each image.
    """

    request_id: str
    address: str | None = None
    user_id: int | None = None
    status: int = 499
    decode_seconds: float = 0.0
    queue_seconds: float = 0.0
    model_seconds: float = 0.0
    judgements: list[Judged | D3Error] = field(default_factory=list)

    @staticmethod
    def of(scope: Any) -> RequestTelemetry:
        """The telemetry of the request with this ASGI scope."""
        telemetry: RequestTelemetry = scope["state"][_STATE]
        return telemetry

    def judged(self, outcome: Judged | D3Error) -> None:
        """Add the outcome of an image."""
        self.judgements.append(outcome)
        if isinstance(outcome, Judged):
            self.decode_seconds += outcome.decode_seconds
            self.queue_seconds = max(self.queue_seconds, outcome.queue_seconds)
            self.model_seconds += outcome.model_seconds

    def server_timing(self, total: float) -> str:
        """The ``Server-Timing`` header, in milliseconds."""
        text = f"total;dur={1000 * total:.2f}"
        if self.judgements:
            text += (
                f", queue;dur={1000 * self.queue_seconds:.2f}"
                f", decode;dur={1000 * self.decode_seconds:.2f}"
                f", model;dur={1000 * self.model_seconds:.2f}"
            )
        return text


class TelemetryMiddleware:
    """Wraps an ASGI application.

    Args:
        application: what answers.
        metrics: counts.
        record: writes the request log. It is called on the event loop and must not block.
        shown_address: gives the part of an address that is recorded.
        tracer: takes a span for each request.
    """

    def __init__(
        self,
        application: ASGIApp,
        metrics: Metrics,
        record: Callable[[RequestRecord], None],
        shown_address: Callable[[str], str | None],
        tracer: Tracer = NULL_TRACER,
    ) -> None:
        self._tracer = tracer
        self._application = application
        self._metrics = metrics
        self._record = record
        self._refusals = SampledRecords(self._write)
        self._shown_address = shown_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request and record it."""
        if str(scope["type"]) != "http":
            await self._application(scope, receive, send)
            return
        begun, arrived = time.perf_counter(), datetime.now(UTC)
        telemetry = RequestTelemetry(_request_id(scope))
        # A new dictionary: the server shares one between the requests of a connection.
        state = dict(scope.get("state") or {})
        state |= {_STATE: telemetry, "request_id": telemetry.request_id}
        scope["state"] = state

        async def send_observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                telemetry.status = message["status"]
                timing = telemetry.server_timing(time.perf_counter() - begun)
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", telemetry.request_id.encode()),
                    (b"server-timing", timing.encode()),
                ]
            await send(message)

        self._metrics.in_flight.inc()
        bound = bind_contextvars(request_id=telemetry.request_id)
        with self._span(scope, telemetry.request_id) as span:
            try:
                await self._application(scope, receive, send_observed)
            finally:
                reset_contextvars(**bound)
                self._metrics.in_flight.dec()
                self._record_request(scope, telemetry, time.perf_counter() - begun, arrived)
                if span.context is not None:
                    _describe(span, scope, telemetry)

    def _span(self, scope: Any, request_id: str) -> Span:
        if not self._tracer.enabled:
            return NULL_SPAN
        current.set(None)  # of the connection's last request: see the adapter
        if scope["path"].startswith(_QUIET):
            return NULL_SPAN
        about = {
            "http.request.method": scope["method"][:16],
            "url.path": scope["path"][:255],
            "url.scheme": scope.get("scheme") or "http",
            "d3.request_id": request_id,
        }
        return self._tracer.request(scope["method"][:16], scope["headers"], about)

    def _record_request(
        self, scope: Any, telemetry: RequestTelemetry, seconds: float, arrived: datetime
    ) -> None:
        method, path, status = scope["method"], scope["path"], telemetry.status
        route = scope.get("path_template") or "unknown"
        self._metrics.observe(method, route, status, seconds, telemetry.judgements)
        if path.startswith(_QUIET):
            return
        client = scope.get("client")
        address = telemetry.address or (client[0] if client else None)
        record = RequestRecord(
            endpoint=path[:255],
            method=method[:16],
            status_code=status,
            ip_address=None if address is None else self._shown_address(address),
            response_time=seconds,
            created_at=arrived,
            request_id=telemetry.request_id,
            user_id=telemetry.user_id,
        )
        if status >= HTTPStatus.BAD_REQUEST and record.user_id is None:
            self._refusals.add(record)
        else:
            self._write(record)

    def _write(self, record: RequestRecord) -> None:
        """Write a record to the request log and the log."""
        self._record(record)
        if _LOG.isEnabledFor(logging.INFO):
            extra: dict[str, Any] = {
                "request_id": record.request_id,
                "method": record.method,
                "path": record.endpoint,
                "status": record.status_code,
                "milliseconds": round(1000 * record.response_time, 2),
            }
            if record.requests > 1:
                extra["requests"] = record.requests
            _LOG.info("request", extra=extra)


def _describe(span: Span, scope: Any, telemetry: RequestTelemetry) -> None:
    """Tell a request's span what became of it; only what is D3's own fault makes it an error."""
    route = scope.get("path_template")
    about: dict[str, str | int] = {
        "http.response.status_code": telemetry.status,
        "d3.images": len(telemetry.judgements),
    }
    if route is not None:
        about["http.route"] = route
    code = scope["state"].get(ERROR_CODE)
    if telemetry.status >= HTTPStatus.BAD_REQUEST:
        about["error.type"] = code or str(telemetry.status)
    failed = telemetry.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    span.note(
        about,
        name=f"{scope['method'][:16]} {route or 'unknown'}",
        error=(code or str(telemetry.status)) if failed else None,
    )


def _request_id(scope: Any) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(text):
                return str(text)
    return f"{_IDS.getrandbits(128):032x}"
