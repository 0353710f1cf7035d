"""How results of threads reach the event loop: one wake for what comes together."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from d3.domain.completing import afterwards, together
from d3.entrypoints.http.waiting import Mailbox


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts how often another thread woke it."""

    wakes = 0

    def call_soon_threadsafe(self, callback: Any, *args: Any, **kwargs: Any) -> asyncio.Handle:
        self.wakes += 1
        return super().call_soon_threadsafe(callback, *args, **kwargs)


def test_a_batch_wakes_the_loop_once() -> None:
    loop = CountingLoop()
    mailbox = Mailbox(loop)
    sources: list[Future[int]] = [Future() for _ in range(64)]

    def finish() -> None:
        with together():
            for number, source in enumerate(sources):
                source.set_result(number)

    async def wait() -> list[int]:
        targets = [mailbox.wait(source) for source in sources]
        with ThreadPoolExecutor(1) as pool:
            pool.submit(finish)
        return await asyncio.gather(*targets)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        assert runner.run(wait()) == list(range(64))
    assert loop.wakes == 1


def test_errors_and_cancellations_arrive_as_such_both_ways() -> None:
    async def wait() -> None:
        mailbox = Mailbox(asyncio.get_running_loop())
        failing, cancelled, left = Future[int](), Future[int](), Future[int]()
        targets = [mailbox.wait(source) for source in (failing, cancelled, left)]
        failing.set_exception(ValueError("no"))
        cancelled.cancel()
        targets[2].cancel()
        with pytest.raises(ValueError, match="no"):
            await targets[0]
        with pytest.raises(asyncio.CancelledError):
            await targets[1]
        await asyncio.sleep(0)
        assert left.cancelled()

    asyncio.run(wait())


def test_what_comes_after_the_loop_has_closed_wakes_nobody() -> None:
    source: Future[int] = Future()

    async def leave() -> None:
        Mailbox(asyncio.get_running_loop()).wait(source)

    asyncio.run(leave())
    source.set_result(1)


def test_actions_are_put_off_until_the_outermost_group_ends() -> None:
    done: list[str] = []

    def act() -> None:
        done.append("acted")

    with together():
        with together():
            afterwards(act)
        afterwards(act)
        assert done == []
    assert done == ["acted"]
    afterwards(act)
    assert done == ["acted", "acted"]
