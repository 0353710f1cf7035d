"""CORS: which pages of other origins may call the service.

Every response carries the headers, also a refusal: without them the browser would hide it from the
page, which then could not show why it was refused.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Scope, Send

_ANY = "*"
_METHODS = b"GET, HEAD, POST, DELETE, OPTIONS"
_SECONDS = b"600"
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
        headers.append((b"access-control-max-age", _SECONDS))
        if wanted := asked.get(b"access-control-request-headers"):
            headers.append((b"access-control-allow-headers", wanted))
        return headers
