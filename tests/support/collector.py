"""A collector of traces on this machine: it takes OTLP over HTTP, and keeps what it is sent."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.sites import Answering, web_server


@dataclass(frozen=True)
class TakenSpan:
    """A span as it arrived.

    Attributes:
        trace: its trace's id, in hexadecimal as all ids here.
        id: its own.
        parent: of the span that it lies in; empty for none.
        kind: 1 internal, 2 server, 3 client.
        seconds: it took.
        links: ids of the spans that it names.
        failed: whether its status is an error.
        resource: what made it.
    """

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    seconds: float
    attributes: dict[str, Any]
    links: set[str]
    failed: bool
    resource: dict[str, Any]


@dataclass
class Collector:
    """What arrived.

    Attributes:
        url: for ``OTEL_EXPORTER_OTLP_ENDPOINT``.
        hangs: whether it takes requests and never answers.
    """

    url: str = ""
    hangs: bool = False
    spans: list[TakenSpan] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait(self, *names: str, trace: str | None = None) -> dict[str, list[TakenSpan]]:
        """The spans of a trace by name, once there is one of each of these names."""

        def found() -> dict[str, list[TakenSpan]]:
            by_name: dict[str, list[TakenSpan]] = {}
            for one in self.spans:
                if trace in (None, one.trace):
                    by_name.setdefault(one.name, []).append(one)
            return by_name

        until = time.monotonic() + 30
        with self.changed:
            while not set(names) <= found().keys():
                assert self.changed.wait(until - time.monotonic()), f"there is only {[*found()]}"
            return found()


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector that runs until the block is left."""
    there = Collector()
    leaving = threading.Event()

    class Handler(Answering):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # noqa: N802  the server's own name
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            if there.hangs:
                leaving.wait()
                return
            with there.changed:
                there.spans += _spans(ExportTraceServiceRequest.FromString(body))
                there.changed.notify_all()
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    with web_server(Handler) as port:
        there.url = f"http://127.0.0.1:{port}"
        yield there
        leaving.set()


def _spans(request: Any) -> Iterator[TakenSpan]:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield TakenSpan(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.kind,
                    (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    _values(span.attributes),
                    {link.span_id.hex() for link in span.links},
                    span.status.code == span.status.STATUS_CODE_ERROR,
                    _values(resource.resource.attributes),
                )


def _values(pairs: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in pairs}
