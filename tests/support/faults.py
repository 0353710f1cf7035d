"""An HTTP proxy that breaks things on the way: for tests of what a client does about it.

::

    with FaultyProxy("127.0.0.1:9000") as proxy:
        client = connect(proxy.address)
        proxy.fault = flipped_bit(at=1000)
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self, TypeAlias


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes:
        status: of HTTP.
        headers: as they came, but for those of the connection.
        body: whole.
        sent: how many bytes of the body really go out before the connection is cut; None: all.
        seconds: of silence before it.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    sent: int | None = None
    seconds: float = 0.0


Fault: TypeAlias = Callable[[str, str, Answer], Answer]
"""Gets the method, the path and the real answer, and says what goes out."""


def sound(_method: str, _path: str, answer: Answer) -> Answer:
    """No fault at all."""
    return answer


def replayed(status: int, code: str, content_type: str = "application/xml") -> Fault:
    """An error of S3, instead of every answer; to HEAD without a body, as HTTP has it."""
    text = f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>of the server</Message>"
    body = f"{text}<Resource>/x</Resource><RequestId>1</RequestId></Error>".encode()

    def fault(method: str, _path: str, _answer: Answer) -> Answer:
        return Answer(status, {"Content-Type": content_type}, b"" if method == "HEAD" else body)

    return fault


def flipped_bit(at: int) -> Fault:
    """One bit of every large body is another one."""

    def fault(method: str, _path: str, answer: Answer) -> Answer:
        if method != "GET" or len(answer.body) <= at:
            return answer
        body = bytearray(answer.body)
        body[at] ^= 1
        return replace(answer, body=bytes(body))

    return fault


def cut_short(after: int, times: int = 10**9) -> Fault:
    """The connection ends after so many bytes of a longer body; so many times."""
    left = [times]

    def fault(method: str, _path: str, answer: Answer) -> Answer:
        if method != "GET" or len(answer.body) <= after or not left[0]:
            return answer
        left[0] -= 1
        return replace(answer, sent=after)

    return fault


def slow(seconds: float) -> Fault:
    """Every answer comes late."""
    return lambda _method, _path, answer: replace(answer, seconds=seconds)


class FaultyProxy:
    """Listens on an address of its own, and passes on what comes; for small bodies.

    Args:
        target: host and port of the real server.

    Attributes:
        fault: done to each answer; may be set at any time.
        requests: method and path of all that came.
    """

    def __init__(self, target: str) -> None:
        self.fault: Fault = sound
        self.requests: list[tuple[str, str]] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy._pass_on(self, target)

            do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def address(self) -> str:
        """Host and port to connect to."""
        return f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _pass_on(self, handler: BaseHTTPRequestHandler, target: str) -> None:
        self.requests.append((handler.command, handler.path))
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        real = self._real(handler, target, body)
        answer = self.fault(handler.command, handler.path, real)
        time.sleep(answer.seconds)
        handler.close_connection = True
        try:
            handler.send_response(answer.status)
            for name, value in answer.headers.items():
                handler.send_header(name, value)
            if handler.command != "HEAD":
                handler.send_header("Content-Length", str(len(answer.body)))
            handler.send_header("Connection", "close")
            handler.end_headers()
            handler.wfile.write(answer.body[: answer.sent])
        except OSError:
            return  # the client went away meanwhile

    def _real(self, handler: BaseHTTPRequestHandler, target: str, body: bytes) -> Answer:
        connection = http.client.HTTPConnection(target, timeout=30)
        try:
            # The Host header goes on as it came: it is part of the signature.
            connection.putrequest(
                handler.command, handler.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in handler.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            got = connection.getresponse()
            skipped = {"connection", "transfer-encoding", "date", "server"}
            if handler.command != "HEAD":
                skipped.add("content-length")
            headers = {k: v for k, v in got.getheaders() if k.lower() not in skipped}
            return Answer(got.status, headers, got.read())
        finally:
            connection.close()
