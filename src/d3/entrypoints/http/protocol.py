"""uvicorn's HTTP protocol with limits: on connections, header sections and slow clients.

A header section has a maximal size and time. Trailers, which the parser reports as headers, are
dropped. A client that does not read its response is disconnected. Connections are counted, so that
idle ones cannot shut others out.
"""

from __future__ import annotations

import asyncio
import uuid
from functools import partial
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from d3.entrypoints.http.connections import Connections
from d3.entrypoints.http.errors import PROBLEM, problem_body
from d3.settings import Settings

HEAD_BYTES = 64 * 1024
"""The largest header section, request target included; also the largest trailer section."""
HEAD_SECONDS = 20.0
"""For a header section to arrive, from its first byte or from the start of the connection."""
WRITE_SECONDS = 30.0
"""For a client to read enough of a response that more can be written."""

_LINGER_SECONDS = 1.0
_RETRY_SECONDS = 5
_TOO_LARGE = f"The headers of the request are larger than {HEAD_BYTES:,} bytes."


def limited_http(settings: Settings, most: int | None = None, late_seconds: float = 0.0) -> Any:
    """The protocol for a server with these settings.

    Args:
        settings: hold the limits.
        most: connections at once, if the system allows fewer than the settings.
        late_seconds: how long a server that stops answers requests that were on their way.
    """
    return partial(LimitedHttp, connections=Connections(settings, most), late_seconds=late_seconds)


class LimitedHttp(HttpToolsProtocol):
    """One connection.

    Args:
        connections: counts them.
        late_seconds: as for :func:`limited_http`.
        arguments: for uvicorn's protocol.
        named: for uvicorn's protocol.
    """

    def __init__(
        self, *arguments: Any, connections: Connections, late_seconds: float = 0.0, **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self._counted = connections
        self._late_seconds = late_seconds
        self._stopping = False
        self._in_head = True
        self._ended = False
        self._refused = False
        self._head = 0
        self._unparsed = 0
        self._received_any = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Accept a connection, or refuse it where there are too many."""
        super().connection_made(transport)
        if self._counted.opened(self._address):
            self._await_head()
        elif self._counted.too_many_to_answer:
            self._refused = True
            self.transport.abort()
        else:
            self._refuse(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "overloaded",
                "Too many connections are open. Use fewer and try again in a moment.",
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers of a closed connection."""
        self._counted.closed(self._address)
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse bytes. A header section that grows too long is refused, also without a line end."""
        if self._refused:
            return
        self._ended, self._received_any = False, True
        super().data_received(data)
        if self.transport.is_closing():
            return
        # What follows the end of a message has no known length; it counts from the next read.
        self._unparsed = self._unparsed + len(data) if self._in_head and not self._ended else 0
        if self._unparsed > HEAD_BYTES:
            self.send_400_response(_TOO_LARGE)
        elif self._in_head and not self._ended:
            self._await_head()

    def send_400_response(self, msg: str) -> None:
        """Send the reason, then close the connection so that the client can read it."""
        self._refuse(HTTPStatus.BAD_REQUEST, "invalid_http", msg)

    def on_message_begin(self) -> None:
        """A header section begins."""
        super().on_message_begin()
        self._in_head, self._head, self._unparsed = True, 0, 0

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or behind the body a trailer, which is dropped.

        Taken for a header, a trailer could change the caller after a proxy has checked the
        request.
        """
        self._count(len(name) + len(value))
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The header section has ended."""
        self._in_head, self._head = False, 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().on_headers_complete()
        if self._stopping and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The next header section may begin."""
        self._in_head = self._ended = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """A response was written. If the connection closes with it, it must be read in time."""
        super().on_response_complete()
        self._end_in_time()

    def timeout_keep_alive_handler(self) -> None:
        """No further request came in time."""
        super().timeout_keep_alive_handler()
        self._end_in_time()

    def shutdown(self) -> None:
        """The server stops. What a client sent before it could know is answered still."""
        if self._late_seconds and not self._stopping:
            self._stopping = True
            self.loop.call_later(self._late_seconds, self.shutdown)
            if self.cycle is not None:
                self.cycle.keep_alive = False
            return
        super().shutdown()
        self._end_in_time()

    def pause_writing(self) -> None:
        """The client does not read: allow it some time."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._write_timer is not None and not self.transport.is_closing():
            self._write_timer.cancel()
            self._write_timer = None

    @property
    def _address(self) -> str | None:
        return self.client[0] if self.client else None

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up_head)

    def _give_up_head(self) -> None:
        self._head_timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            return self._await_head()  # a response is being sent
        if not self._received_any:
            return self.transport.close()
        return self._refuse(
            HTTPStatus.REQUEST_TIMEOUT,
            "head_too_slow",
            f"The headers of the request did not arrive within {HEAD_SECONDS:.0f} seconds.",
        )

    def _end_in_time(self) -> None:
        """Abort a closing connection if the client does not read its last bytes in time."""
        if self.transport.is_closing() and self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def _refuse(self, status: HTTPStatus, code: str, sentence: str) -> None:
        """Send the reason and close, discarding what still arrives for a moment.

        A connection closed at once is reset, and the response is lost with it.
        """
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self.transport.write(_problem(status, code, sentence))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > HEAD_BYTES:
            # The parser reports it as its own error, which is answered with 400.
            raise httptools.HttpParserError(_TOO_LARGE)


def _problem(status: HTTPStatus, code: str, sentence: str) -> bytes:
    """The bytes of a response to a request that never reaches the application."""
    request_id = uuid.uuid4().hex
    body = problem_body(status, code, sentence, request_id)
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {PROBLEM}",
        f"Content-Length: {len(body)}",
        f"X-Request-Id: {request_id}",
        "Connection: close",
    ]
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        lines.append(f"Retry-After: {_RETRY_SECONDS}")
    return "\r\n".join([*lines, "", ""]).encode() + body
