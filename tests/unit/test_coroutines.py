"""Coroutines over futures: each step where the last one ended, cancellation, errors."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import pytest

from d3.domain.coroutines import finished, start


def test_the_steps_follow_one_another_on_the_threads_that_finish_them() -> None:
    first, second = Future[int](), Future[int]()
    threads: list[str] = []

    async def steps() -> int:
        one = await finished(first)
        threads.append(threading.current_thread().name)
        return one + await finished(second)

    result = start(steps())
    assert not result.done()
    with ThreadPoolExecutor(1, thread_name_prefix="worker") as pool:
        pool.submit(first.set_result, 1).result()
    second.set_result(2)
    assert result.result(0) == 3
    assert threads == ["worker_0"]


def test_what_is_done_already_is_not_waited_for() -> None:
    async def steps() -> int:
        total = 0
        for number in range(5000):  # far deeper than the stack, were each step a call
            done = Future[int]()
            done.set_result(number)
            total += await finished(done)
        return total

    assert start(steps()).result(0) == sum(range(5000))


def test_an_error_arrives_where_the_step_is_waited_for() -> None:
    step: Future[int] = Future()

    async def steps() -> str:
        try:
            return str(await finished(step))
        except ValueError as error:
            raise KeyError("translated") from error

    result = start(steps())
    step.set_exception(ValueError("no"))
    with pytest.raises(KeyError, match="translated"):
        result.result(0)


def test_cancelling_cancels_the_step_and_cleans_up() -> None:
    step: Future[int] = Future()
    cleaned: list[bool] = []

    async def steps() -> int:
        try:
            return await finished(step)
        finally:
            cleaned.append(True)

    result = start(steps())
    assert result.cancel()
    assert step.cancelled()
    assert cleaned == [True]
    with pytest.raises(CancelledError):
        result.result(0)
    assert not start(steps()).cancel() or cleaned == [True, True]


def test_a_step_that_has_begun_ends_and_nothing_follows_it() -> None:
    step: Future[int] = Future()
    assert step.set_running_or_notify_cancel()
    after: list[int] = []

    async def steps() -> None:
        after.append(await finished(step))

    result = start(steps())
    assert result.cancel()
    step.set_result(1)
    assert after == []
    assert result.cancelled()


def test_coroutines_nest_and_cancellation_reaches_the_innermost() -> None:
    step: Future[int] = Future()

    async def inner() -> int:
        return await finished(step)

    async def outer() -> int:
        return await finished(start(inner()))

    assert start(outer()).cancel()
    assert step.cancelled()


def test_an_event_loop_awaits_it_and_its_cancellation_arrives() -> None:
    step: Future[int] = Future()

    async def steps() -> int:
        return await finished(step)

    async def wait() -> None:
        waiting = asyncio.wrap_future(start(steps()))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.sleep(0)

    asyncio.run(wait())
    assert step.cancelled()


def test_nothing_is_kept_alive_by_a_circle() -> None:
    class Large:
        """Stands for pixels."""

    gc.disable()
    try:
        large = Large()
        seen = weakref.ref(large)
        step: Future[int] = Future()

        async def steps(held: Large) -> int:
            return await finished(step) + bool(held)

        result = start(steps(large))
        del large
        assert seen() is not None
        step.set_result(1)
        assert result.result(0) == 2
        assert seen() is None
    finally:
        gc.enable()
