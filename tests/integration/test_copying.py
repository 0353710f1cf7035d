"""A whole database is copied into an empty one, or nothing of it is."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from d3.adapters.sql import (
    Database,
    SchemaState,
    SqlAccounts,
    SqlCopier,
    SqlHistory,
    SqlJobLedger,
    SqlOutbox,
    SqlScanLedger,
    SqlSchema,
    SqlWebhooks,
    head,
    state,
    upgrade,
)
from d3.adapters.sql.tables import Base, ResultLabel
from d3.domain.accounts import NewKey
from d3.domain.errors import SchemaMismatch, StorageFailed
from d3.domain.history import HistoryFilter, RequestRecord
from d3.domain.idempotency import IdempotencyKey
from d3.domain.jobs import ItemPlace, NewItem, NewJob, NewShard
from d3.domain.labels import Label, NewLabel
from d3.domain.models import ModelReference
from d3.domain.scans import NewScan, ScanRow
from d3.domain.webhooks import Callback, EventType, NewEvent, NewWebhook
from tests.prototype import make_prototype
from tests.support.history import an_entry

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
KINDS = [
    *(("sqlite", "postgresql"), ("postgresql", "sqlite")),
    *(("sqlite", "sqlite"), ("postgresql", "postgresql")),
]


@pytest.fixture(params=KINDS, ids="-to-".join)
def pair(request, tmp_path, postgresql_server):
    source_kind, target_kind = request.param
    with postgresql_server.database() as one, postgresql_server.database() as other:
        source = Database(one if source_kind == "postgresql" else tmp_path / "source.db")
        target = Database(other if target_kind == "postgresql" else tmp_path / "target.db")
        yield source, target
        source.close()
        target.close()


def fill(database: Database, entries: int = 3) -> str:
    """Some of everything; the key that opens the door."""
    upgrade(database)
    accounts = SqlAccounts(database)
    ada = accounts.add_user("ada", None, NOON)
    key = accounts.create_key(ada.id, NewKey("laptop", expires_at=NOON + timedelta(1)), NOON)
    history = SqlHistory(database)
    ids = history.add_many(
        [an_entry(f"日本 {n}.png", user_id=ada.id, created_at=NOON) for n in range(entries)]
    )
    history.add_many([an_entry(logit=None, image=None, model=None, request_id=None)])
    with database.writing() as connection:
        labelled = {"result_id": ids[0], "label": "real", "source": "ada", "note": "日本"}
        connection.execute(sa.insert(ResultLabel), [labelled | {"created_at": NOON}])
    last = history.add_many([an_entry()])
    history.delete(ids[1])
    said = NewLabel(result_id=ids[0], label=Label.REAL, source="ada", note="日本")
    history.label([said], NOON, by=ada.id)
    history.delete(last[0])  # its id was given and may not be given again
    with history.transaction() as transaction:
        transaction.log_many(
            [
                RequestRecord(
                    endpoint="/health",
                    method="GET",
                    status_code=200,
                    response_time=0.5,
                    created_at=NOON,
                    user_id=ada.id,
                )
            ]
        )
        held = transaction.reserve(IdempotencyKey(ada.id, "k", "0" * 64), NOON)
        transaction.complete(held, b"\0\xff answer", ids, NOON)
    fill_scans(database)
    fill_jobs(database)
    fill_webhooks(database)
    return key.key


def fill_scans(database: Database) -> None:
    """A scan with a shard that is held and a row."""
    ledger, until = SqlScanLedger(database), NOON + timedelta(seconds=30)
    model = ModelReference("m", 1, "0" * 64)
    scan = ledger.open(
        NewScan(name="s", source="/x", model=model, threshold=0.5, views=1, created_at=NOON)
    )
    ledger.begin_listing(scan.id, "me", NOON, until)
    ledger.add_shard(scan.id, "me", 0, ["/x/日本.png", "/x/b.png"], "b.png")
    ledger.claim(scan.id, "me", NOON, until)
    row = ScanRow(uri="/x/日本.png", verdict="fake", error=None, prediction=1.0, created_at=NOON)
    ledger.add(scan.id, 0, [row])


def fill_jobs(database: Database) -> None:
    """A job with a shard that is held and an item that is judged."""
    ledger, until = SqlJobLedger(database), NOON + timedelta(seconds=30)
    new = NewJob(name="0" * 16, created_at=NOON, expires_at=until, callback=Callback("x", "y"))
    items = tuple(NewItem(number=n, name="日本.png", source="s3://b/日\0") for n in (1, 2))
    shard = NewShard(number=0, place=ItemPlace.S3, items=items)
    ledger.start(ledger.begin(new), new, [shard], NOON)
    held = ledger.claim("me", {ItemPlace.S3}, [], NOON, until)
    assert held is not None
    ledger.store(held.key, {1: StorageFailed("日本")}, NOON)


def fill_webhooks(database: Database) -> None:
    """An endpoint, an event that it is to be told of, and what was last told of a model."""
    new = NewWebhook(url="https://a.example/日本", events=(EventType.MODEL_CHANGED,))
    SqlWebhooks(database).add(new, None, NOON)
    event = NewEvent(type=EventType.MODEL_CHANGED, data={"name": "日本"}, at=NOON)
    outbox = SqlOutbox(database)
    outbox.move_mark("model", "a", None, NOON)
    outbox.move_mark("model", "b", event, NOON)


def contents(database: Database) -> dict[str, list[tuple[object, ...]]]:
    with database.reading() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(sa.select(table))), key=str)
            for table in Base.metadata.sorted_tables
        }


def tables(database: Database) -> set[str]:
    with database.reading() as connection:
        return set(sa.inspect(connection).get_table_names())


def test_every_row_of_every_table_arrives_as_it_was(pair):
    source, target = pair
    key = fill(source)
    reported = SqlCopier(source, target).copy()
    assert contents(target) == contents(source)
    assert all(rows for rows in contents(target).values())
    assert reported == {name: len(rows) for name, rows in contents(source).items()}
    assert state(target) is SchemaState.AT_HEAD
    assert SqlAccounts(target).authenticate(key, NOON).user_id == 1
    for part, found in (("本 2.PNG", 1), ("本", 2), ("photo", 1), ("本 1.png", 0)):
        assert SqlHistory(target).page(HistoryFilter(contains=part), 9).total == found


def test_ids_go_on_where_the_source_stood(pair):
    source, target = pair
    fill(source)
    SqlCopier(source, target).copy()
    assert SqlHistory(target).add_many([an_entry()]) == SqlHistory(source).add_many([an_entry()])
    added = [SqlAccounts(one).add_user("new", None, NOON).id for one in (source, target)]
    assert added == [2, 2]


def test_an_empty_database_is_copied_too(pair):
    source, target = pair
    upgrade(source)
    assert set(SqlCopier(source, target).copy().values()) == {0}
    assert SqlHistory(target).add_many([an_entry()]) == [1]


def test_a_target_with_our_tables_and_no_rows_will_do(pair):
    source, target = pair
    fill(source)
    upgrade(target)
    SqlCopier(source, target).copy()
    assert contents(target) == contents(source)


def test_a_target_that_is_not_empty_is_refused(pair):
    source, target = pair
    fill(source)
    upgrade(target)
    SqlHistory(target).add_many([an_entry("theirs.png")])
    before = contents(target)
    with pytest.raises(SchemaMismatch, match="not empty"):
        SqlCopier(source, target).copy()
    assert contents(target) == before


def test_a_failure_half_way_leaves_the_target_empty(pair):
    source, target = pair
    fill(source)

    def fail(table: str, done: int, _: int) -> None:
        if table == "inference_results" and done:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        SqlCopier(source, target).copy(fail)
    assert tables(target) == set()
    SqlCopier(source, target).copy()
    assert contents(target) == contents(source)


def test_what_is_written_meanwhile_stays_out(pair):
    source, target = pair
    fill(source)
    before = contents(source)
    late = Database(source.url.render_as_string(hide_password=False))

    def write(table: str, done: int, _: int) -> None:
        if table == "users" and not done:
            user = SqlAccounts(late).add_user("late", None, NOON)
            SqlHistory(late).add_many([an_entry("late.png", user_id=user.id)])

    SqlCopier(source, target).copy(write)
    late.close()
    assert contents(target) == before


def test_a_source_that_is_behind_is_refused(sqlite_database, tmp_path):
    upgrade(sqlite_database, "0001")
    with pytest.raises(SchemaMismatch, match="d3 db upgrade"):
        SqlCopier(sqlite_database, Database(tmp_path / "target.db")).copy()


def test_a_source_or_target_of_the_prototype_is_refused(empty_database, tmp_path):
    make_prototype(empty_database)
    other = Database(tmp_path / "other.db")
    with pytest.raises(SchemaMismatch, match="prototype"):
        SqlCopier(empty_database, other).copy()
    upgrade(other)
    with pytest.raises(SchemaMismatch, match="not empty"):
        SqlCopier(other, empty_database).copy()
    other.close()


def test_a_file_that_is_not_there_is_not_made(tmp_path):
    missing, target = Database(tmp_path / "typo.db"), Database(tmp_path / "target.db")
    with pytest.raises(StorageFailed, match="--from"):
        SqlCopier(missing, target).copy()
    assert list(Path(tmp_path).iterdir()) == []


def test_progress_tells_every_table_to_its_end(sqlite_database, tmp_path):
    fill(sqlite_database, entries=2500)
    reported: dict[str, list[tuple[int, int]]] = {}
    target = Database(tmp_path / "target.db")
    SqlCopier(sqlite_database, target).copy(
        lambda table, done, total: reported.setdefault(table, []).append((done, total))
    )
    target.close()
    assert [done for done, _ in reported["inference_results"]] == [0, 1000, 2000, 2500]
    assert all(steps[-1][0] == steps[-1][1] for steps in reported.values())


@pytest.mark.parametrize(
    "pair",
    # Each kind is read from and written to here; the other two pairs are the same code again.
    [*KINDS[:2], *(pytest.param(one, marks=pytest.mark.full) for one in KINDS[2:])],
    ids="-to-".join,
    indirect=True,
)
def test_memory_does_not_grow_with_the_rows(pair):
    source, target = pair
    upgrade(source)
    history = SqlHistory(source)
    for _ in range(6):
        history.add_many([an_entry("n" * 200, created_at=NOON)] * 1000)
    tracemalloc.start()
    SqlCopier(source, target).copy()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * 2**20, f"{peak / 2**20:.1f} MiB; all 6,000 rows at once take 20"


def test_the_prototypes_history_moves_on_to_a_server(tmp_path, postgresql_database):
    """The way of a prototype that ran on SQLite: adopted, then copied."""
    here = Database(tmp_path / "d3.db")
    make_prototype(here)
    assert SqlSchema(here).upgrade(backup=False).revision == head()
    SqlCopier(here, postgresql_database).copy()
    assert contents(postgresql_database) == contents(here)
    here.close()
