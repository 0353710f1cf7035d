"""At the door: who holds a place, a connection or memory, how long, and what a head may say."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from d3.adapters.sql.tables import RequestLogRow
from d3.domain.keys import mint
from d3.entrypoints.http import protocol
from d3.entrypoints.http.__main__ import document
from d3.entrypoints.http.middleware import request_limits
from tests.homes import Home
from tests.service.conftest import Service, painted
from tests.serving import PROBLEM_FIELDS, assert_problem, wait_until
from tests.wire import exchange, multipart, part

PREDICT, BATCH = "/api/inference/predict", "/api/inference/predict-batch"
HISTORY, STATS = "/api/inference/history", "/api/inference/stats"
FORM = b"Content-Type: multipart/form-data; boundary=b\r\n"
SHOT = multipart(part(b"file", painted(7), b"a.png"))


@contextmanager
def connected(service: Service, sent: bytes, buffer: int | None = None) -> Iterator[socket.socket]:
    """A connection that sent these bytes and may read little."""
    address = httpx.URL(service.url)
    with socket.socket() as connection:
        if buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.settimeout(20)
        connection.connect((address.host, address.port))
        connection.sendall(sent)
        yield connection


def heard(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def is_over(connection: socket.socket) -> bool:
    """Whether the other side has ended it."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def head(method: str, path: str, *lines: str, length: int = 100) -> bytes:
    """A head that announces a body."""
    reported = "".join(f"{line}\r\n" for line in (*lines, f"Content-Length: {length}"))
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{reported}\r\n".encode()


def bearer(service: Service, *scopes: str) -> str:
    accounts = service.application.d3.accounts
    name = "-".join(scopes)
    accounts.add_user(name)
    return f"Authorization: Bearer {accounts.create_key(name, scopes=scopes).key}"


class TestPlaces:
    """Of ``D3_MAX_REQUESTS``: held while the service works, never while it waits for a caller."""

    @pytest.mark.parametrize(
        ("method", "path", "lines"),
        [
            ("POST", "/sign-in", ("Content-Type: application/x-www-form-urlencoded",)),
            ("POST", PREDICT, ("Content-Type: multipart/form-data; boundary=b",)),
            ("POST", PREDICT, ("Authorization: Bearer nonsense",)),
            ("POST", "/api/scans", ("Content-Type: application/json",)),
            ("GET", STATS, ()),
            ("GET", "/sign-in", ()),
            ("POST", "/nowhere", ()),
            ("PUT", STATS, ()),
        ],
    )
    @pytest.mark.parametrize("auth", ["auto", "required"])
    def test_a_body_that_does_not_come_holds_none(
        self, start: Callable[..., Service], auth: str, method: str, path: str, lines: tuple[str]
    ) -> None:
        service = start(max_requests=2, auth=auth)
        key = {"X-API-Key": bearer(service, "admin").rpartition(" ")[2]}
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(connected(service, head(method, path, *lines)))
            wait_until(lambda: service.http.get(STATS, headers=key).status_code == 200)
            for _ in range(5):
                assert service.http.get(STATS, headers=key).status_code == 200

    def test_a_body_too_large_that_goes_on_and_on_holds_none(
        self, start: Callable[..., Service]
    ) -> None:
        service = start(max_requests=2, max_image_bytes=1000)
        large = head("POST", PREDICT, "Content-Type: multipart/form-data; boundary=b", length=10**9)
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(connected(service, large + bytes(100_000)))
            wait_until(lambda: service.http.get(STATS).status_code == 200)
            assert service.http.get(STATS).status_code == 200

    def test_who_may_not_scan_is_told_before_the_body_is_read(
        self, start: Callable[..., Service]
    ) -> None:
        service = start(auth="required")
        asked = head("POST", "/api/scans", bearer(service, "predict"))
        assert_problem(exchange(service.url, asked), 403, "forbidden")

    def test_a_reader_who_stops_reading_holds_none_and_is_cut_off(
        self, start: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(protocol, "WRITE_SECONDS", 1.0)
        service = start(max_requests=2)
        service.application.d3.history.iterate = lambda _: endless()
        export = b"GET /api/inference/history.jsonl HTTP/1.1\r\nHost: localhost\r\n\r\n"
        monkeypatch.setattr(
            "d3.entrypoints.http.api.history.json_lines_chunks", lambda _: endless()
        )
        with ExitStack() as stack:
            readers = [stack.enter_context(connected(service, export, 4096)) for _ in range(4)]
            wait_until(lambda: service.http.get(STATS).status_code == 200)
            wait_until(lambda: in_flight(service) == 1)
            assert len(readers) == 4

    @pytest.mark.one_process
    def test_what_is_worked_on_holds_one_and_what_is_whole_and_too_much_is_told_so(
        self, start: Callable[..., Service]
    ) -> None:
        service = start(max_requests=1)
        late = head("POST", PREDICT, FORM.decode().strip(), length=len(SHOT))
        with connected(service, late) as slow:
            wait_until(lambda: service.http.get(STATS).status_code == 200)
            service.engine.may_score.clear()
            with connected(service, late + SHOT) as first:
                assert service.engine.scoring.acquire(timeout=20)
                slow.sendall(SHOT)
                assert heard_answer(slow).startswith(b"HTTP/1.1 503")
                assert_problem(service.http.get(STATS), 503, "overloaded")
                service.engine.may_score.set()
                assert heard_answer(first).startswith(b"HTTP/1.1 200")
        assert service.http.get(STATS).status_code == 200


def heard_answer(connection: socket.socket) -> bytes:
    """The first piece of an answer."""
    return connection.recv(65536)


def endless() -> Iterator[bytes]:
    """An export without end, which somebody has to read."""
    while True:
        yield bytes(100_000)


def measured(service: Service, name: str) -> float:
    lines = service.metrics().splitlines()
    (line,) = [one for one in lines if one.startswith(f"{name} ")]
    return float(line.split()[1])


def in_flight(service: Service) -> float:
    return measured(service, "d3_http_requests_in_flight")


def body_bytes(service: Service) -> float:
    return measured(service, "d3_http_body_bytes")


class TestTime:
    """Every head, every body and every answer has a deadline."""

    @pytest.mark.parametrize(
        ("path", "kind"),
        [
            ("/sign-in", "application/x-www-form-urlencoded"),
            (PREDICT, "multipart/form-data; boundary=b"),
            ("/api/model/upload", "multipart/form-data; boundary=b"),
        ],
    )
    def test_a_body_that_never_comes_is_given_up_on_every_route(
        self, start: Callable[..., Service], path: str, kind: str
    ) -> None:
        service = start(upload_seconds=1)
        answer = exchange(service.url, head("POST", path, f"Content-Type: {kind}"))
        assert answer.status_code == 408
        assert answer.headers["connection"] == "close"

    def test_a_body_has_to_keep_coming(
        self, start: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(request_limits, "_PATIENCE_SECONDS", 0.5)
        service = start()
        begun = head("POST", PREDICT, FORM.decode().strip(), length=len(SHOT)) + SHOT[:50]
        assert_problem(exchange(service.url, begun), 408, "body_too_slow")

    @pytest.mark.parametrize("sent", [b"GET / HT", b"\r\n", b"GET / HTTP/1.1\r\nHost: localh"])
    def test_a_head_that_does_not_end_is_given_up(
        self, service: Service, monkeypatch: pytest.MonkeyPatch, sent: bytes
    ) -> None:
        monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
        with connected(service, sent) as connection:
            assert b"408 Request Timeout" in heard(connection)
        with connected(service, b"") as silent:
            assert heard(silent) == b""

    def test_a_next_head_has_its_time_too(
        self, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
        with connected(service, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") as connection:
            assert b"200 OK" in heard_answer(connection)
            connection.sendall(b"\r\n")
            assert b"408" in heard(connection)


class TestConnections:
    """Bounded in all, and by address but for loopback and trusted proxies."""

    def test_one_too_many_is_told_and_a_place_that_is_left_is_free(
        self, start: Callable[..., Service]
    ) -> None:
        service = start(max_connections=3)
        with connected(service, b""), connected(service, b""), connected(service, b""):
            with connected(service, b"") as more:
                reported = heard(more)
            assert reported.startswith(b"HTTP/1.1 503")
            assert b"Retry-After" in reported
            assert all(name.encode() in reported for name in PROBLEM_FIELDS)
        wait_until(lambda: service.http.get("/health").status_code == 200)


class TestMemory:
    """The bodies of all requests have one bound."""

    @pytest.mark.one_process
    def test_bodies_that_would_not_fit_beside_others_are_refused_before_they_are_read(
        self, start: Callable[..., Service]
    ) -> None:
        service = start(body_bytes=300_000)
        big = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        half = head("POST", PREDICT, FORM.decode().strip(), length=250_000) + big + bytes(200_000)
        with connected(service, half):
            wait_until(lambda: body_bytes(service) >= 200_000)
            refused = head("POST", PREDICT, FORM.decode().strip(), length=200_000)
            answer = exchange(service.url, refused, iter([big + bytes(200_000 - len(big))]))
            assert_problem(answer, 503, "overloaded")
            assert "retry-after" in answer.headers
            assert service.predict(painted(1)).status_code == 200, "small ones have room"
        wait_until(lambda: body_bytes(service) == 0)
        assert service.predict(bytes(200_000)).status_code == 415

    def test_what_comes_without_a_length_is_counted_as_it_comes(
        self, start: Callable[..., Service]
    ) -> None:
        service = start(body_bytes=300_000)
        chunked = (
            f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\n".encode()
            + FORM
            + b"Transfer-Encoding: chunked\r\n\r\n"
        )
        begun = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        piece = b"%x\r\n%s\r\n"
        held = chunked + piece % (len(begun), begun) + piece % (200_000, bytes(200_000))
        with connected(service, held):
            wait_until(lambda: body_bytes(service) >= 200_000)
            more = iter([piece % (len(begun), begun), *[piece % (50_000, bytes(50_000))] * 4])
            assert_problem(exchange(service.url, chunked, more), 503, "overloaded")

    def test_one_alone_may_be_larger_and_a_length_beyond_its_route_stays_413(
        self, start: Callable[..., Service]
    ) -> None:
        service = start(body_bytes=1000)
        assert service.predict(bytes(200_000)).status_code == 415
        with connected(service, head("POST", PREDICT, FORM.decode().strip()) + b"--b"):
            wait_until(lambda: body_bytes(service) > 0)
            endless_one = head("POST", PREDICT, FORM.decode().strip(), length=10**13)
            assert_problem(exchange(service.url, endless_one), 413, "body_too_large")


class TestHeads:
    """Trailers are no headers, there is one Host, and HEAD is GET without its body."""

    @pytest.mark.parametrize("trailer", ["Authorization: Bearer {}", "X-API-Key: {}"])
    def test_a_key_behind_the_body_opens_nothing(
        self, start: Callable[..., Service], trailer: str
    ) -> None:
        service = start(auth="required")
        key = bearer(service, "admin").rpartition(" ")[2]
        asked = (
            "POST /api/model/unload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked"
            f"\r\n\r\n3\r\nx=1\r\n0\r\n{trailer.format(key)}\r\n\r\n"
        )
        assert_problem(exchange(service.url, asked.encode()), 401, "key_missing")

    def test_an_address_behind_the_body_is_nobodys(self, start: Callable[..., Service]) -> None:
        service = start(
            auth="required", trusted_proxies=("127.0.0.1/32",), rate_failed_keys="2/hour"
        )

        def guess(number: int) -> int:
            asked = (
                f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
                f"X-Forwarded-For: 203.0.113.9\r\nX-API-Key: {mint().key}\r\n\r\n"
                f"3\r\nx=1\r\n0\r\nX-Forwarded-For: 198.51.100.{number}\r\n\r\n"
            )
            return exchange(service.url, asked.encode()).status_code

        assert [guess(number) for number in range(3)] == [401, 401, 429]

    @pytest.mark.parametrize("path", ["/health", HISTORY, "/"])
    @pytest.mark.parametrize("hosts", [0, 2])
    def test_one_host_is_named_and_no_more(self, service: Service, path: str, hosts: int) -> None:
        named = "Host: localhost\r\n" * hosts
        asked = f"GET {path} HTTP/1.1\r\n{named}\r\n"
        assert_problem(exchange(service.url, asked.encode()), 400, "invalid_host")

    def test_before_hosts_were_named_none_was(self, service: Service) -> None:
        answer = exchange(service.url, b"GET /health HTTP/1.0\r\n\r\n")
        assert answer.status_code == 200

    def test_head_is_get_without_its_body_on_every_route(self, service: Service) -> None:
        result = service.predict(painted(3)).json()["inference_id"]
        document = service.http.get("/schema/openapi.json").json()
        paths = [path for path, methods in document["paths"].items() if "get" in methods]
        pages = ["/", "/history", "/models", "/schema", "/console/style.css", "/nowhere"]
        pages += ["/docs", "/openapi.json"]
        for path in [*paths, *pages]:
            address = path.format_map(defaultdict(lambda: "none", result_id=result))
            get, reported = service.http.get(address), service.http.head(address)
            assert reported.status_code == get.status_code, address
            assert reported.content == b""
            assert reported.headers.get("content-type") == get.headers.get("content-type")
        assert service.http.head(PREDICT).status_code == 405
        assert "HEAD" in service.http.put(HISTORY).headers["allow"]
        text = service.metrics()
        assert f'method="HEAD",route="{HISTORY}",status="200"' in text

    def test_head_of_an_endless_export_ends(
        self, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "d3.entrypoints.http.api.history.json_lines_chunks", lambda _: endless()
        )
        assert service.http.head("/api/inference/history.jsonl").status_code == 200
        wait_until(lambda: in_flight(service) == 1)


class TestPagesOfOthers:
    """Every answer names the page of another origin that may read it, refusals above all."""

    ORIGIN = "https://app.example"

    @pytest.fixture
    def named(self, start: Callable[..., Service]) -> Service:
        return start(
            auth="required",
            cors_origins=(self.ORIGIN,),
            max_image_bytes=100,
            trusted_proxies=("127.0.0.1/32",),
            rate_per_address="1/hour",
        )

    def test_refusals_name_it_and_show_their_headers(self, named: Service) -> None:
        origin, key = {"Origin": self.ORIGIN}, bearer(named, "predict").rpartition(" ")[2]
        behind = origin | {"X-Forwarded-For": "203.0.113.5"}
        answers = {
            200: named.http.get("/health", headers=origin),
            400: exchange(named.url, f"GET / HTTP/1.1\r\nOrigin: {self.ORIGIN}\r\n\r\n".encode()),
            401: named.http.get(HISTORY, headers=behind),
            429: named.http.get(HISTORY, headers=behind),
            403: named.http.get(HISTORY, headers=origin | {"X-API-Key": key}),
            413: named.http.post(
                PREDICT, content=bytes(200_000), headers=origin | {"X-API-Key": key, **MULTIPART}
            ),
        }
        for status, answer in answers.items():
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == self.ORIGIN
            shown = answer.headers["access-control-expose-headers"].lower().split(", ")
            assert {"retry-after", "ratelimit-limit", "x-request-id", "location"} <= set(shown)
            assert "Origin" in answer.headers["vary"]
        assert "retry-after" in answers[429].headers

    def test_a_preflight_is_granted_to_it_alone(self, named: Service) -> None:
        asked = {
            "Access-Control-Request-Method": "DELETE",
            "Access-Control-Request-Headers": "authorization, idempotency-key",
        }
        calls = {method.upper() for methods in document()["paths"].values() for method in methods}
        for path in (PREDICT, "/api/model/list", "/api/scans/"):  # all need a key when asked
            granted = named.http.options(path, headers=asked | {"Origin": self.ORIGIN})
            assert granted.is_success, path
            assert calls <= set(granted.headers["access-control-allow-methods"].split(", "))
            assert "authorization" in granted.headers["access-control-allow-headers"]
        other = named.http.options(PREDICT, headers=asked | {"Origin": "https://evil.example"})
        assert not any(name.startswith("access-control") for name in other.headers)


MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}


class TestWhoCounts:
    """Refusals without a key count by address like all else, and their records are sampled."""

    def test_keyless_refusals_are_limited_by_address(self, start: Callable[..., Service]) -> None:
        service = start(
            auth="required", rate_per_address="3/hour", trusted_proxies=("127.0.0.1/32",)
        )

        def ask(path: str, address: str) -> int:
            return service.http.get(path, headers={"X-Forwarded-For": address}).status_code

        paths = (HISTORY, "/nowhere", "/schema", HISTORY)
        assert [ask(path, "203.0.113.9") for path in paths] == [401, 401, 200, 429]
        assert ask("/schema", "203.0.113.9") == 429
        assert ask("/health", "203.0.113.9") == 200, "whoever looks after it may always ask"
        assert ask(HISTORY, "203.0.113.10") == 401

    def test_ports_and_forwarded_tell_callers_apart_and_two_voices_are_not_believed(
        self, start: Callable[..., Service]
    ) -> None:
        service = start(
            auth="required", rate_per_address="1/hour", trusted_proxies=("127.0.0.1/32",)
        )

        def ask(**headers: str) -> int:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return service.http.get(HISTORY, headers=named).status_code

        assert ask(X_Forwarded_For="203.0.113.8:51234") == 401
        assert ask(X_Forwarded_For="203.0.113.8:51299") == 429
        assert ask(X_Forwarded_For="[2001:db8::1]:4711") == 401
        assert ask(X_Forwarded_For="2001:db8::2") == 429, "one household"
        assert ask(Forwarded='for=198.51.100.7;proto=https, for="127.0.0.1:80"') == 401
        assert ask(Forwarded='For="198.51.100.7:99"') == 429
        assert ask(Forwarded="for=9.9.9.9", X_Forwarded_For="8.8.8.8") == 401, "the proxy itself"
        assert ask(Forwarded="for=7.7.7.7", X_Forwarded_For="6.6.6.6") == 401, (
            "which is this machine"
        )

    def test_a_crowd_of_refusals_is_recorded_by_the_second_with_a_count(
        self, start: Callable[..., Service], home: Home
    ) -> None:
        service = start(auth="required")
        for _ in range(60):
            assert service.http.get(HISTORY).status_code == 401
        database = service.application.d3._container.database()

        def counted() -> tuple[int, int]:
            with database.engine.connect() as connection:
                query = sa.select(sa.func.count(), sa.func.sum(RequestLogRow.requests))
                rows, requests = connection.execute(query).one()
            return rows, int(requests or 0)

        wait_until(lambda: counted()[1] == 60, 10)
        assert counted()[0] < 60


def test_a_system_without_descriptors_is_503(service: Service) -> None:
    def exhausted(*_: object) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    service.application.d3.history.statistics = exhausted
    answer = service.http.get(STATS)
    assert_problem(answer, 503, "resources_exhausted")
    assert "retry-after" in answer.headers


def test_a_request_that_is_cancelled_hears_that_the_service_stops(service: Service) -> None:
    """As a server does that waited long enough while it stops."""
    sent: list[Any] = []

    async def ask() -> None:
        scope = {
            "type": "http",
            "method": "POST",
            "path": PREDICT,
            "raw_path": PREDICT.encode(),
            "query_string": b"",
            "http_version": "1.1",
            "root_path": "",
            "scheme": "http",
            "headers": [(b"host", b"localhost"), (b"content-length", b"9"), *FORM_HEADERS],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "state": {},
        }

        waiting, never = asyncio.Event(), asyncio.Event()

        async def receive() -> Any:
            waiting.set()
            await never.wait()

        async def send(message: Any) -> None:
            sent.append(message)

        task = asyncio.create_task(service.application(scope, receive, send))
        await waiting.wait()
        task.cancel()
        await task

    asyncio.run(ask())
    assert sent[0]["status"] == 503
    assert dict(sent[0]["headers"])[b"retry-after"] == b"10"
    assert b"service_stopping" in sent[1]["body"]


FORM_HEADERS = [(b"content-type", b"multipart/form-data; boundary=b")]
