"""The threads that decode: order, shares, and what is spared."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator

import pytest

from d3.domain.ports.queue import Lane
from d3.domain.services.lanes import LanePool

SECONDS = 20


@pytest.fixture
def may_go() -> threading.Event:
    return threading.Event()


@pytest.fixture
def pool(may_go: threading.Event) -> Iterator[LanePool]:
    """One thread, held up until it may go."""
    pool = LanePool(1, 0.25, "test")
    began = threading.Event()

    def hold() -> None:
        began.set()
        may_go.wait(SECONDS)

    pool.submit(hold, Lane.INTERACTIVE)
    assert began.wait(SECONDS)
    yield pool
    may_go.set()
    pool.shutdown()


def test_interactive_goes_first_and_bulk_gets_its_share(
    pool: LanePool, may_go: threading.Event
) -> None:
    order: list[Lane] = []
    for lane in (Lane.BULK, Lane.INTERACTIVE):
        for _ in range(12):
            last = pool.submit(lambda lane=lane: order.append(lane), lane)  # type: ignore[misc]
    may_go.set()
    last.result(SECONDS)
    assert order[:3] == [Lane.INTERACTIVE] * 3
    assert order[:12].count(Lane.BULK) == 3


def test_an_error_reaches_whoever_waits_and_the_thread_goes_on(
    pool: LanePool, may_go: threading.Event
) -> None:
    def fail() -> None:
        raise SystemExit("even this")

    may_go.set()
    assert isinstance(pool.submit(fail, Lane.BULK).exception(SECONDS), SystemExit)
    assert pool.submit(lambda: 7, Lane.BULK).result(SECONDS) == 7


def test_what_was_cancelled_is_not_done_and_kept_no_longer(
    pool: LanePool, may_go: threading.Event
) -> None:
    class Image:
        pass

    done: list[Image] = []
    image: Image | None = Image()
    gone = threading.Event()
    weakref.finalize(image, gone.set)
    future = pool.submit(lambda image=image: done.append(image), Lane.BULK)  # type: ignore[misc]
    image = None
    assert future.cancel()
    assert gone.wait(SECONDS)
    may_go.set()
    pool.submit(lambda: None, Lane.BULK).result(SECONDS)
    assert done == []


def test_shutdown_does_what_waits() -> None:
    pool = LanePool(2, 0.2, "test")
    futures = [pool.submit(lambda n=n: n, Lane.BULK) for n in range(50)]  # type: ignore[misc]
    pool.shutdown()
    assert [one.result(0) for one in futures] == list(range(50))
