"""What webhooks cost those who have none, and how soon they leave beside receivers that hang.

    PYTHONPATH=. python benchmarks/webhooks.py cost|delay [--postgresql] [--silent 1000]

`cost`: results written a second and CPU, as the history's writer writes them, without webhooks,
with none that asks for results, and with one that does; in turns. `delay`: seconds from a commit to
the request at a receiver that answers, alone and beside receivers that take the connection and
never answer. Everything is on this machine. Runs from the repository's root with the test group.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from tests.support.history import an_entry
from tests.support.servers import local_postgresql

from d3.adapters.in_process import SystemClock
from d3.adapters.sql import Database, SqlAccounts, SqlOutbox, SqlWebhooks, upgrade
from d3.adapters.sql.inserts import insert_entries
from d3.adapters.sql.outbox import add_results, record_events
from d3.adapters.sql.rows import row_of
from d3.adapters.web import WebhookReceivers
from d3.domain.history import NewEntry
from d3.domain.services.webhook_delivery import WebhookDelivery
from d3.domain.webhooks import MOST_WEBHOOKS, EventType, NewEvent, NewWebhook

_LAP_SECONDS, _LAPS = 0.3, 21
_EVENTS = 60
_PAUSE = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["cost", "delay"])
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--silent", type=int, default=1000)
    asked = parser.parse_args()
    with database(postgresql=asked.postgresql) as place:
        if asked.part == "cost":
            cost(place)
        else:
            delay(place, asked.silent)


@contextmanager
def database(*, postgresql: bool) -> Iterator[Database]:
    with ExitStack() as stack:
        if postgresql:
            server = stack.enter_context(local_postgresql())
            place: Path | str = stack.enter_context(server.database())
        else:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "d3.db"
        found = Database(place)
        stack.callback(found.close)
        upgrade(found)
        yield found


def cost(place: Database) -> None:
    webhooks = SqlWebhooks(place)
    for batch in (1, 16, 100):
        entries = [an_entry(f"{n}.jpg") for n in range(batch)]

        def without(entries: list[NewEntry] = entries) -> None:
            with place.writing() as connection:
                insert_entries(connection, [row_of(one) for one in entries])

        def written(entries: list[NewEntry] = entries) -> None:
            with place.writing() as connection:
                add_results(connection, entries)

        ways: dict[str, tuple[Callable[[], object], EventType | None]] = {
            "no webhooks at all": (without, None),
            "none": (written, None),
            "one for jobs": (written, EventType.JOB_FINISHED),
            "one for results": (written, EventType.RESULT_CREATED),
        }
        laps: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(_LAPS):
            for name, (write, event) in ways.items():
                made = None
                if event is not None:
                    new = NewWebhook(url="https://a.example/", events=(event,))
                    made = webhooks.add(new, None, datetime.now(UTC)).webhook.id
                laps[name].append(lap(write))
                if made is not None:
                    webhooks.remove(made)
        for name, found in laps.items():
            wall, cpu = (statistics.median(column) for column in zip(*found, strict=True))
            print(
                f"{batch:4} a commit, {name:20} {batch / wall:8,.0f} results/s, "
                f"{1e6 * cpu / batch:7.1f} microseconds of this process's CPU each"
            )


def lap(write: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and seconds of CPU, that writing once takes."""
    begun, used, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begun < _LAP_SECONDS:
        write()
        count += 1
    return (time.perf_counter() - begun) / count, (time.process_time() - used) / count


class Receivers:
    """One that answers and one that never does, on an event loop of their own."""

    def __init__(self) -> None:
        self.arrived: dict[str, float] = {}
        self.held = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self.ports: dict[str, int] = {}
        threading.Thread(target=self._run, daemon=True).start()
        self._ready.wait()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        for name, serve in (("answers", self._answer), ("hangs", self._hang)):
            started = asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
            server = self._loop.run_until_complete(started)
            self.ports[name] = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                headers = dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
                body = await reader.readexactly(int(headers["content-length"]))
                self.arrived.setdefault(body.decode(), time.monotonic())
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                await writer.drain()

    async def _hang(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del writer
        self.held += 1
        with suppress(ConnectionError):
            while await reader.read(65536):
                pass
        self.held -= 1


def delay(place: Database, silent: int) -> None:
    receivers, clock = Receivers(), SystemClock()
    webhooks, accounts = SqlWebhooks(place), SqlAccounts(place)
    asked = partial(NewWebhook, events=(EventType.JOB_FINISHED,), everyone=True)
    webhooks.add(asked(url=f"http://127.0.0.1:{receivers.ports['answers']}/"), None, clock.now())
    sender = partial(WebhookReceivers, 15, "0", ["127.0.0.0/8"])
    delivery = WebhookDelivery(SqlOutbox(place), sender, clock, 15)
    stopping = threading.Event()
    thread = threading.Thread(target=delivery.run, args=[stopping])
    thread.start()
    try:
        show("alone", tell(place, receivers), receivers)
        for n in range(silent):
            if n % MOST_WEBHOOKS == 0:
                user = accounts.add_user(f"user{n}", None, clock.now()).id
            url = f"http://127.0.0.1:{receivers.ports['hangs']}/{n}"
            webhooks.add(asked(url=url), user, clock.now())
        for _ in range(3):
            show(f"beside {silent:,} that hang", tell(place, receivers), receivers)
        new = webhooks.add(
            asked(url=f"http://127.0.0.1:{receivers.ports['answers']}/new"), None, clock.now()
        )
        begun = time.monotonic()
        tell(place, receivers, 1)
        while webhooks.get(new.webhook.id).answered_at is None and time.monotonic() < begun + 120:
            time.sleep(0.1)
        print(f"a new receiver beside them: {time.monotonic() - begun:.1f} s to its first event")
    finally:
        stopping.set()
        delivery.wake()
        thread.join()


def tell(place: Database, receivers: Receivers, events: int = _EVENTS) -> list[float]:
    """Seconds from the commit of each event until it arrived."""
    committed: dict[str, float] = {}
    for n in range(events):
        name = f"{time.monotonic()}-{n}"
        event = NewEvent(type=EventType.JOB_FINISHED, data={"id": name}, at=datetime.now(UTC))
        with place.writing() as connection:
            record_events(connection, [event])
        committed[f'{{"id":"{name}"}}'] = time.monotonic()
        time.sleep(_PAUSE)
    deadline = time.monotonic() + 60
    found: dict[str, float] = {}
    while len(found) < events and time.monotonic() < deadline:
        time.sleep(0.1)
        found = {
            name: at - committed[name]
            for body, at in list(receivers.arrived.items())
            for name in [body[body.index('"data":') + 7 : -1]]
            if name in committed
        }
    return sorted(found.values()) + [float("inf")] * (events - len(found))


def show(name: str, delays: list[float], receivers: Receivers) -> None:
    middle, high = delays[len(delays) // 2], delays[int(0.95 * len(delays))]
    print(
        f"{name:25} p50 {middle:.3f} s, p95 {high:.3f} s, max {delays[-1]:.3f} s "
        f"({receivers.held} connections held)",
        flush=True,
    )


if __name__ == "__main__":
    main()
