"""Waiting for the work of other threads, until the client disconnects or time is up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import Any, TypeVar

from litestar import Request, Response

from d3.domain.errors import DeadlineExceeded

_T = TypeVar("_T")
_GRACE_SECONDS = 0.025
CLIENT_CLOSED_REQUEST = 499


class ClientLeft(Exception):
    """The client disconnected."""


async def wait_unless_disconnected(
    request: Request[Any, Any, Any], work: Awaitable[_T] | Future[_T], until: float
) -> _T:
    """Wait for work as long as the client is connected and there is time.

    Args:
        request: its body must have been received.
        work: cancelled when the client disconnects or time is up.
        until: the end of the request's time, on the monotonic clock.

    Raises:
        ClientLeft: the client disconnected.
        DeadlineExceeded: time is up.
    """
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[_T] = (
        asyncio.wrap_future(work) if isinstance(work, Future) else asyncio.ensure_future(work)
    )
    timer: asyncio.TimerHandle
    leaving: asyncio.Task[None] | None = None
    reason: BaseException | None = None

    def give_up(why: BaseException) -> None:
        nonlocal reason
        reason = why
        waiting.cancel()

    def left(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            give_up(task.exception() or ClientLeft())

    def watch() -> None:
        nonlocal leaving, timer
        leaving = loop.create_task(_wait_for_disconnect(request))
        leaving.add_done_callback(left)
        timer = loop.call_later(
            until - time.monotonic(),
            give_up,
            DeadlineExceeded(
                "The image could not be judged before the request's time limit.",
                "Try again in a moment.",
            ),
        )

    # Most work is done soon. The connection is watched only for work that is not.
    timer = loop.call_later(_GRACE_SECONDS, watch)
    try:
        return await waiting
    except asyncio.CancelledError:
        if reason is None:
            raise
        raise reason from None
    finally:
        timer.cancel()
        if leaving is not None:
            leaving.cancel()
        waiting.cancel()


async def _wait_for_disconnect(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def empty_response(_: Request[Any, Any, Any], __: ClientLeft) -> Response[bytes]:
    """An empty response, for a client that is gone. Its status is for the log."""
    return Response(b"", status_code=CLIENT_CLOSED_REQUEST)
