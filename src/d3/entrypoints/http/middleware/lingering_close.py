"""Responses sent before the request's body has arrived, so that the client can read them.

Closing a connection on a client that still sends resets it, and the client loses the response. So
the whole response is sent, what still arrives is discarded for a moment, and then the connection is
closed.
"""

from __future__ import annotations

import asyncio
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from d3.entrypoints.http.middleware.request_limits import brings_body

_MOST_BYTES = 64 * 2**20
_SECONDS = 5.0


class LingeringCloseMiddleware:
    """Wraps an ASGI application.

    Args:
        application: what answers.
    """

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; if its body has not arrived by then, discard the rest and close."""
        if str(scope["type"]) != "http" or not brings_body(scope):
            await self._application(scope, receive, send)
            return
        has_come = False

        async def receive_watched() -> Any:
            nonlocal has_come
            message = await receive()
            has_come = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def send_lingering(message: Message) -> None:
            if has_come:
                await send(message)
            elif message["type"] == "http.response.start":
                if str(scope.get("http_version", "1.1")).startswith("1"):
                    message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
                await send(message)
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                message["more_body"] = True
                await send(message)
                await _drain(receive_watched)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await send(message)

        await self._application(scope, receive_watched, send_lingering)


async def _drain(receive: Receive) -> None:
    """Discard the rest of the body, up to a limit in bytes and seconds."""
    drained = 0
    try:
        async with asyncio.timeout(_SECONDS):
            while drained < _MOST_BYTES:
                message: Any = await receive()
                drained += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return
