"""Webhooks on both databases and real sockets: what is kept, sent, tried again, and given up."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import sqlalchemy as sa

from d3.adapters.in_process import SystemClock
from d3.adapters.sql import (
    Database,
    SqlAccounts,
    SqlHistory,
    SqlOutbox,
    SqlScanLedger,
    SqlWebhooks,
)
from d3.adapters.sql.outbox import record_events
from d3.adapters.sql.tables import User, WebhookDelivery, WebhookEvent
from d3.adapters.web import WebhookReceivers, check_receiver
from d3.domain.errors import (
    DeliveryNotFound,
    StorageUnavailable,
    UserNotFound,
    WebhookInvalid,
    WebhookLimitReached,
    WebhookNotFound,
)
from d3.domain.models import ModelReference
from d3.domain.ports.webhooks import Outbox, Webhooks, WebhookSender
from d3.domain.scans import NewScan
from d3.domain.scoring import Verdict
from d3.domain.services.webhook_delivery import WebhookDelivery as Courier
from d3.domain.webhooks import (
    MOST_WEBHOOKS,
    Callback,
    Delivery,
    DeliveryState,
    EventType,
    IssuedWebhook,
    NewEvent,
    NewWebhook,
    new_secret,
)
from d3.testing.fakes import FakeClock
from tests.serving import wait_until
from tests.support.history import NOON, a_real_entry, an_entry
from tests.support.receivers import LOOPBACK, Receiver, receiver, status

RESULT = EventType.RESULT_CREATED
DAY = timedelta(days=1)


class Post:
    """What sends, one round at a time, on a clock that stands still."""

    def __init__(self, database: Database, **sender: Any) -> None:
        self.database = database
        self.clock = FakeClock(NOON.timestamp())
        self.webhooks, self.outbox = SqlWebhooks(database), SqlOutbox(database)
        self.history, self.accounts = SqlHistory(database), SqlAccounts(database)
        self.sender: dict[str, Any] = {"seconds": 5.0, "allowed": LOOPBACK} | sender

    def courier(self) -> Courier:
        def make() -> WebhookSender:
            return WebhookReceivers(version="0", **self.sender)

        return Courier(self.outbox, make, self.clock, self.sender["seconds"])

    def round(self, courier: Courier | None = None) -> None:
        """Send what is due, once, and record what became of it."""
        sending = courier or self.courier()

        async def once() -> None:
            async with sending._make_sender() as sender:
                await sending._turn(sender)
                await asyncio.gather(*sending._tasks)
                await sending._end()

        asyncio.run(once())

    def add(
        self, url: str, *events: EventType, user_id: int | None = None, **more: Any
    ) -> IssuedWebhook:
        new = NewWebhook(url=url, events=events or (RESULT,), **more)
        return self.webhooks.add(new, user_id, self.clock.now())

    def tell(self, **more: Any) -> None:
        """Something happens."""
        event = {"type": EventType.JOB_FINISHED, "data": {"id": "j"}, "at": self.clock.now()}
        with self.database.writing() as connection:
            record_events(connection, [NewEvent(**event | more)])

    def deliveries(self, **which: Any) -> list[Delivery]:
        return self.webhooks.deliveries(None, everyone=True, **which)[::-1]

    def count(self, table: Any) -> int:
        with self.database.reading() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


@pytest.fixture
def post(database: Database) -> Post:
    return Post(database)


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@pytest.fixture
def ada(post: Post) -> int:
    return post.accounts.add_user("ada", None, NOON).id


@pytest.fixture
def grace(post: Post) -> int:
    return post.accounts.add_user("grace", None, NOON).id


def data_of(there: Receiver) -> list[Any]:
    return [one.event["data"].get("image_name", one.event["data"]) for one in there.messages]


# ---- what is kept -----------------------------------------------------------------------------


def test_the_adapters_are_the_ports(post: Post) -> None:
    assert isinstance(post.webhooks, Webhooks)
    assert isinstance(post.outbox, Outbox)
    assert isinstance(WebhookReceivers(1, "0"), WebhookSender)


def test_each_endpoint_gets_what_it_asked_for(post: Post, ada: int, grace: int) -> None:
    wanted = {
        "ada's": post.add("https://a.example", user_id=ada),
        "ada's fakes": post.add("https://b.example", user_id=ada, verdicts=(Verdict.FAKE,)),
        "everyone's": post.add("https://c.example", user_id=grace, everyone=True),
        "grace's": post.add("https://d.example", user_id=grace),
        "nobody's": post.add("https://e.example"),
        "ada's jobs": post.add("https://f.example", EventType.JOB_FINISHED, user_id=ada),
    }
    post.history.add_many(
        [an_entry("1", user_id=ada), a_real_entry("2", user_id=ada), an_entry("3"), an_entry("4")]
    )
    names = {one.webhook.id: name for name, one in wanted.items()}
    told = [names[one.webhook_id or 0] for one in post.deliveries()]
    assert sorted(told) == sorted(
        [
            "ada's",
            "ada's fakes",
            "everyone's",
            "ada's",
            "everyone's",
            *["everyone's", "nobody's"] * 2,
        ]
    )
    assert post.count(WebhookEvent) == 4
    post.tell(user_id=ada)
    assert names[post.deliveries()[-1].webhook_id or 0] == "ada's jobs"


def test_events_of_the_service_go_to_all_that_ask(post: Post, ada: int) -> None:
    post.add("https://a.example", EventType.MODEL_CHANGED, user_id=ada)
    post.add("https://b.example", EventType.MODEL_CHANGED)
    post.add("https://c.example", EventType.DRIFT_ALERT)
    post.tell(type=EventType.MODEL_CHANGED)
    assert [one.url for one in post.deliveries()] == ["https://a.example", "https://b.example"]


def test_nothing_is_kept_for_nobody_the_disabled_or_owners_without_access(
    post: Post, ada: int
) -> None:
    post.history.add_many([an_entry()])
    disabled = post.add("https://a.example")
    post.webhooks.enable(disabled.webhook.id, enabled=False)
    post.add("https://b.example", user_id=ada, everyone=True)
    post.accounts.set_active(ada, active=False)
    post.history.add_many([an_entry()])
    assert post.count(WebhookEvent) == post.count(WebhookDelivery) == 0


def test_what_is_undone_is_not_told(post: Post) -> None:
    post.add("https://a.example")
    with suppress(ZeroDivisionError), post.history.transaction() as transaction:
        transaction.add_many([an_entry()])
        raise ZeroDivisionError
    assert post.count(WebhookEvent) == post.count(WebhookDelivery) == 0


def test_a_deleted_result_is_not_told_any_more(post: Post) -> None:
    post.add("https://a.example")
    (first, second) = post.history.add_many([an_entry("1"), an_entry("2")])
    post.history.delete(first)
    assert len(post.deliveries()) == 1
    post.history.forget(NOON + DAY, None)
    assert post.count(WebhookEvent) == post.count(WebhookDelivery) == 0
    assert second > first


def test_what_is_gone_takes_what_waits_with_it(post: Post, ada: int) -> None:
    made = post.add("https://a.example", user_id=ada)
    post.add("https://b.example", user_id=ada)
    post.history.add_many([an_entry(user_id=ada)])
    post.webhooks.remove(made.webhook.id)
    assert [one.url for one in post.deliveries()] == ["https://b.example"]
    with post.database.writing() as connection:
        connection.execute(sa.delete(User).where(User.id == ada))
    assert post.deliveries() == post.webhooks.webhooks(None, everyone=True) == []


def test_a_user_has_so_many_endpoints_and_no_more(post: Post, ada: int) -> None:
    for _ in range(MOST_WEBHOOKS):
        post.add("https://a.example", user_id=ada)
    with pytest.raises(WebhookLimitReached):
        post.add("https://a.example", user_id=ada)
    post.add("https://a.example")  # nobody's are counted by themselves
    assert len(post.webhooks.webhooks(ada)) == MOST_WEBHOOKS
    assert len(post.webhooks.webhooks(None)) == 1
    for id_ in (0, -1, 77, 2**63, 2**70):
        with pytest.raises(UserNotFound):
            post.add("https://a.example", user_id=id_)


def test_what_is_not_there_is_not_found(post: Post) -> None:
    webhooks = post.webhooks
    event = NewEvent(type=EventType.TEST, data={}, at=NOON)
    for id_ in (0, -1, 1, 2**63, 2**70):
        for call in (
            lambda id_=id_: webhooks.get(id_),
            lambda id_=id_: webhooks.remove(id_),
            lambda id_=id_: webhooks.rotate(id_, NOON),
            lambda id_=id_: webhooks.enable(id_, enabled=True),
            lambda id_=id_: webhooks.begin_test(id_, event, "me", NOON),
        ):
            with pytest.raises(WebhookNotFound):
                call()
        for call in (
            lambda id_=id_: webhooks.delivery(id_),
            lambda id_=id_: webhooks.resend(id_, NOON),
        ):
            with pytest.raises(DeliveryNotFound):
                call()


def test_a_secret_is_shown_once_and_in_no_text(post: Post) -> None:
    made = post.add("https://a.example")
    assert made.secret.startswith("whsec_")
    callback = Callback("https://b.example", new_secret())
    post.tell(callback=callback)
    post.history.add_many([an_entry()])
    now = post.clock.now()
    waiting = [(one.name, 9) for one in post.outbox.queues(now)]
    due = post.outbox.exchange([], waiting, "me", now, now + DAY)
    assert {one.secrets for one in due} == {(made.secret,), (callback.secret,)}
    shown = repr((made, callback, due, post.webhooks.webhooks(None), post.deliveries()))
    assert made.secret not in shown
    assert callback.secret not in shown


def test_a_change_says_what_cannot_be() -> None:
    for wrong in (
        {"events": ()},
        {"events": ("job.begun",)},
        {"events": ("webhook.test",)},
        {"verdicts": ("maybe",)},
        {"name": "a\nb"},
        {"name": "a" * 256},
    ):
        with pytest.raises(WebhookInvalid):
            NewWebhook(**{"url": "https://a.example", "events": (RESULT,)} | wrong)  # type: ignore[arg-type]
    twice = NewWebhook(url="https://a.example", events=("result.created", "job.finished", RESULT))  # type: ignore[arg-type]
    assert twice.events == (EventType.JOB_FINISHED, RESULT)


@pytest.mark.parametrize(
    "url",
    [
        *("", "words", "ftp://a.example/", "https://", "//a.example", "https://a.example:22/"),
        *(
            "https://user@a.example",
            "https://user:secret@a.example/x",
            "http://[::1]/",
            "http://:80",
        ),
        *("http://ex ample/", "http://a..example/", "http://-a.example/", "http://a%2fb/"),
        f"http://{'a' * 64}.example/",
        *("http://127.0.0.1/", "http://10.0.0.1:8080/x", "http://169.254.169.254/latest"),
        *("http://[::ffff:127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://0.0.0.0/"),
        "https://a.example/" + "a" * 2000,
    ],
)
def test_an_address_that_nothing_is_sent_to_is_refused(url: str) -> None:
    with pytest.raises(WebhookInvalid) as refused:
        check_receiver(url)
    assert "secret" not in str(refused.value)


def test_an_address_is_kept_as_it_is_asked() -> None:
    assert check_receiver("HTTPS://App.Example/d3?token=1#top") == "https://app.example/d3?token=1"
    assert check_receiver("http://10.0.0.1/x", ["10.0.0.0/8"]) == "http://10.0.0.1/x"
    for name in ("worker-1", "my_host.internal", "a.example.", "xn--ex-wia.example", "[2a00::1]"):
        assert check_receiver(f"http://{name}/") == f"http://{name}/"


def test_a_scan_that_is_done_is_told_once(post: Post) -> None:
    post.add("https://a.example", EventType.SCAN_FINISHED)
    ledger = SqlScanLedger(post.database)
    model = ModelReference("m", 1, "c" * 64)
    scan = ledger.open(
        NewScan(name="s", source="/a\udcff", model=model, threshold=0.5, views=1, created_at=NOON)
    )
    ledger.begin_listing(scan.id, "me", NOON, NOON + DAY)
    ledger.add_shard(scan.id, "me", 0, [], None)
    assert ledger.complete(scan.id, NOON)
    assert ledger.complete(scan.id, NOON)
    (told,) = post.deliveries()
    assert told.type == "scan.finished"
    assert post.count(WebhookEvent) == 1


def test_a_change_is_told_once_by_all_replicas_together(post: Post) -> None:
    post.add("https://a.example", EventType.MODEL_CHANGED)
    event = NewEvent(type=EventType.MODEL_CHANGED, data={}, at=NOON)
    moved = [post.outbox.move_mark("model", "1", event, NOON) for _ in range(2)]
    assert moved == [False, False]  # the first of all is no change
    gate = threading.Barrier(4)
    outcomes: list[bool] = []

    def move() -> None:
        gate.wait()
        outcomes.append(post.outbox.move_mark("model", "2", event, NOON))

    replicas = [threading.Thread(target=move) for _ in range(4)]
    for one in replicas:
        one.start()
    for one in replicas:
        one.join()
    assert sorted(outcomes) == [False, False, False, True]
    assert len(post.deliveries()) == 1


def test_what_cannot_be_sent_raises_no_alarm(post: Post, ada: int) -> None:
    well = post.add("https://a.example", EventType.JOB_FINISHED)
    of_ada = post.add("https://b.example", EventType.JOB_FINISHED, user_id=ada)
    post.tell()
    post.tell(user_id=ada, callback=Callback("https://c.example", new_secret()))
    figures = post.outbox.figures()
    assert (figures.waiting, figures.oldest_due) == (3, NOON)
    post.webhooks.enable(of_ada.webhook.id, enabled=False)
    assert post.outbox.figures().waiting == 2
    post.accounts.set_active(ada, active=False)
    assert post.outbox.figures().waiting == 1
    post.webhooks.enable(well.webhook.id, enabled=False)
    figures = post.outbox.figures()
    assert (figures.waiting, figures.oldest_due) == (0, None)


def test_a_receiver_that_asked_to_be_left_alone_is_not_late(post: Post, there: Receiver) -> None:
    there.answer = status(429, Retry_After="900")
    post.add(there.at(), EventType.JOB_FINISHED)
    post.tell()
    post.tell()
    post.round()
    figures = post.outbox.figures()
    assert (figures.waiting, figures.oldest_due) == (2, NOON + timedelta(minutes=15))


def test_who_asks_for_results_costs_no_round_trip(ready_postgresql: Database) -> None:
    post, seen = Post(ready_postgresql), []

    def notice(*details: Any) -> None:
        seen.append(details[2].split()[0])

    post.history.add_many([an_entry()])
    sa.event.listen(ready_postgresql.engine, "before_cursor_execute", notice)
    post.history.add_many([an_entry(), an_entry()])
    assert seen == ["INSERT"]
    post.add("https://a.example", EventType.JOB_FINISHED)
    seen.clear()
    post.history.add_many([an_entry(), an_entry()])
    assert seen == ["INSERT"]
    assert post.deliveries() == []
    post.add("https://b.example", RESULT)
    post.history.add_many([an_entry()])
    assert [one.url for one in post.deliveries()] == ["https://b.example"]


def test_old_events_are_deleted_and_what_waited_too_long_is_dead(post: Post) -> None:
    made = post.add("https://a.example", EventType.JOB_FINISHED)
    post.tell()
    post.webhooks.enable(made.webhook.id, enabled=False)
    post.clock.advance(DAY.total_seconds() + 1)
    assert post.outbox.purge(NOON, post.clock.now()) == 0
    (delivery,) = post.deliveries()
    assert delivery.state is DeliveryState.DEAD
    assert delivery.trouble
    assert post.outbox.figures().dead == 1
    assert post.outbox.purge(post.clock.now(), post.clock.now()) == 1
    assert post.deliveries() == []


# ---- what is sent -----------------------------------------------------------------------------


def test_what_is_sent_is_signed_and_then_sent(post: Post, there: Receiver) -> None:
    made = post.add(there.at(), EventType.JOB_FINISHED, RESULT)
    post.tell(data={"id": "j\u00f6b \udcff"})
    post.history.add_many([an_entry("a.jpg")])
    assert post.outbox.figures().waiting == 2
    post.round()
    post.round()
    assert [one.verified(made.secret)["type"] for one in there.messages] == [
        "job.finished",
        "result.created",
    ]
    assert [one.state for one in post.deliveries()] == [DeliveryState.SENT] * 2
    assert {one.id for one in there.messages} == {one.event_id for one in post.deliveries()}
    assert {(one.status, one.attempts, one.next_at) for one in post.deliveries()} == {
        (204, 1, None)
    }
    assert post.webhooks.get(made.webhook.id).answered_at == post.clock.now()
    assert post.outbox.figures().waiting == 0
    post.round()
    assert len(there.messages) == 2


def test_a_callback_is_told_beside_the_endpoints_with_its_own_secret(
    post: Post, there: Receiver, ada: int
) -> None:
    made = post.add(there.at("/all"), EventType.JOB_FINISHED, user_id=ada)
    secret = new_secret()
    post.tell(user_id=ada, callback=Callback(there.at("/this"), secret))
    post.round()
    paths = {one.path: one for one in there.messages}
    assert paths["/all"].verified(made.secret) == paths["/this"].verified(secret)
    assert paths["/all"].id == paths["/this"].id
    mine = post.webhooks.deliveries(ada)
    assert {one.webhook_id for one in mine} == {made.webhook.id, None}
    assert post.webhooks.deliveries(None) == []


def test_for_a_day_the_old_secret_signs_too(post: Post, there: Receiver) -> None:
    made = post.add(there.at(), EventType.JOB_FINISHED)
    new = post.webhooks.rotate(made.webhook.id, post.clock.now())
    post.tell()
    post.round()
    for secret in (made.secret, new.secret):
        there.messages[0].verified(secret)
    post.clock.advance(DAY.total_seconds())
    post.tell()
    post.round()
    there.messages[1].verified(new.secret)
    with pytest.raises(Exception, match="No matching signature"):
        there.messages[1].verified(made.secret)


def test_what_fails_is_tried_again_with_the_same_id_until_it_is_taken(
    post: Post, there: Receiver
) -> None:
    there.answer = status(500)
    made = post.add(there.at(), EventType.JOB_FINISHED)
    post.tell()
    pauses = []
    for attempt in range(1, 5):
        post.round()
        post.round()  # not before it is due
        (delivery,) = post.deliveries()
        assert (delivery.attempts, delivery.state) == (attempt, DeliveryState.WAITING)
        assert (delivery.status, delivery.trouble) == (500, "It answered with status 500.")
        assert delivery.next_at is not None
        pauses.append((delivery.next_at - post.clock.now()).total_seconds())
        assert post.webhooks.get(made.webhook.id).failures == attempt
        post.clock.advance(pauses[-1])
    for pause, planned in zip(pauses, (5, 10, 20, 40), strict=True):
        assert 0.8 * planned <= pause <= 1.2 * planned
    there.answer = status(200)
    post.round()
    (delivery,) = post.deliveries()
    assert (delivery.attempts, delivery.state) == (5, DeliveryState.SENT)
    assert len({one.id for one in there.messages}) == 1
    assert post.webhooks.get(made.webhook.id).failures == 0


def test_after_a_day_it_is_dead_and_can_be_sent_again_by_hand(post: Post, there: Receiver) -> None:
    there.answer = status(503)
    post.add(there.at(), EventType.JOB_FINISHED)
    post.tell()
    begun = post.clock.now()
    for _ in range(100):
        post.round()
        (delivery,) = post.deliveries()
        if delivery.next_at is None:
            break
        post.clock.advance((delivery.next_at - post.clock.now()).total_seconds())
    assert delivery.state is DeliveryState.DEAD
    assert timedelta(hours=20) < post.clock.now() - begun < DAY
    assert 15 < delivery.attempts < 30
    assert post.deliveries(state=DeliveryState.DEAD) == [delivery]
    post.clock.advance(120)  # the endpoint is left alone for a while
    post.round()
    assert len(there.messages) == delivery.attempts
    there.answer = status(204)
    assert post.webhooks.resend(delivery.id, post.clock.now()).state is DeliveryState.WAITING
    post.round()
    (again,) = post.deliveries()
    assert again.state is DeliveryState.SENT
    assert len({one.id for one in there.messages}) == 1


@pytest.mark.parametrize("asked", ["900", "date"])
def test_a_receiver_is_left_alone_as_long_as_it_asks(
    post: Post, there: Receiver, asked: str
) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=15))
    value = asked if asked == "900" else date
    there.answer = status(429, Retry_After=value)
    post.add(there.at(), EventType.JOB_FINISHED)
    post.tell()
    post.tell()
    post.round()
    post.clock.advance(800)
    there.answer = status(204)
    post.round()
    assert len(there.messages) == 1
    post.clock.advance(200)
    post.round()
    post.round()
    assert len(there.messages) == 3


def test_a_receiver_that_is_gone_is_asked_no_more(post: Post, there: Receiver) -> None:
    there.answer = status(410)
    made = post.add(there.at(), EventType.JOB_FINISHED)
    post.tell()
    post.tell()
    post.round()
    webhook = post.webhooks.get(made.webhook.id)
    assert not webhook.enabled
    assert webhook.trouble == "It answered with status 410."
    assert [one.state.value for one in post.deliveries()] == ["dead", "waiting"]
    post.clock.advance(3600)
    post.tell()  # is not kept
    post.round()
    assert len(there.messages) == 1
    there.answer = status(204)
    post.webhooks.enable(made.webhook.id, enabled=True)
    post.round()
    assert [one.state.value for one in post.deliveries()] == ["dead", "sent"]


def test_what_waits_for_a_disabled_endpoint_goes_when_it_is_enabled(
    post: Post, there: Receiver, ada: int
) -> None:
    made = post.add(there.at(), EventType.JOB_FINISHED, user_id=ada)
    post.tell(user_id=ada)
    post.webhooks.enable(made.webhook.id, enabled=False)
    post.round()
    post.webhooks.enable(made.webhook.id, enabled=True)
    post.accounts.set_active(ada, active=False)
    post.round()
    assert there.messages == []
    post.accounts.set_active(ada, active=True)
    post.round()
    assert len(there.messages) == 1


def hangs(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(3)


def drips_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(30):
        handler.wfile.write(b"x-a: b\r\n")
        time.sleep(0.1)


def closes(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def nonsense(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"words\r\n\r\n")
    handler.close_connection = True


def endless_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(100):
        handler.wfile.write(b"x-a: " + b"b" * 8192 + b"\r\n")
    handler.close_connection = True


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (hangs, "did not answer within 1 seconds"),
        (drips_headers, "did not answer within 1 seconds"),
        (closes, "closes the connection|as HTTP demands"),
        (nonsense, "as HTTP demands"),
        (endless_headers, "as HTTP demands|closes the connection"),
        (
            status(302, Location="http://127.0.0.1:1/x?token=secret"),
            "redirects to 'http://127.0.0.1:1/x'",
        ),
        (status(404), "status 404"),
        (status(199), "status 199|as HTTP demands|within 1 seconds"),
    ],
)
def test_a_receiver_that_fails_says_why(ready_sqlite: Database, answer: Any, trouble: str) -> None:
    post = Post(ready_sqlite, seconds=1.0)
    with receiver(answer) as there:
        post.add(there.at(), EventType.JOB_FINISHED)
        post.tell()
        post.round()
    (delivery,) = post.deliveries()
    assert delivery.state is DeliveryState.WAITING
    assert delivery.trouble is not None
    assert re.search(trouble, delivery.trouble), delivery.trouble
    assert "secret" not in delivery.trouble


def gigabyte(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(2**30))
    handler.end_headers()
    for _ in range(2**30 // 2**16):
        handler.wfile.write(b"x" * 2**16)


def drips_body(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize("answer", [gigabyte, drips_body])
def test_of_an_answer_little_is_read_and_its_status_counts(
    ready_sqlite: Database, answer: Any
) -> None:
    post = Post(ready_sqlite)
    with receiver(answer) as there:
        post.add(there.at(), EventType.JOB_FINISHED)
        post.tell()
        post.round()
    (delivery,) = post.deliveries()
    assert (delivery.state, delivery.status) == (DeliveryState.SENT, 200)


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["8.8.8.8", "127.0.0.1"],
        ["127.0.0.1", "8.8.8.8"],
        ["::1"],
        ["169.254.169.254"],
    ],
)
def test_a_name_that_leads_inwards_is_not_asked(
    ready_sqlite: Database, addresses: list[str]
) -> None:
    post = Post(ready_sqlite, allowed=(), resolve=lambda *_: addresses)
    with receiver() as there:
        post.add(there.at(host="hooks.example"), EventType.JOB_FINISHED)
        post.tell()
        post.round()
        assert there.messages == []
    (delivery,) = post.deliveries()
    assert delivery.trouble is not None
    assert "was not found, or it has no public address" in delivery.trouble


def test_a_name_that_is_not_found_is_told_as_an_internal_one(ready_sqlite: Database) -> None:
    def resolve(*_: Any) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    post = Post(ready_sqlite, resolve=resolve)
    post.add("http://no.example/", EventType.JOB_FINISHED)
    post.tell()
    post.round()
    (delivery,) = post.deliveries()
    assert delivery.trouble is not None
    assert "was not found, or it has no public address" in delivery.trouble


def test_nothing_that_hangs_holds_up_those_who_answer(ready_sqlite: Database) -> None:
    """Receivers and name servers that do not answer are still waited for when all else is sent."""
    over = threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        if host.startswith("lost"):
            over.wait(20)
        return ["127.0.0.1"]

    post = Post(ready_sqlite, seconds=20.0, resolve=resolve)
    with ExitStack() as stack:
        stack.callback(over.set)
        hanging = stack.enter_context(receiver(lambda _: over.wait(20)))
        well = stack.enter_context(receiver())
        post.add(well.at(), EventType.JOB_FINISHED)
        post.tell()
        post.round()
        for n in range(70):
            user = post.accounts.add_user(f"user{n}", None, NOON).id
            for host in ("hangs.example", "lost.example"):
                post.add(hanging.at(host=host), EventType.JOB_FINISHED, user_id=user, everyone=True)
        for _ in range(3):
            post.tell()
        courier, stopping = post.courier(), threading.Event()
        thread = threading.Thread(target=courier.run, args=[stopping])
        thread.start()
        try:
            hanging.wait(70)
            assert len(well.wait(4)) == 4
            post.tell()
            well.wait(5)
            assert post.outbox.figures().waiting >= 3 * 140
        finally:
            stopping.set()
            courier.wake()
            over.set()
            thread.join()
    assert len({one.path for one in hanging.messages}) == 1
    assert not [one for one in post.deliveries() if one.state is DeliveryState.DEAD]


def test_an_endpoint_has_two_requests_at_once_and_not_more(
    post: Post,
) -> None:
    now, most, lock = 0, 0, threading.Lock()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        status(204)(handler)

    with receiver(answer) as there:
        post.add(there.at(), EventType.JOB_FINISHED)
        post.tell()
        post.round()
        for _ in range(12):
            post.tell()
        couriers = [threading.Thread(target=post.round) for _ in range(2)]
        for one in couriers:
            one.start()
        for one in couriers:
            one.join()
        post.round()
        assert len(there.messages) == 13
    assert most == 2


def test_replicas_share_what_waits_and_send_nothing_twice(database: Database) -> None:
    with receiver() as there, ExitStack() as stack:
        post = Post(database)
        post.clock = SystemClock()  # type: ignore[assignment]
        for n in range(8):
            post.add(there.at(f"/{n}"), EventType.JOB_FINISHED)
        replicas = [post.courier() for _ in range(3)]
        stopping = threading.Event()
        threads = [threading.Thread(target=one.run, args=[stopping]) for one in replicas]
        for one in threads:
            one.start()
        stack.callback(lambda: [one.join() for one in threads])
        stack.callback(stopping.set)
        for _ in range(25):
            post.tell()
        there.wait(200, 60)
        stopping.set()
        for one in threads:
            one.join()
        assert len(there.messages) == 200
        assert len({(one.path, one.id) for one in there.messages}) == 200
    assert {one.state for one in post.deliveries(limit=500)} == {DeliveryState.SENT}


def test_what_was_sent_and_not_recorded_is_sent_again_with_its_id(
    post: Post, there: Receiver
) -> None:
    post.add(there.at(), EventType.JOB_FINISHED)
    post.tell()
    killed = post.courier()

    async def sent_and_killed() -> None:
        async with killed._make_sender() as sender:
            await killed._turn(sender)
            await asyncio.gather(*killed._tasks)

    asyncio.run(sent_and_killed())
    post.round()
    assert len(there.messages) == 1  # it is leased
    post.clock.advance(60)
    post.round()
    assert len(there.messages) == 2
    assert len({one.id for one in there.messages}) == 1
    asyncio.run(killed._end())  # whoever lost the lease has no say any more
    (delivery,) = post.deliveries()
    assert (delivery.state, delivery.attempts) == (DeliveryState.SENT, 1)


def test_who_stops_gives_back_what_was_not_answered(ready_sqlite: Database) -> None:
    post = Post(ready_sqlite, seconds=60.0)
    over = threading.Event()
    with receiver(lambda _: over.wait(30)) as there:
        post.add(there.at(), EventType.JOB_FINISHED)
        post.tell()
        courier, stopping = post.courier(), threading.Event()
        thread = threading.Thread(target=courier.run, args=[stopping])
        thread.start()
        there.wait(1)
        stopping.set()
        courier.wake()
        thread.join(20)
        assert not thread.is_alive()
        over.set()
        there.answer = status(204)
        post.round()
        assert len(there.messages) == 2
        assert len({one.id for one in there.messages}) == 1


def test_what_cannot_be_recorded_at_once_is_recorded_later(
    ready_sqlite: Database, there: Receiver
) -> None:
    post = Post(ready_sqlite)
    post.add(there.at(), EventType.JOB_FINISHED)
    post.tell()

    class Away(SqlOutbox):
        refusals = 0

        def exchange(self, outcomes: Any, *others: Any) -> Any:
            if outcomes and self.refusals < 2:
                self.refusals += 1
                raise StorageUnavailable("The database does not answer.")
            return super().exchange(outcomes, *others)

    post.outbox = Away(ready_sqlite)
    courier, stopping = post.courier(), threading.Event()
    thread = threading.Thread(target=courier.run, args=[stopping])
    thread.start()
    try:
        wait_until(lambda: post.deliveries()[0].state is DeliveryState.SENT)
    finally:
        stopping.set()
        thread.join()
    assert len(there.messages) == 1
    assert post.deliveries()[0].attempts == 1
