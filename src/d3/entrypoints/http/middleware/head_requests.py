"""HEAD: what GET would answer, without its body, on every route that knows GET."""

from __future__ import annotations

from typing import Any

from litestar.types import ASGIApp, Message, Receive, Send


class HeadAsGet:
    """Wraps an ASGI application that knows GET.

    Args:
        application: what answers.
    """

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request; of the answer to a HEAD only the head leaves."""
        if scope.get("method") != "HEAD":
            await self._application(scope, receive, send)
            return
        over = False

        async def send_head(message: Message) -> None:
            nonlocal over
            if message["type"] == "http.response.start":
                await send(message)
            elif not over:
                # The answer ends here: what streams hears that nobody listens, and stops.
                over = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        asked: Any = {**scope, "method": "GET"}
        try:
            await self._application(asked, receive, send_head)
        finally:
            if "path_template" in asked:  # whoever counts requests looks for it
                scope["path_template"] = asked["path_template"]
