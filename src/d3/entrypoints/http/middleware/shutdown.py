"""Requests that are cut off because the service stops: they hear so, and when to come back."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Request
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from d3.domain.errors import ServiceStopping
from d3.entrypoints.http.errors import answer_d3_error

_BACK_SECONDS = 10.0


class StoppedRequests:
    """Wraps an ASGI application.

    A server that stops gives requests a while and then cancels them; without this it would answer
    them itself, with a 500 that says nothing.

    Args:
        application: what answers.
    """

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope | Any, receive: Receive, send: Send) -> None:
        """Answer one request; with 503 where it is cancelled before its answer has begun."""
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
                retry_after=_BACK_SECONDS,
            )
            answer = answer_d3_error(Request(scope), stopping)
            answer.headers["Connection"] = "close"
            await answer.to_asgi_response(None, Request(scope))(scope, receive, send)
