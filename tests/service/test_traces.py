"""Traces, as a collector gets them: one for a request, from its headers to its rows."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import d3
from d3.adapters.in_process import SystemClock
from d3.adapters.otel import OpenTelemetryTracer
from d3.domain.ports.tracing import NO_TRACE, NULL_TRACER, TraceContext, current, within
from d3.entrypoints.logs import configure_logs
from tests.homes import Home
from tests.service.conftest import Service, painted
from tests.serving import d3_serve, wait_until
from tests.sites import Answering, web_server
from tests.support.collector import Collector, TakenSpan, collector
from tests.support.engines import FakeEngine
from tests.support.receivers import LOOPBACK, receiver
from tests.support.stores import free_port

PREDICT = "POST /api/inference/predict"
CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLERS_SPAN = "00f067aa0ba902b7"
FROM_CALLER = {"traceparent": f"00-{CALLER}-{CALLERS_SPAN}-01"}
STEPS = ("d3.decode", "d3.queue", "d3.forward", "d3.rows")


@pytest.fixture
def there() -> Iterator[Collector]:
    with collector() as found:
        yield found


@pytest.fixture
def traced(
    start: Callable[..., Service], there: Collector, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Service]:
    """Starts a service whose spans arrive soon."""
    for name, value in settings_of(there.url).items():
        monkeypatch.setenv(name, value)
    return lambda *engine, **settings: start(*engine, traces=True, **settings)


def settings_of(url: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "50"}


def predict(http: httpx.Client, image: bytes, headers: dict[str, str]) -> httpx.Response:
    return http.post("/api/inference/predict", files={"file": ("a.png", image)}, headers=headers)


def assert_tree(spans: dict[str, list[TakenSpan]]) -> TakenSpan:
    """One request with one span of each step; gives the request's."""
    assert {*spans} == {PREDICT, *STEPS}
    (request,) = spans[PREDICT]
    assert (request.trace, request.parent, request.kind) == (CALLER, CALLERS_SPAN, 2)
    assert not request.failed
    for name in STEPS:
        (step,) = spans[name]
        assert (step.trace, step.parent) == (CALLER, request.id), name
        assert 0 <= step.seconds <= request.seconds + 0.5, name
    forward = spans["d3.forward"][0].attributes
    assert (forward["d3.batch.images"], forward["d3.device"]) == (1, "cpu")
    assert spans["d3.rows"][0].attributes["d3.rows"] == 1
    return request


def test_one_predict_is_one_trace_of_the_callers(
    traced: Callable[..., Service], there: Collector, image: bytes
) -> None:
    answer = predict(traced().http, image, FROM_CALLER)
    assert answer.status_code == 200
    request = assert_tree(there.wait(PREDICT, *STEPS, trace=CALLER))
    told = request.attributes
    assert told["http.request.method"] == "POST"
    assert told["http.route"] == told["url.path"] == "/api/inference/predict"
    assert told["http.response.status_code"] == 200
    assert told["d3.request_id"] == answer.headers["x-request-id"]
    assert told["d3.images"] == 1
    assert request.resource["service.name"] == "d3"
    assert request.resource["service.version"] == d3.__version__
    assert request.resource["service.instance.id"]


def test_an_engine_behind_a_socket_goes_on_with_the_trace(
    traced: Callable[..., Service],
    there: Collector,
    image: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.machines.WORKERS", 2)
    service = traced()
    assert service.machine.engine is not None
    assert predict(service.http, image, FROM_CALLER).status_code == 200
    assert_tree(there.wait(PREDICT, *STEPS, trace=CALLER))


@pytest.mark.full
def test_processes_of_workers_send_the_parts_of_one_trace(
    home: Home, tmp_path: Path, there: Collector
) -> None:
    variables = settings_of(there.url) | {"OTEL_SERVICE_NAME": "judge", "D3_TRACES": "True"}
    variables |= home.environ | {"CUDA_DEVICE": "cpu", "D3_ENGINE": "torch"}
    variables |= {"D3_WARM_UP": "False", "D3_LOG_FORMAT": "json"}
    with d3_serve(tmp_path, "--port", "0", "--workers", "2", **variables) as served:
        with httpx.Client(base_url=served.url(), timeout=60) as http:
            assert predict(http, painted(7), FROM_CALLER).status_code == 200
            spans = there.wait(PREDICT, *STEPS, trace=CALLER)
        request = assert_tree(spans)
        assert served.stop() == 0
        lines = [json.loads(one) for one in served.text.splitlines() if one.startswith("{")]
    process = {name: spans[name][0].resource["process.pid"] for name in (PREDICT, *STEPS)}
    assert process["d3.queue"] == process["d3.forward"] != process[PREDICT]
    assert process["d3.decode"] == process["d3.rows"] == process[PREDICT]
    assert {one.resource["service.name"] for some in spans.values() for one in some} == {"judge"}
    (line,) = [one for one in lines if one.get("path") == "/api/inference/predict"]
    assert (line["trace_id"], line["span_id"]) == (CALLER, request.id)


def test_images_of_one_pass_name_each_other(
    traced: Callable[..., Service], there: Collector
) -> None:
    engine = FakeEngine()
    service = traced(engine, cache_entries=0)
    engine.may_score.clear()
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(service.predict, painted(1))
        engine.scoring.acquire(timeout=20)
        while engine.scoring.acquire(blocking=False):
            pass
        rest = [pool.submit(service.predict, painted(shade)) for shade in range(2, 6)]
        waiting = 'd3_queue_images{lane="interactive"} 4.0'
        wait_until(lambda: waiting in service.metrics())
        engine.may_score.set()
        assert {one.result().status_code for one in (first, *rest)} == {200}
    wait_until(lambda: len(there.wait("d3.forward")["d3.forward"]) == 5)
    forward = there.wait("d3.forward")["d3.forward"]
    shared = [one for one in forward if one.attributes["d3.batch.images"] > 1]
    ids = {one.id for one in shared}
    others = [one for one in shared if one.links <= ids]
    (owner,) = [one for one in shared if one not in others]
    assert others
    assert {frozenset(one.links) for one in others} == {frozenset([owner.id])}
    assert owner.links == {one.parent for one in others}
    assert len({one.trace for one in forward}) == 5


def test_what_is_no_image_is_told_and_is_no_error_of_the_service(
    traced: Callable[..., Service], there: Collector
) -> None:
    assert predict(traced().http, b"no image", FROM_CALLER).status_code == 415
    spans = there.wait(PREDICT, "d3.decode", trace=CALLER)
    assert {*spans} == {PREDICT, "d3.decode"}
    (request,), (decode,) = spans[PREDICT], spans["d3.decode"]
    assert not request.failed
    assert request.attributes["error.type"] == "not_an_image"
    assert request.attributes["http.response.status_code"] == 415
    assert not decode.failed
    assert decode.attributes["error.type"] == "not_an_image"


def test_probes_and_scrapes_are_not_traced(
    traced: Callable[..., Service], there: Collector, image: bytes
) -> None:
    http = traced().http
    for path in ("/health", "/health/ready", "/metrics"):
        assert http.get(path).status_code == 200
    predict(http, image, {"traceparent": "00-not-a-trace"})
    spans = there.wait(PREDICT, "d3.rows")
    assert not [name for name in spans if "health" in name or "metrics" in name]
    assert spans[PREDICT][0].parent == ""


def test_what_the_caller_does_not_sample_is_not_recorded(
    traced: Callable[..., Service], there: Collector, image: bytes
) -> None:
    http = traced().http
    predict(http, image, {"traceparent": f"00-{CALLER}-{CALLERS_SPAN}-00"})
    predict(http, painted(3), {})
    there.wait(PREDICT, "d3.rows")
    assert CALLER not in {one.trace for one in there.spans}


def test_webhooks_and_links_are_asked_in_the_name_of_the_trace(
    traced: Callable[..., Service], there: Collector
) -> None:
    asked: list[str] = []

    class Photo(Answering):
        def answer(self) -> None:
            asked.append(self.headers["traceparent"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(painted(1))

    service = traced(webhook_allow=LOOPBACK, fetch_links=True, fetch_allow=LOOPBACK)
    with receiver() as hooks, web_server(Photo) as port:
        service.http.post("/api/webhooks", json={"url": hooks.at(), "events": ["result.created"]})
        form = {"url": (None, f"http://127.0.0.1:{port}/a.png")}
        judged = service.http.post("/api/inference/predict", files=form, headers=FROM_CALLER)
        assert judged.status_code == 200
        (message,) = hooks.wait()
        (fetched,) = there.wait("d3.fetch", trace=CALLER)["d3.fetch"]
        (sent,) = there.wait("d3.webhook")["d3.webhook"]
    assert asked == [f"00-{CALLER}-{fetched.id}-01"]
    assert fetched.kind == sent.kind == 3
    assert message.headers["traceparent"] == f"00-{sent.trace}-{sent.id}-01"
    assert sent.attributes["http.response.status_code"] == 204


def test_the_client_tells_the_service_its_callers_span(
    traced: Callable[..., Service], there: Collector, image: bytes
) -> None:
    service = traced()
    host = TracerProvider().get_tracer("host")
    with host.start_as_current_span("host"), d3.Client(service.url) as client:
        here = trace.get_current_span().get_span_context()
        client.predict(io.BytesIO(image))
    (request,) = there.wait(PREDICT, trace=f"{here.trace_id:032x}")[PREDICT]
    assert request.parent == f"{here.span_id:016x}"


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> tuple[TracerProvider, InMemorySpanExporter]:
    """The provider of a program that D3 is part of."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return provider, kept


def test_a_program_with_a_provider_of_its_own_gets_the_spans(
    hosts: tuple[TracerProvider, InMemorySpanExporter],
) -> None:
    provider, kept = hosts
    tracer = OpenTelemetryTracer(SystemClock(), "1")
    with (
        provider.get_tracer("host").start_as_current_span("page") as page,
        tracer.request("POST", [(b"traceparent", FROM_CALLER["traceparent"].encode())], {}) as one,
    ):
        assert current.get() == one.context
        inner = trace.get_current_span().get_span_context()
    tracer.close()
    assert current.get() is None
    with provider.get_tracer("host").start_as_current_span("later"):
        pass
    spans = {one.name: one for one in kept.get_finished_spans()}
    assert {*spans} == {"page", "POST", "later"}  # its provider goes on
    assert spans["POST"].parent == page.get_span_context()
    assert spans["POST"].get_span_context() == inner


def test_the_library_makes_a_trace_of_a_call(
    home: Home, hosts: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    _, kept = hosts
    with d3.D3(home.settings(traces=True, engine="torch", cuda_device="cpu")) as detector:
        detector.detect(painted(1))
        list(detector.detect_many([painted(2), painted(3)]))
    spans = kept.get_finished_spans()
    calls = {one.get_span_context().span_id: one.name for one in spans if one.parent is None}
    assert sorted(calls.values()) == ["d3.detect", "d3.detect_many"]
    within_calls = [(calls[one.parent.span_id], one.name) for one in spans if one.parent]
    for call, times in (("d3.detect", 1), ("d3.detect_many", 2)):
        for step in ("d3.decode", "d3.queue", "d3.forward"):
            assert within_calls.count((call, step)) == times, (call, step)


@pytest.mark.parametrize("hangs", [False, True], ids=["nobody listens", "it never answers"])
def test_a_collector_that_is_away_slows_nothing_and_fails_nothing(
    start: Callable[..., Service],
    there: Collector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    hangs: bool,  # noqa: FBT001
) -> None:
    there.hangs = hangs
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    url = there.url if hangs else f"http://127.0.0.1:{free_port()}"
    for name, value in settings_of(url).items():
        monkeypatch.setenv(name, value)
    service = start(traces=True)
    begun = time.monotonic()
    answers = [service.predict(painted(shade)) for shade in range(20)]
    assert {one.status_code for one in answers} == {200}
    assert time.monotonic() - begun < 10
    begun = time.monotonic()
    service.application.d3.tracer.close()
    assert time.monotonic() - begun < 5
    assert service.predict(painted(77)).status_code == 200
    lines = [one for one in caplog.records if "opentelemetry" in one.name]
    lines += [one for one in caplog.records if "collector of traces" in one.getMessage()]
    workers = int(os.environ.get("D3_TEST_WORKERS", "1"))
    assert len(lines) <= (
        1 if workers == 1 else workers + 1
    )  # one of each process, with the engine
    (line,) = {one.getMessage() for one in lines}
    assert line.startswith("The collector of traces is unavailable: It does not answer.")


def test_nothing_is_imported_while_it_is_off(run_python: Callable[..., object]) -> None:
    # Litestar, and FastAPI where it is there, import OpenTelemetry's small interface themselves.
    script = """
import sys
import d3
from d3.client import Client
from d3.entrypoints.http import create_app
application = create_app(d3.Settings(home="home"))
application.d3.stop()
loaded = {name for name in sys.modules if name.startswith(("opentelemetry", "d3.adapters"))}
assert "d3.adapters.sql" in loaded
assert not [one for one in loaded if one.startswith(("opentelemetry.sdk", "opentelemetry.exp"))]
assert "d3.adapters.otel" not in loaded
"""
    run_python(script)


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["opentelemetry"] = None
import d3
from d3.container import Container
try:
    Container(settings=d3.Settings(home="home", traces=True)).tracer()
except d3.errors.SettingsInvalid as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "otel" in done.stdout
    assert "D3_TRACES" in done.stdout


def test_a_log_line_names_its_span(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(root, "level", root.level)
    stream = io.StringIO()
    configure_logs("json", "info", stream)
    here = TraceContext.of(FROM_CALLER["traceparent"])
    with within(here):
        logging.getLogger("d3.http").warning("inside")
    logging.getLogger("d3.http").warning("outside")
    inside, outside = map(json.loads, stream.getvalue().splitlines())
    assert (inside["trace_id"], inside["span_id"]) == (CALLER, CALLERS_SPAN)
    assert not {"trace_id", "span_id"} & outside.keys()


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"00-{'0' * 32}-{CALLERS_SPAN}-01",
        f"00-{CALLER}-{'0' * 16}-01",
        f"ff-{CALLER}-{CALLERS_SPAN}-01",
        f"00-{CALLER.upper()}-{CALLERS_SPAN}-01",
        f"00-{CALLER}-{CALLERS_SPAN}",
    ],
)
def test_a_header_that_is_not_valid_names_no_place(header: str) -> None:
    assert TraceContext.of(header) is None


def test_a_place_survives_its_way_to_another_process() -> None:
    place = TraceContext.of(FROM_CALLER["traceparent"], "vendor=1")
    assert place is not None
    assert place.headers == FROM_CALLER | {"tracestate": "vendor=1"}
    assert TraceContext.unpacked(place.packed) == TraceContext.of(FROM_CALLER["traceparent"])
    assert TraceContext.unpacked(NO_TRACE) is None
    later = TraceContext.of(f"01-{CALLER}-{CALLERS_SPAN}-00-more")
    assert later is not None
    assert not later.sampled


def test_what_takes_nothing_costs_nothing_to_ask() -> None:
    with NULL_TRACER.span("d3.x") as span:
        span.note({"d3.x": 1}, error="x")
        assert span.context is None
        assert current.get() is None
