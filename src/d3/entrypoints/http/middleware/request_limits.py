"""What all requests share and may use up: places to be worked on at once, and memory for bodies.

A place is held while the service works on a request, never while the request waits for its caller:
for the rest of a body, or to be read. So whoever sends slowly, or does not read, takes nobody's
place; and each body has a time to arrive, whatever route it is for.
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
"""A body comes at this many bytes a second at least, after a while to begin."""
_RETRY_SECONDS = 5.0


class RequestBounds:
    """Bounds of one service; used on its event loop alone.

    Args:
        settings: say how many requests and bytes, and how long a body may take.
    """

    def __init__(self, settings: Settings) -> None:
        self._requests = settings.max_requests
        self._bytes = settings.body_bytes
        self._largest = max(
            settings.max_image_bytes, settings.max_batch_bytes, settings.max_model_bytes
        )
        self._seconds = settings.upload_seconds
        self.working = 0
        self.body_bytes = 0

    def admit(self, scope: Scope, receive: Receive, send: Send) -> BoundedRequest:
        """Give a request its place; close it in the end.

        Raises:
            Overloaded: all places are taken.
        """
        if self.working >= self._requests:
            raise _too_many()
        return BoundedRequest(self, scope, receive, send)

    @property
    def crowded(self) -> bool:
        """Whether more is worked on than may be."""
        return self.working > self._requests

    def seconds_for(self, size_bytes: int) -> float:
        """The time in which so much of a body must have come, for the next piece to be awaited."""
        return min(self._seconds, _PATIENCE_SECONDS + size_bytes / _SLOWEST_BYTES)

    def check_room(self, held: int, more: int) -> None:
        """See that a body that holds so much has room for more; one alone always has.

        Raises:
            Overloaded: other bodies take too much.
        """
        others = self.body_bytes - held
        # A length that no route takes is answered by the route: with 413, not "try again".
        if others and others + held + more > self._bytes and more <= self._largest:
            raise Overloaded(
                "Other requests are using all the memory for request bodies.",
                "Try again in a moment.",
                retry_after=_RETRY_SECONDS,
            )


class BoundedRequest:
    """One request: its place, and its body's bytes and time.

    Give the application :meth:`receive` and :meth:`send` in place of the server's.
    """

    def __init__(self, bounds: RequestBounds, scope: Any, receive: Receive, send: Send) -> None:
        self._bounds = bounds
        self._receive = receive
        self._send = send
        self._announced = _length_of(scope)
        self._whole = self._announced == 0
        self._begun = time.monotonic()
        self._held_bytes = 0
        self._waits = 0
        bounds.working += 1

    def check_body(self) -> None:
        """See, before anything of the body is read, that there is room for all that it announces.

        Raises:
            Overloaded: there is none.
        """
        if self._announced:
            self._bounds.check_room(0, self._announced)

    async def receive(self) -> Any:
        """The next piece of the body, in time; afterwards, whether the caller has left.

        Raises:
            FormTooSlow: the body takes too long.
            Overloaded: it is one too many, now that it could be worked on, or has no room.
        """
        if self._whole:
            return await self._receive()
        self._release_place()
        try:
            message: Any = await self._next_piece()
        finally:
            self._take_place()
        size = len(message.get("body", b""))
        self._bounds.check_room(self._held_bytes, size)
        self._held_bytes += size
        self._bounds.body_bytes += size
        self._whole = not message.get("more_body", False)
        if self._whole and self._bounds.crowded:
            raise _too_many()
        return message

    async def send(self, message: Message) -> None:
        """Hand a piece of the answer on, holding no place until it is taken."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._forget_body()
        self._release_place()
        try:
            await self._send(message)
        finally:
            self._take_place()

    def close(self) -> None:
        """Leave."""
        self._forget_body()
        self._bounds.working -= 1

    async def _next_piece(self) -> Any:
        waited = time.monotonic() - self._begun
        allowed = self._bounds.seconds_for(self._held_bytes)
        try:
            async with asyncio.timeout(allowed - waited):
                return await self._receive()
        except TimeoutError as error:
            raise FormTooSlow(
                f"Only {self._held_bytes:,} bytes of the request's body arrived in {allowed:.0f} "
                "seconds.",
                "Send less at once, or use a faster connection.",
            ) from error

    def _release_place(self) -> None:
        self._waits += 1
        if self._waits == 1:
            self._bounds.working -= 1

    def _take_place(self) -> None:
        self._waits -= 1
        if not self._waits:
            self._bounds.working += 1

    def _forget_body(self) -> None:
        self._bounds.body_bytes -= self._held_bytes
        self._held_bytes = 0


def brings_body(scope: Any) -> bool:
    """Whether a request's head announces a body."""
    return _length_of(scope) != 0


def _length_of(scope: Any) -> int | None:
    """Bytes of the body as announced; None where only its end will tell."""
    length = 0
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length" and value.isdigit():
            length = int(value)
    return length


def _too_many() -> Overloaded:
    return Overloaded("Too many requests are being answered.", "Try again in a moment.")
