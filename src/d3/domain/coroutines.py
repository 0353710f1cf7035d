"""Coroutines over concurrent futures: work of several steps, written in the order it happens.

``start`` begins a coroutine and gives its future; ``await finished(future)`` waits for a step. No
thread waits: the coroutine goes on, on whichever thread finishes the step. So the same code serves
an event loop, which awaits the future, and a script, which asks for its result.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from concurrent.futures import CancelledError, Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Steps = Coroutine[Future[Any], None, T]


class finished(Generic[T]):  # noqa: N801  reads as a word: await finished(future)
    """Waits for a step's future; gives its result or raises its error."""

    __slots__ = ("_future",)

    def __init__(self, future: Future[T]) -> None:
        self._future = future

    def __await__(self) -> Generator[Future[Any], None, T]:
        """Hand the future to the task, which goes on when it is done."""
        if not self._future.done():
            yield self._future
        return self._future.result()


class Task(Future[T]):
    """A coroutine's result. Cancelling it cancels the step it waits for and raises there."""

    def __init__(self, steps: Steps[T]) -> None:
        super().__init__()
        self._steps = steps
        self._step: Future[Any] | None = None
        self._go_on(None)

    def cancel(self) -> bool:
        """Stop at the step that is waited for; it is spared too, unless it has begun."""
        if not super().cancel():
            return False
        step = self._step
        if step is not None:
            step.cancel()
        return True

    def _go_on(self, _: Future[Any] | None) -> None:
        self._step = None
        try:
            if self.cancelled():
                step = self._steps.throw(CancelledError())
            else:
                step = self._steps.send(None)
        except StopIteration as stop:
            if self.set_running_or_notify_cancel():
                self.set_result(stop.value)
        except CancelledError:
            self.cancel()
            self.set_running_or_notify_cancel()
        except BaseException as error:  # noqa: BLE001  the future carries it to whoever waits
            if self.set_running_or_notify_cancel():
                self.set_exception(error)
        else:
            self._step = step
            step.add_done_callback(self._go_on)
            if self.cancelled():  # between two steps: there was none to cancel then
                step.cancel()


def start(steps: Steps[T]) -> Future[T]:
    """Begin a coroutine, on this thread up to its first wait.

    Args:
        steps: an ``async def`` that awaits :class:`finished` and other such coroutines only.
    """
    return Task(steps)
