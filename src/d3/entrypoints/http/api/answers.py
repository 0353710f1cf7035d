"""A response whose JSON body is already encoded."""

from __future__ import annotations

from collections.abc import Sequence

from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send


class Answer(ASGIResponse):
    """A status and a JSON body, sent without the framework's serialisation.

    Args:
        body: encoded JSON.
        headers: besides the body's type and length.
        status: of the response.
    """

    def __init__(
        self, body: bytes, headers: Sequence[tuple[bytes, bytes]] = (), status: int = 200
    ) -> None:
        self.body = body
        self._status = status
        self._headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            *headers,
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        del scope, receive
        await send(
            {"type": "http.response.start", "status": self._status, "headers": self._headers}
        )
        await send({"type": "http.response.body", "body": self.body, "more_body": False})
