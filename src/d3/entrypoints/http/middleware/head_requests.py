"""HEAD on every route with GET: the same response without its body."""

from __future__ import annotations

from typing import Any

from litestar.types import ASGIApp, Message, Receive, Send


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
