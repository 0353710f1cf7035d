"""HTTP as uvicorn speaks it, with a bound on the head of a request: uvicorn itself has none."""

from __future__ import annotations

from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 * 1024
"""Of the request's target and its headers together."""

_LINGER_SECONDS = 1.0
_SENTENCE = f"The head of the request is larger than {HEAD_BYTES:,} bytes."


class BoundedHttp(HttpToolsProtocol):
    """Refuses a request whose head is too large with 400, and ends the connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._in_head = True
        self._ended = False
        self._refused = False
        self._head = 0
        self._unparsed = 0

    def data_received(self, data: bytes) -> None:
        """Parse what came; a head that does not end is given up, though it has no line yet."""
        if self._refused:
            return
        self._ended = False
        super().data_received(data)
        # What came behind the end of a message is of no known length: it counts from the next read.
        self._unparsed = self._unparsed + len(data) if self._in_head and not self._ended else 0
        if self._unparsed > HEAD_BYTES:
            self.send_400_response(_SENTENCE)

    def send_400_response(self, msg: str) -> None:
        """Say why, then end the connection gently: what still comes is thrown away for a moment.

        Closed at once it would be reset, and the answer lost with it.
        """
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(msg), msg.encode())
        )
        self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head, self._head, self._unparsed = True, 0, 0

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head has ended."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next head may begin."""
        self._in_head = self._ended = True
        super().on_message_complete()

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > HEAD_BYTES:
            # The parser hands it on as its own error, which is answered with 400.
            raise httptools.HttpParserError(_SENTENCE)
