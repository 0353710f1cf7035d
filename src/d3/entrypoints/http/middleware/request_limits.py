"""Limits on requests in work and on the memory of their bodies.

A request counts as in work only while the service works on it, not while it waits for its client to
send the body or to read the response. So slow clients do not use up the limit. Each body has a
limited time to arrive.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from litestar.types import Message, Receive, Scope, Send

from d3.domain.errors import FormTooSlow, Overloaded
from d3.settings import Settings

_PATIENCE_SECONDS = 20.0
_SLOWEST_BYTES = 1024
"""The slowest rate of a body, in bytes a second, after a first grace period."""
_RETRY_SECONDS = 5.0
_STATE = "limited"


class RequestLimits:
    """Counts requests in work and bytes of bodies. Used on one event loop only.

    Args:
        settings: hold the limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._requests = settings.max_requests
        self._bytes = settings.body_bytes
        self._largest = max(  # an image in JSON is a third larger
            2 * settings.max_image_bytes, settings.max_batch_bytes, settings.max_model_bytes
        )
        self._seconds = settings.upload_seconds
        self.working = 0
        self.body_bytes = 0

    def begin(self, scope: Scope, receive: Receive, send: Send) -> LimitedRequest:
        """Count a request as in work; call ``close()`` on the result when it is done.

        Raises:
            Overloaded: too many requests are in work.
        """
        if self.working >= self._requests:
            raise _too_many()
        return LimitedRequest(self, scope, receive, send)

    @property
    def over_limit(self) -> bool:
        """Whether more requests are in work than allowed."""
        return self.working > self._requests

    def seconds_for(self, size_bytes: int) -> float:
        """The seconds in which so many bytes of a body must have arrived."""
        return min(self._seconds, _PATIENCE_SECONDS + size_bytes / _SLOWEST_BYTES)

    def check_memory(self, held: int, more: int) -> None:
        """Check that a body of ``held`` bytes may grow by ``more``; a single body always may.

        Raises:
            Overloaded: other bodies use too much memory.
        """
        others = self.body_bytes - held
        # A body too large for every route gets 413 from its route, not "try again".
        if others and others + held + more > self._bytes and more <= self._largest:
            raise Overloaded(
                "Other requests are using all the memory for request bodies.",
                "Try again in a moment.",
                retry_after=_RETRY_SECONDS,
            )


class LimitedRequest:
    """One request: whether it is in work, and the bytes and time of its body.

    The application gets its :meth:`receive` and :meth:`send` instead of the server's.
    """

    def __init__(self, limits: RequestLimits, scope: Any, receive: Receive, send: Send) -> None:
        self._limits = limits
        self._receive = receive
        self._send = send
        self._announced = _length_of(scope)
        self._received = self._announced == 0
        self._begun = time.monotonic()
        self._arrived_bytes = 0
        self._held_bytes = 0
        self._streams = False
        self._waits = 0
        scope["state"][_STATE] = self
        limits.working += 1

    def check_body(self) -> None:
        """Check that there is memory for the announced body, before any of it is read.

        Raises:
            Overloaded: there is not.
        """
        if self._announced:
            self._limits.check_memory(0, self._announced)

    def stream(self) -> None:
        """Note that the body is not kept in memory, so that it does not count there."""
        self._streams = True
        self._forget_body()

    async def receive(self) -> Any:
        """The next part of the body; after its end, the client's disconnect.

        Raises:
            FormTooSlow: the body takes too long.
            Overloaded: there is no memory for the body, or too many requests are in work.
        """
        if self._received:
            return await self._receive()
        self._uncount()
        try:
            message: Any = await self._next_piece()
        finally:
            self._count()
        size = len(message.get("body", b""))
        self._arrived_bytes += size
        if not self._streams:
            self._limits.check_memory(self._held_bytes, size)
            self._held_bytes += size
            self._limits.body_bytes += size
        self._received = not message.get("more_body", False)
        if self._received and self._limits.over_limit:
            raise _too_many()
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the response. Meanwhile the request does not count as in work."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._forget_body()
        self._uncount()
        try:
            await self._send(message)
        finally:
            self._count()

    def close(self) -> None:
        """Stop counting the request."""
        self._forget_body()
        self._limits.working -= 1

    async def _next_piece(self) -> Any:
        waited = time.monotonic() - self._begun
        allowed = self._limits.seconds_for(self._arrived_bytes)
        try:
            async with asyncio.timeout(allowed - waited):
                return await self._receive()
        except TimeoutError as error:
            raise FormTooSlow(
                f"Only {self._arrived_bytes:,} bytes of the request's body arrived in "
                f"{allowed:.0f} seconds.",
                "Send less at once, or use a faster connection.",
            ) from error

    def _uncount(self) -> None:
        self._waits += 1
        if self._waits == 1:
            self._limits.working -= 1

    def _count(self) -> None:
        self._waits -= 1
        if not self._waits:
            self._limits.working += 1

    def _forget_body(self) -> None:
        self._limits.body_bytes -= self._held_bytes
        self._held_bytes = 0


def streams_body(scope: Any) -> None:
    """Note that the body of this request is written elsewhere as it arrives."""
    if (limited := scope["state"].get(_STATE)) is not None:
        limited.stream()


def brings_body(scope: Any) -> bool:
    """Whether the request's headers announce a body."""
    return _length_of(scope) != 0


def _length_of(scope: Any) -> int | None:
    """The announced length of the body in bytes; None if it is chunked."""
    length = 0
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length" and value.isdigit():
            length = int(value)
    return length


def _too_many() -> Overloaded:
    return Overloaded("Too many requests are being answered.", "Try again in a moment.")
