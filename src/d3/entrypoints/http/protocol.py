"""HTTP as uvicorn speaks it, with bounds that it has not: of connections, heads and waiting.

A head has a size and a time to arrive; trailers are dropped, which the parser hands on as headers;
whoever does not read what was written is cut off; and connections are counted, so that strangers
who only hold them keep nobody out.
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
"""Of the request's target and its headers together, and of its trailers."""
HEAD_SECONDS = 20.0
"""From the first byte of a head, or from the connection's beginning, to the head's end."""
WRITE_SECONDS = 30.0
"""For what was written to be read so far that there is room for more."""

_LINGER_SECONDS = 1.0
_RETRY_SECONDS = 5
_TOO_LARGE = f"The headers of the request are larger than {HEAD_BYTES:,} bytes."


def bounded_http(settings: Settings, most: int | None = None) -> Any:
    """The protocol for a server with these settings.

    Args:
        settings: say how many connections there may be.
        most: of them at once, where the system allows fewer.
    """
    return partial(BoundedHttp, connections=Connections(settings, most))


class BoundedHttp(HttpToolsProtocol):
    """One connection.

    Args:
        connections: all of them.
        arguments: of uvicorn's own protocol.
        named: likewise.
    """

    def __init__(self, *arguments: Any, connections: Connections, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._counted = connections
        self._in_head = True
        self._ended = False
        self._refused = False
        self._head = 0
        self._unparsed = 0
        self._heard = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A stranger is there; if it is one too many, it is told and let go."""
        super().connection_made(transport)
        if self._counted.enter(self._address):
            self._await_head()
        elif self._counted.overrun:
            self._refused = True
            self.transport.abort()
        else:
            self._refuse(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "overloaded",
                "Too many connections are open. Use fewer and try again in a moment.",
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._counted.leave(self._address)
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; a head that does not end is given up, though it has no line yet."""
        if self._refused:
            return
        self._ended, self._heard = False, True
        super().data_received(data)
        if self.transport.is_closing():
            return
        # What came behind the end of a message is of no known length: it counts from the next read.
        self._unparsed = self._unparsed + len(data) if self._in_head and not self._ended else 0
        if self._unparsed > HEAD_BYTES:
            self.send_400_response(_TOO_LARGE)
        elif self._in_head and not self._ended:
            self._await_head()

    def send_400_response(self, msg: str) -> None:
        """Say why, then end the connection gently."""
        self._refuse(HTTPStatus.BAD_REQUEST, "invalid_http", msg)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head, self._head, self._unparsed = True, 0, 0

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header; behind the body it is a trailer, and nobody's business here.

        Taken for a header, a trailer would say who asks after everybody in front has looked.
        """
        self._count(len(name) + len(value))
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head has ended."""
        self._in_head, self._head = False, 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next head may begin."""
        self._in_head = self._ended = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer was written; if the connection ends with it, it has to be read in time."""
        super().on_response_complete()
        self._end_in_time()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing more was asked."""
        super().timeout_keep_alive_handler()
        self._end_in_time()

    def shutdown(self) -> None:
        """The server stops."""
        super().shutdown()
        self._end_in_time()

    def pause_writing(self) -> None:
        """What was written is not read: that may last a while, not for ever."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It is read."""
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
            return self._await_head()  # what is being answered comes first
        if not self._heard:
            return self.transport.close()
        return self._refuse(
            HTTPStatus.REQUEST_TIMEOUT,
            "head_too_slow",
            f"The headers of the request did not arrive within {HEAD_SECONDS:.0f} seconds.",
        )

    def _end_in_time(self) -> None:
        """A connection that is closing waits for its last bytes to be read, but not for ever."""
        if self.transport.is_closing() and self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def _refuse(self, status: HTTPStatus, code: str, sentence: str) -> None:
        """Say why, then end the connection gently: what still comes is thrown away for a moment.

        Closed at once it would be reset, and the answer lost with it.
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
            # The parser hands it on as its own error, which is answered with 400.
            raise httptools.HttpParserError(_TOO_LARGE)


def _problem(status: HTTPStatus, code: str, sentence: str) -> bytes:
    """The whole answer to a request that no application sees."""
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
