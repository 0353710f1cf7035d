"""Traces: which request did what, when, in which process.

A span is one piece of work. It lies in the span that asked for it, wherever that was: the place is
a :class:`TraceContext`, which is handed on like any other value, or is :data:`current` for a while.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, Protocol, Self, TypeAlias

Kind: TypeAlias = Literal["internal", "server", "client"]
Attributes: TypeAlias = Mapping[str, str | int | float | bool]
NOTHING: Attributes = {}

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_TRACE, _SPAN = 16, 8
PACKED_BYTES = _TRACE + _SPAN + 1
NO_TRACE = bytes(PACKED_BYTES)
"""What :meth:`TraceContext.packed` gives for none."""


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a trace: W3C Trace Context.

    Attributes:
        trace_id: 128 bits, not 0.
        span_id: 64 bits, not 0.
        sampled: whether it is recorded.
        state: the header ``tracestate``, for whoever wrote it.
    """

    trace_id: int
    span_id: int
    sampled: bool
    state: str = ""

    @classmethod
    def of(cls, traceparent: str, state: str = "") -> Self | None:
        """The place that the headers name; None if they are not valid."""
        found = _TRACEPARENT.fullmatch(traceparent.strip())
        if found is None:
            return None
        trace_id, span_id, flags = (int(one, 16) for one in found.groups())
        return cls(trace_id, span_id, bool(flags & 1), state) if trace_id and span_id else None

    @property
    def headers(self) -> dict[str, str]:
        """What is sent to another service that is asked."""
        sent = {"traceparent": f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.sampled:02x}"}
        return sent | ({"tracestate": self.state} if self.state else {})

    @property
    def packed(self) -> bytes:
        """The same in 25 bytes, without the state."""
        ids = self.trace_id.to_bytes(_TRACE, "big") + self.span_id.to_bytes(_SPAN, "big")
        return ids + bytes([self.sampled])

    @classmethod
    def unpacked(cls, packed: bytes) -> Self | None:
        """What :attr:`packed` gave; None for :data:`NO_TRACE`."""
        if packed == NO_TRACE:
            return None
        trace_id = int.from_bytes(packed[:_TRACE], "big")
        return cls(trace_id, int.from_bytes(packed[_TRACE:-1], "big"), bool(packed[-1]))


current: ContextVar[TraceContext | None] = ContextVar("d3_trace", default=None)
"""Where the work of this thread or task lies; None while nothing is traced."""


@contextmanager
def within(context: TraceContext | None) -> Iterator[None]:
    """Make this the current place for a while."""
    before = current.set(context)
    try:
        yield
    finally:
        current.reset(before)


def trace_headers() -> list[tuple[str, str]]:
    """What tells another service where its work lies; nothing while nothing is traced."""
    here = current.get()
    return [] if here is None else list(here.headers.items())


class Span(Protocol):
    """Work that has begun. Entered, it is the current place, and ends with the block."""

    @property
    def context(self) -> TraceContext | None:
        """Where what it asks for lies; None if nothing is traced."""
        ...

    def note(
        self, attributes: Attributes, *, name: str | None = None, error: str | None = None
    ) -> None:
        """Add what has become known.

        Args:
            attributes: by their names of OpenTelemetry's conventions, or ``d3.``.
            name: a better one.
            error: the code of what went wrong, if it did.
        """
        ...

    def end(self) -> None:
        """It is over; for one that is not entered."""
        ...

    def __enter__(self) -> Self:
        """Make it the current place."""
        ...

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """End it; an error that passes through is noted."""
        ...


class Tracer(Protocol):
    """Takes spans. Safe to call from many threads; never waits and never raises.

    Attributes:
        enabled: whether anything is taken at all.
    """

    enabled: bool

    def span(self, name: str, kind: Kind = "internal", attributes: Attributes = NOTHING) -> Span:
        """Begin a span in the current place, or in that of the program that D3 is part of."""
        ...

    def request(
        self, name: str, headers: Iterable[tuple[bytes, bytes]], attributes: Attributes
    ) -> Span:
        """Begin the span of a request, in the place that its headers name."""
        ...

    def record(
        self,
        name: str,
        began: float,
        ended: float,
        parent: TraceContext | None,
        attributes: Attributes = NOTHING,
        *,
        links: Iterable[TraceContext] = (),
        error: str | None = None,
    ) -> TraceContext | None:
        """Add a span that is over.

        Args:
            name: of the work.
            began: on the monotonic clock.
            ended: likewise.
            parent: where it lies; None for a trace of its own.
            attributes: of the work.
            links: other places that it was done for too.
            error: the code of what went wrong, if it did.

        Returns:
            Its place; None if it is not recorded.
        """
        ...

    def close(self) -> None:
        """Send what was taken, for a few seconds at most; nothing is taken any more."""
        ...


class NullSpan:
    """Implements ``Span``: nothing."""

    context = None

    def note(self, *_: object, **__: object) -> None:
        pass

    def end(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class NullTracer:
    """Implements ``Tracer``: nothing."""

    enabled = False

    def span(self, *_: object, **__: object) -> Span:
        return NULL_SPAN

    def request(self, *_: object, **__: object) -> Span:
        return NULL_SPAN

    def record(self, *_: object, **__: object) -> TraceContext | None:
        return None

    def close(self) -> None:
        pass


NULL_SPAN = NullSpan()
NULL_TRACER = NullTracer()
