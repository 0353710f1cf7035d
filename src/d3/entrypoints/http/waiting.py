"""How a request waits for what threads do: woken once a batch, not longer than anybody waits."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import Future
from typing import Any, TypeVar

from litestar import Request, Response

from d3.domain.completing import afterwards
from d3.domain.errors import DeadlineExceeded

_T = TypeVar("_T")
_SOON = 0.025
CLIENT_CLOSED_REQUEST = 499


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


class Mailbox:
    """Brings the results of threads to an event loop: one wake for all that came together.

    Args:
        loop: the one that is woken.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._arrived: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._awake = False

    def wait(self, source: Future[_T]) -> asyncio.Future[_T]:
        """The same to await; cancelling it cancels the source."""
        target: asyncio.Future[_T] = self.loop.create_future()

        def arrived(_: Future[_T]) -> None:
            self._arrived.append((target, source))
            afterwards(self._wake)

        def cancel(_: asyncio.Future[_T]) -> None:
            if target.cancelled():
                source.cancel()

        source.add_done_callback(arrived)
        target.add_done_callback(cancel)
        return target

    def _wake(self) -> None:
        if not self._awake and not self.loop.is_closed():
            self._awake = True
            self.loop.call_soon_threadsafe(self._open)

    def _open(self) -> None:
        self._awake = False  # before looking: what arrives from now on wakes again
        while self._arrived:
            target, source = self._arrived.popleft()
            if target.done():
                continue
            if source.cancelled():
                target.cancel()
            elif (error := source.exception()) is not None:
                target.set_exception(error)
            else:
                target.set_result(source.result())


async def wait_unless_disconnected(
    request: Request[Any, Any, Any], waiting: asyncio.Future[_T], until: float
) -> _T:
    """Wait for it as long as the client does, whose body must have come.

    Args:
        request: whose client may leave.
        waiting: is cancelled where nobody waits for it.
        until: on the monotonic clock, when the time a request has is over.

    Raises:
        ClientLeft: the client did not wait.
        DeadlineExceeded: the time is over.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle
    leaving: asyncio.Task[None] | None = None
    reason: BaseException | None = None

    def release(why: BaseException) -> None:
        nonlocal reason
        reason = why
        waiting.cancel()

    def left(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            release(task.exception() or ClientLeft())

    def watch() -> None:
        nonlocal leaving, timer
        leaving = loop.create_task(_left(request))
        leaving.add_done_callback(left)
        timer = loop.call_later(
            until - time.monotonic(),
            release,
            DeadlineExceeded(
                "The image could not be judged within the time a request has.",
                "Try again in a moment.",
            ),
        )

    # Most answers come soon: watching the connection is for those that do not.
    timer = loop.call_later(_SOON, watch)
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


async def _left(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def answer_nobody(_: Request[Any, Any, Any], __: ClientLeft) -> Response[bytes]:
    """What nobody reads; the status is for the log."""
    return Response(b"", status_code=CLIENT_CLOSED_REQUEST)
