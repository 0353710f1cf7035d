"""Working through shards: what the workers of scans and of jobs have in common.

A ledger gives each shard to one worker at a time, by a lease. The worker keeps a pipeline full with
the images of its shards, stores the outcomes now and then, and finishes each shard whose images are
through. The shard of a worker that died goes to the next one.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from d3.domain.errors import D3Error
from d3.domain.ports.clock import Clock
from d3.domain.ports.tracing import NULL_TRACER, Attributes, Tracer

_LOG = logging.getLogger(__name__)
LEASE = timedelta(seconds=30)
RENEWAL_SECONDS = LEASE.total_seconds() / 5
PAUSE = 0.2
"""Seconds between two looks for something to do."""

_FLUSH_ROWS = 512
_FLUSH_SECONDS = 1.0

K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")


def new_owner() -> str:
    """A unique name for a worker of this process, to hold leases by."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def dead_among(owners: Iterable[str]) -> list[str]:
    """Those that were processes of this machine, and have ended."""
    return [one for one in owners if _is_dead(one)]


def _is_dead(owner: str) -> bool:
    machine, process, _ = owner.rsplit(":", 2)
    if machine != socket.gethostname():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


class Judging(Protocol):
    """What a worker needs of its pipeline."""

    @property
    def room(self) -> bool:
        """Whether another image may be put in."""
        ...

    @property
    def in_flight(self) -> int:
        """Images whose outcomes were not taken yet."""
        ...

    def take(self, seconds: float) -> Sequence[tuple[Any, Any, Any]]:
        """The outcomes within this time: key, item and outcome."""
        ...

    def close(self) -> None:
        """Cancel what has not begun."""
        ...


@dataclass(slots=True, kw_only=True)
class Held(Generic[R]):
    """A claimed shard.

    Attributes:
        left: items without an outcome.
        isolated: whether its images are decoded in child processes, as one may be dangerous.
        rows: outcomes that are not stored yet.
        begun: when it was claimed, on the monotonic clock.
        items: how many were left to judge then.
    """

    left: int
    isolated: bool
    rows: list[R] = field(default_factory=list)
    begun: float = 0.0
    items: int = 0


H = TypeVar("H", bound=Held[Any])


class ShardWorker(ABC, Generic[K, T, H]):
    """Claims shards, has their items judged, stores the outcomes.

    Args:
        pipeline: judges the images; the worker closes it.
        clock: tells the time.
        name: of its threads.
        tracer: takes a span for each shard.
    """

    def __init__(
        self, pipeline: Judging, clock: Clock, name: str, tracer: Tracer = NULL_TRACER
    ) -> None:
        self._pipeline = pipeline
        self._clock = clock
        self._name = name
        self._tracer = tracer
        self._owner = new_owner()
        self._held: dict[K, H] = {}
        self._waiting: deque[tuple[K, T]] = deque()
        self._claimed = -PAUSE
        self._flushed = 0.0
        self._more = threading.Event()
        self._stop = threading.Event()

    @abstractmethod
    def _claim(self) -> tuple[K, H, Iterable[T]] | None:
        """A shard and its items that are to be judged; None if there is none at the moment."""

    @abstractmethod
    def _put(self, key: K, held: H, item: T) -> bool:
        """Put an item into the pipeline; whether there was room for it."""

    @abstractmethod
    def _keep(self, key: K, held: H, item: T, outcome: Any) -> None:
        """Take an item's outcome."""

    @abstractmethod
    def _store(self, key: K, held: H) -> None:
        """Store the outcomes of a shard that were not stored yet."""

    @abstractmethod
    def _finish(self, key: K, held: H) -> None:
        """Store that a shard is through."""

    @abstractmethod
    def _renew(self, until: datetime) -> None:
        """Extend the leases."""

    @property
    def _monotonic(self) -> float:
        return self._clock.monotonic()

    def _step(self) -> None:
        """Keep the pipeline full, take what it gives, store it now and then."""
        while self._pipeline.room and (found := self._next()) is not None:
            key, item = found
            if not self._put(key, self._held[key], item):
                self._waiting.appendleft((key, item))
                break
        if self._pipeline.in_flight:
            for key, item, outcome in self._pipeline.take(PAUSE):
                held = self._held[key]
                held.left -= 1
                self._keep(key, held, item, outcome)
        else:
            self._more.wait(PAUSE)
            self._more.clear()
        rows = sum(len(held.rows) for held in self._held.values())
        if rows >= _FLUSH_ROWS or self._monotonic - self._flushed >= _FLUSH_SECONDS:
            self._flush()
        for key in [key for key, held in self._held.items() if not held.left]:
            held = self._held[key]
            self._finish(key, held)
            del self._held[key]
            about: Attributes = {"d3.shard": str(key), "d3.shard.items": held.items}
            name = f"{self._name.replace('-', '.')}.shard"
            self._tracer.record(name, held.begun, self._monotonic, None, about)

    def _next(self) -> tuple[K, T] | None:
        """The next item to judge; None if there is none at the moment."""
        while not self._waiting:
            if self._monotonic - self._claimed < PAUSE:
                return None
            claimed = self._claim()
            if claimed is None:
                self._claimed = self._monotonic
                return None
            key, held, items = claimed
            held.begun, held.items = self._monotonic, held.left
            self._held[key] = held
            self._waiting.extend((key, item) for item in items)
        return self._waiting.popleft()

    def _drop(self, key: K) -> None:
        """Judge nothing more of a shard but what is in the pipeline already."""
        others = deque(one for one in self._waiting if one[0] != key)
        self._held[key].left -= len(self._waiting) - len(others)
        self._waiting = others

    def _flush(self) -> None:
        for key, held in self._held.items():
            if held.rows:
                self._store(key, held)
        self._flushed = self._monotonic

    @contextmanager
    def _renewing(self) -> Iterator[None]:
        """Renew the leases, however long the worker's own thread is busy."""
        thread = threading.Thread(target=self._keep_renewing, name=f"{self._name}-lease")
        thread.daemon = True
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _keep_renewing(self) -> None:
        while not self._stop.wait(RENEWAL_SECONDS):
            try:
                self._renew(self._clock.now() + LEASE)
            except D3Error as error:
                _LOG.debug("leases could not be renewed: %s", error)
