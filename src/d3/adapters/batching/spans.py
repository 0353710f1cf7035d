"""The spans of a queue: how long an image waited, and the pass that scored it."""

from __future__ import annotations

from collections.abc import Iterable

from d3.adapters.batching.backlog import Batch, Submission
from d3.domain.errors import DeadlineExceeded
from d3.domain.ports.tracing import Attributes, TraceContext, Tracer


def trace_pass(tracer: Tracer, one: Batch, began: float, seconds: float, device: str) -> None:
    """Record a pass that is over.

    A pass serves several requests, and each has its span. That of the first links to all other
    requests, and each of the others links to the first one's span: from any, all can be found.
    """
    entries = [part.entry for part in one.parts if part.entry.trace is not None]
    places = [entry.trace for entry in entries if entry.trace is not None]
    about: Attributes = {
        "d3.batch.images": one.images,
        "d3.batch.views": one.views,
        "d3.device": device,
    }
    first: TraceContext | None = None
    for entry in entries:
        lane = {"d3.lane": entry.lane.value}
        tracer.record("d3.queue", entry.since, began, entry.trace, lane)
        links = places[1:] if entry is entries[0] else [first] if first is not None else []
        place = tracer.record("d3.forward", began, began + seconds, entry.trace, about, links=links)
        first = first or place


def trace_late(tracer: Tracer, entries: Iterable[Submission], now: float) -> None:
    """Record submissions whose time was over before their turn came."""
    for entry in entries:
        if entry.trace is not None:
            lane, error = {"d3.lane": entry.lane.value}, DeadlineExceeded.code
            tracer.record("d3.queue", entry.since, now, entry.trace, lane, error=error)


def trace_lost(tracer: Tracer, entry: Submission, error: BaseException, now: float) -> None:
    """Record a submission on whose image the detector failed."""
    if entry.trace is not None:
        code = getattr(error, "code", type(error).__name__)
        tracer.record("d3.forward", entry.since, now, entry.trace, error=code)
