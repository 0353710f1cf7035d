"""Sends what is in the outbox of webhooks: many receivers at once, a few deliveries for each."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import groupby
from operator import attrgetter

from d3.domain.errors import D3Error
from d3.domain.ports.clock import Clock
from d3.domain.ports.tracing import NULL_TRACER, Attributes, Tracer
from d3.domain.ports.webhooks import Outbox, WebhookSender
from d3.domain.services.shards import new_owner
from d3.domain.webhooks import DeliveryState, Due, OutboxFigures, Outcome, Queue, outcome_of

_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.25
_GATHER_SECONDS = 0.05
_FIGURES_SECONDS = 10.0
_END_SECONDS = 3.0
_SPARE_SECONDS = 10.0
_AT_ONCE = 2
_BATCH = 32
_STARTED_AT_ONCE = 64


class WebhookDelivery:
    """Sends deliveries of the outbox, until it is stopped. Any number of replicas may.

    A receiver that answers gets two deliveries at once; one that is new or did not answer last gets
    one, and is left alone for a while after each failure. There is room for many that hang, and
    those that failed last get at most half of it, so that they do not delay others. Results are
    recorded four times a second, so a process that is killed sends few deliveries again, with the
    same ids.

    Args:
        outbox: what is to be sent.
        sender: makes what sends.
        clock: tells the time.
        seconds: that sending one delivery takes at most.
        tracer: takes a span for each attempt.
    """

    def __init__(
        self,
        outbox: Outbox,
        sender: Callable[[], WebhookSender],
        clock: Clock,
        seconds: float,
        tracer: Tracer = NULL_TRACER,
    ) -> None:
        self._tracer = tracer
        self._outbox = outbox
        self._make_sender = sender
        self._clock = clock
        self._seconds = seconds
        self._owner = new_owner()
        self._active: dict[str, bool] = {}
        self._outcomes: list[Outcome] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._hungry = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._figures_due = 0.0
        self._trouble: str | None = None
        self.figures = OutboxFigures()
        self.on_attempt: Callable[[bool], None] = lambda _: None
        """Told after each attempt whether it succeeded."""

    def run(self, stopping: threading.Event) -> None:
        """Run until the event is set; for a thread of its own."""
        asyncio.run(self._run(stopping))

    def wake(self) -> None:
        """Have it see now that it is to stop."""
        if (loop := self._loop) is not None:
            with suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(self._hungry.set)

    async def _run(self, stopping: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        async with self._make_sender() as sender:
            while not stopping.is_set():
                try:
                    await self._turn(sender)
                    self._trouble = None
                except D3Error as error:
                    self._warn_once(f"webhooks wait for the database: {error}")
                except Exception:  # noqa: BLE001  the thread must not die unnoticed
                    _LOG.exception("Sending webhooks failed. D3 will try again.")
                await self._rest()
            await self._end()

    async def _turn(self, sender: WebhookSender) -> None:
        """Record what was sent, and begin to send what is due."""
        now = self._clock.now()
        found = await asyncio.to_thread(self._outbox.queues, now)
        queues = self._chosen(found, sender.places)
        if len(queues) == _STARTED_AT_ONCE:
            self._hungry.set()  # there may be more
        outcomes = list(self._outcomes)
        until = now + timedelta(seconds=2 * self._seconds + _SPARE_SECONDS)
        wanted = [(one.name, _BATCH if one.proven else 1) for one in queues]
        due: Sequence[Due] = ()
        if outcomes or wanted:
            due = await asyncio.to_thread(
                self._outbox.exchange, outcomes, wanted, self._owner, now, until
            )
        del self._outcomes[: len(outcomes)]
        by_name = {one.name: one for one in queues}
        ends = self._clock.monotonic() + self._seconds + _SPARE_SECONDS / 2
        for name, some in groupby(sorted(due, key=attrgetter("queue")), attrgetter("queue")):
            queue = by_name[name]
            self._active[name] = queue.failures > 0
            task = asyncio.create_task(self._serve(sender, queue, deque(some), ends))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._clock.monotonic() >= self._figures_due:
            self._figures_due = self._clock.monotonic() + _FIGURES_SECONDS
            self.figures = await asyncio.to_thread(self._outbox.figures)

    def _chosen(self, queues: Sequence[Queue], places: int) -> list[Queue]:
        """Those to be sent now: those that failed least first, then in order."""
        free = min(places - len(self._active), _STARTED_AT_ONCE)
        for_failing = places // 2 - sum(self._active.values())
        chosen: list[Queue] = []
        for one in sorted(queues, key=attrgetter("failures")):
            failing = one.failures > 0
            if len(chosen) >= free or (failing and for_failing <= 0):
                break
            if one.name not in self._active:
                chosen.append(one)
                for_failing -= failing
        return chosen

    async def _serve(
        self, sender: WebhookSender, queue: Queue, due: deque[Due], ends: float
    ) -> None:
        """Send a receiver's deliveries, until one fails; the rest is given back.

        Args:
            sender: sends.
            queue: the receiver's.
            due: its deliveries, leased.
            ends: none is begun after this, so that the lease is long enough.
        """
        all_of_them, failed = len(due), False

        async def send_some(most: int) -> None:
            nonlocal failed
            while due and most and not failed and self._clock.monotonic() < ends:
                most -= 1
                one = due.popleft()
                about: Attributes = {"d3.delivery": one.id, "d3.event": one.event_id}
                try:
                    with self._tracer.span("d3.webhook", "client", about) as span:
                        answer = await sender.send(one, proven=queue.proven)
                        if answer.status is not None:
                            span.note({"http.response.status_code": answer.status})
                        if answer.trouble is not None:
                            span.note({}, error=str(answer.status or "no_answer"))
                except asyncio.CancelledError:
                    due.append(one)
                    raise
                outcome = outcome_of(one, answer, self._clock.now(), random.random())  # noqa: S311
                self._outcomes.append(outcome)
                self.on_attempt(outcome.state is DeliveryState.SENT)
                failed = failed or answer.trouble is not None
                _log(outcome)

        try:
            await send_some(1)  # alone: one that hangs takes one connection
            await asyncio.gather(*(send_some(_BATCH) for _ in range(_AT_ONCE)))
        finally:
            self._outcomes += [Outcome(due=one) for one in due]
            del self._active[queue.name]
            if all_of_them == _BATCH and not failed:
                self._hungry.set()

    async def _rest(self) -> None:
        """Wait for the next turn, which comes soon while a receiver takes one batch after another.

        Else outcomes and new deliveries wait for each other, so that few transactions are needed.
        """
        try:
            await asyncio.wait_for(self._hungry.wait(), _POLL_SECONDS)
        except TimeoutError:
            return
        await asyncio.sleep(_GATHER_SECONDS)
        self._hungry.clear()

    async def _end(self) -> None:
        """Wait a little for answers, give back what has none, and record it all."""
        tasks = list(self._tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_END_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        now = self._clock.now()
        try:
            await asyncio.to_thread(
                self._outbox.exchange, list(self._outcomes), [], self._owner, now, now
            )
        except D3Error as error:
            _LOG.warning("what was sent could not be recorded, and will be sent again: %s", error)

    def _warn_once(self, trouble: str) -> None:
        if trouble != self._trouble:
            _LOG.warning("%s", trouble)
        self._trouble = trouble


def _log(outcome: Outcome) -> None:
    """Log what somebody should look at; never an address, which may hold a secret."""
    whose = outcome.due.webhook_id
    receiver = "the callback of a job" if whose is None else f"webhook {whose}"
    if outcome.gone:
        _LOG.warning("%s answered with status 410, so it is disabled", receiver)
    elif outcome.state is DeliveryState.DEAD:
        _LOG.warning(
            "delivery %d to %s is given up: %s", outcome.due.id, receiver, outcome.answer.trouble
        )
