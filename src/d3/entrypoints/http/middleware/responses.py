"""Middleware for responses: CORS headers, shutdown, early refusals and HEAD.

- CORS: every response tells which pages of other origins may read it, also a refusal. Without the
  headers the browser would hide the refusal, and the page could not show why.
- Shutdown: a request that is cancelled gets a 503 with Retry-After.
- Early refusals: a response may be sent before the request's body has arrived. Closing the
  connection on a client that still sends would reset it and lose the response. So the response is
  sent, what still arrives is discarded for a moment, and then the connection is closed.
- HEAD: the response to GET without its body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from litestar import Request
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from d3.domain.errors import ServiceStopping
from d3.entrypoints.http.errors import answer_d3_error
from d3.entrypoints.http.middleware.request_limits import brings_body

_ANY = "*"
_METHODS = b"GET, HEAD, POST, PATCH, DELETE, OPTIONS"
_PREFLIGHT_SECONDS = b"600"
_RETRY_SECONDS = 10.0
_DRAINED_BYTES = 64 * 2**20
_DRAIN_SECONDS = 5.0
_EXPOSED = (
    b"Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, X-Request-Id, Location, "
    b"Server-Timing, Idempotency-Replayed, Content-Disposition, WWW-Authenticate"
)


class CorsMiddleware:
    """Wraps an ASGI application.

    Args:
        application: what answers.
        origins: of the pages that may call, as browsers send them; ``*`` allows all.
    """

    def __init__(self, application: ASGIApp, origins: Collection[str]) -> None:
        self._application = application
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, with the CORS headers if its origin is allowed."""
        if not self._origins or str(scope["type"]) != "http":
            await self._application(scope, receive, send)
            return
        headers = self._headers(scope)

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *headers]
            await send(message)

        await self._application(scope, receive, send_named)

    def _headers(self, scope: Any) -> list[tuple[bytes, bytes]]:
        asked = dict(scope["headers"])
        origin = asked.get(b"origin")
        allowed = _ANY in self._origins
        # Caches must keep the responses to different origins apart, also those without headers.
        headers = [] if allowed else [(b"vary", b"Origin")]
        if origin is None or not (allowed or origin.decode("latin-1") in self._origins):
            return headers
        headers.append((b"access-control-allow-origin", b"*" if allowed else origin))
        if scope["method"] != "OPTIONS" or b"access-control-request-method" not in asked:
            headers.append((b"access-control-expose-headers", _EXPOSED))
            return headers
        headers.append((b"access-control-allow-methods", _METHODS))
        headers.append((b"access-control-max-age", _PREFLIGHT_SECONDS))
        if wanted := asked.get(b"access-control-request-headers"):
            headers.append((b"access-control-allow-headers", wanted))
        return headers


class ShutdownMiddleware:
    """Wraps an ASGI application.

    A server that shuts down cancels requests after a grace period. Without this middleware it
    would answer them with a bare 500.

    Args:
        application: what answers.
    """

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope | Any, receive: Receive, send: Send) -> None:
        """Answer one request; with 503 if it is cancelled before its response has begun."""
        begun = scope["type"] != "http"

        async def send_watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._application(scope, receive, send_watched)
        except asyncio.CancelledError:
            if begun:
                raise
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            stopping = ServiceStopping(
                "The service stopped before the request was finished.",
                "Send the request again in a moment.",
                retry_after=_RETRY_SECONDS,
            )
            answer = answer_d3_error(Request(scope), stopping)
            answer.headers["Connection"] = "close"
            await answer.to_asgi_response(None, Request(scope))(scope, receive, send)


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
        async with asyncio.timeout(_DRAIN_SECONDS):
            while drained < _DRAINED_BYTES:
                message: Any = await receive()
                drained += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


class HeadMiddleware:
    """Wraps an ASGI application that answers GET.

    Args:
        application: what answers.
    """

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request; for HEAD, send the response's headers only."""
        if scope.get("method") != "HEAD":
            await self._application(scope, receive, send)
            return
        over = False

        async def send_head(message: Message) -> None:
            nonlocal over
            if message["type"] == "http.response.start":
                await send(message)
            elif not over:
                # The response ends here, so that a streaming handler stops.
                over = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        asked: Any = {**scope, "method": "GET"}
        try:
            await self._application(asked, receive, send_head)
        finally:
            if "path_template" in asked:  # the metrics need it
                scope["path_template"] = asked["path_template"]
