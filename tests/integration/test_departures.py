"""What becomes of all that a user had when they are deleted, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from d3.adapters.in_process import SystemClock
from d3.adapters.sql import Database, SqlAccounts, SqlHistory, SqlJobLedger, SqlWebhooks, tables
from d3.domain.accounts import Holdings, NewKey, User
from d3.domain.errors import UserBusy, UserGone, UserNotFound
from d3.domain.history import HistoryFilter, RequestRecord
from d3.domain.idempotency import IdempotencyKey
from d3.domain.jobs import ItemPlace, NewItem, NewJob, NewShard
from d3.domain.labels import NewLabel, label_of
from d3.domain.services.request_log_writer import RequestLogWriter
from d3.domain.webhooks import NewWebhook
from tests.support.history import NOON, an_entry

LATER = NOON + timedelta(hours=1)


@pytest.fixture
def ada(database: Database) -> User:
    """Somebody with a key, a webhook, two results, labels, a kept answer and a job that is over."""
    accounts, history = SqlAccounts(database), SqlHistory(database)
    ada = accounts.add_user("ada", None, NOON)
    other = accounts.add_user("grace", None, NOON)
    accounts.create_key(ada.id, NewKey(), NOON)
    hook = NewWebhook(url="https://example.org/hook", events=("job.finished",))
    SqlWebhooks(database).add(hook, ada.id, NOON)
    owners = (ada.id, ada.id, other.id)
    ids = history.add_many([replace(an_entry(), user_id=one) for one in owners])
    said = [NewLabel(result_id=one, label=label_of("real")) for one in ids[1:]]
    history.label(said, NOON, by=ada.id)
    with history.transaction() as transaction:
        transaction.reserve(IdempotencyKey(ada.id, "again", "hash"), NOON)
        transaction.reserve(IdempotencyKey(other.id, "again", "hash"), NOON)
    begin_job(database, ada)
    SqlJobLedger(database).cancel(f"{ada.id:016x}", NOON)
    return ada


def begin_job(database: Database, user: User, number: int = 0) -> None:
    ledger = SqlJobLedger(database)
    new = NewJob(
        name=f"{number or user.id:016x}",
        created_at=NOON,
        expires_at=NOON + timedelta(days=7),
        user_id=user.id,
    )
    shard = NewShard(number=0, place=ItemPlace.LINK, items=(NewItem(number=1, name="a.png"),))
    ledger.start(ledger.begin(new), new, [shard], NOON)


def owners(database: Database) -> list[int | None]:
    found = SqlHistory(database).page(HistoryFilter(), 10).entries
    return [one.user_id for one in sorted(found, key=lambda one: one.id)]


def rows(database: Database, table: type[tables.Base]) -> int:
    with database.reading() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)


@pytest.mark.parametrize("heir", [None, "grace"])
def test_what_is_kept_belongs_to_nobody_or_an_heir(
    database: Database, ada: User, heir: str | None
) -> None:
    accounts = SqlAccounts(database)
    grace = accounts.user("grace")
    to = None if heir is None else grace.id
    had = accounts.delete_user(ada.id, LATER, keep=True, heir=to)
    assert had == Holdings(results=2, keys=1, webhooks=1, jobs=1)
    assert owners(database) == [to, to, grace.id]
    (job,) = SqlJobLedger(database).newest()
    assert (job.user_id, job.expires_at) == (to, NOON + timedelta(days=7))
    assert rows(database, tables.ApiKey) == 0
    assert rows(database, tables.WebhookRow) == 0
    assert rows(database, tables.IdempotencyRow) == 1
    history = SqlHistory(database)
    last = history.page(HistoryFilter(user_id=grace.id), 10).entries[0]
    (label,) = history.labels(last.id)
    assert (label.label.value, label.user_id) == ("real", None)


def test_what_is_not_kept_is_gone_with_its_labels(database: Database, ada: User) -> None:
    accounts = SqlAccounts(database)
    accounts.delete_user(ada.id, LATER, keep=False)
    assert owners(database) == [accounts.user("grace").id]
    assert rows(database, tables.ResultLabel) == 1
    ledger = SqlJobLedger(database)
    assert [one.name for one in ledger.expired(LATER)] == [f"{ada.id:016x}"]


def test_nothing_is_deleted_while_a_job_goes_on_or_the_heir_is_unknown(
    database: Database, ada: User
) -> None:
    accounts = SqlAccounts(database)
    grace = accounts.user("grace")
    begin_job(database, grace)
    with pytest.raises(UserBusy, match="1 of the jobs of 'grace' is not over"):
        accounts.delete_user(grace.id, LATER, keep=False)
    with pytest.raises(UserNotFound):
        accounts.delete_user(ada.id, LATER, keep=True, heir=77)
    assert owners(database) == [ada.id, ada.id, grace.id]
    assert [one.username for one in accounts.users()] == ["ada", "grace"]


def test_a_result_that_comes_too_late_is_refused(database: Database, ada: User) -> None:
    SqlAccounts(database).delete_user(ada.id, LATER, keep=True)
    history = SqlHistory(database)
    with pytest.raises(UserGone, match="API key is not accepted"):
        history.add_many([replace(an_entry(), user_id=ada.id)])
    with pytest.raises(UserGone):
        begin_job(database, ada, number=77)


def test_the_records_of_requests_that_end_too_late_lose_the_name_alone(
    database: Database, ada: User
) -> None:
    SqlAccounts(database).delete_user(ada.id, LATER, keep=True)
    grace = SqlAccounts(database).user("grace")
    log = RequestLogWriter(SqlHistory(database), SystemClock())
    record = RequestRecord(
        endpoint="/", method="GET", status_code=401, response_time=0.1, created_at=NOON
    )
    for user in (ada.id, grace.id, None, ada.id):
        log.log(replace(record, user_id=user))
    log.close()
    with database.reading() as connection:
        users = connection.scalars(sa.select(tables.RequestLogRow.user_id)).all()
    assert sorted(users, key=str) == [grace.id, None, None, None]
    assert log.dropped == 0
