"""A database that the original prototype made is taken over with all its rows, or left alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from d3.adapters.sql import (
    Database,
    SchemaState,
    SqlAccounts,
    SqlHistory,
    SqlSchema,
    adoption,
    head,
    make_ready,
    state,
    upgrade,
)
from d3.domain.accounts import ADOPTED_SCOPES, Principal
from d3.domain.errors import KeyInvalid, SchemaMismatch, UserDisabled
from d3.domain.history import HistoryFilter, RequestRecord
from d3.domain.labels import Label, NewLabel
from d3.domain.scoring import Verdict
from tests.prototype import PLAIN_KEY, make_prototype
from tests.support.history import an_entry

NOON = datetime(2025, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)


@pytest.fixture
def prototype(empty_database: Database) -> Database:
    make_prototype(empty_database)
    return empty_database


def run(database: Database, *statements: str) -> None:
    with database.writing() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def rows(database: Database, table: str) -> list[tuple[object, ...]]:
    with database.reading() as connection:
        found = connection.execute(sa.text(f"SELECT * FROM {table} ORDER BY id"))
        return [tuple(row) for row in found]


def run_plainly(database: Database, *statements: str) -> None:
    """As the prototype would: its SQLite checks no references."""
    database.close()
    plain = sa.create_engine(database.url, poolclass=sa.NullPool)
    with plain.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    plain.dispose()


def everything(database: Database) -> dict[str, object]:
    with database.reading() as connection:
        there = sa.inspect(connection)
        names = sorted(there.get_table_names())
        shape = {name: str(there.get_columns(name)) for name in names}
        indexes = {name: {one["name"] for one in there.get_indexes(name)} for name in names}
    return {"shape": shape, "indexes": indexes, "rows": {n: rows(database, n) for n in names}}


def test_the_prototypes_database_is_recognised(prototype):
    assert state(prototype) is SchemaState.PROTOTYPE


def test_a_service_adopts_nothing_by_itself(prototype):
    before = everything(prototype)
    with pytest.raises(SchemaMismatch, match="d3 db upgrade"):
        make_ready(prototype)
    assert everything(prototype) == before
    assert state(prototype) is SchemaState.PROTOTYPE


def test_an_upgrade_adopts_it(prototype):
    assert upgrade(prototype) == head()
    assert state(prototype) is SchemaState.AT_HEAD
    assert upgrade(prototype) == head()
    make_ready(prototype)
    with prototype.reading() as connection:
        assert not [n for n in sa.inspect(connection).get_table_names() if "prototype" in n]


def test_the_history_is_kept_with_its_ids(prototype):
    upgrade(prototype)
    history = SqlHistory(prototype)
    assert [entry.id for entry in history.page(HistoryFilter(), 10).entries] == [3, 2, 1]
    entry = history.get(1)
    assert (entry.image_name, entry.prediction, entry.is_fake) == ("1.jpg", 0.75, True)
    assert (entry.confidence, entry.threshold, entry.processing_time) == (0.5, 0.5, 0.125)
    assert (entry.verdict, entry.user_id) == (Verdict.FAKE, 1)
    assert history.get(2).verdict is Verdict.REAL
    assert (entry.logit, entry.image_sha256, entry.model, entry.request_id) == (
        None,
        None,
        None,
        None,
    )
    assert entry.d3_version == "prototype"
    reported = history.statistics(HistoryFilter())
    assert (reported.total_inferences, reported.total_fake) == (3, 2)
    assert history.page(HistoryFilter(contains="1.JPG"), 9).total == 1
    history.label([NewLabel(result_id=1, label=Label.REAL)], entry.created_at)
    assert history.get(1).label is Label.REAL


def test_naive_times_are_utc(prototype):
    upgrade(prototype)
    assert SqlHistory(prototype).get(1).created_at == NOON
    assert SqlAccounts(prototype).user("ada").created_at == NOON
    found = SqlHistory(prototype).page(HistoryFilter(since=NOON), 10)
    assert found.total == 3


def test_users_are_kept_with_their_ids(prototype):
    upgrade(prototype)
    reported = [(u.id, u.username, u.email, u.is_active) for u in SqlAccounts(prototype).users()]
    assert reported == [
        (1, "ada", "ada@example.org", True),
        (2, "grace", "grace@example.org", True),
        (5, "alan", "alan@example.org", False),
        (6, "joan", "joan@example.org", True),
    ]


def test_a_plain_key_still_opens_the_door(prototype):
    upgrade(prototype)
    accounts = SqlAccounts(prototype)
    (key,) = accounts.keys(1)
    reported = accounts.authenticate(PLAIN_KEY, datetime.now(UTC))
    assert reported == Principal(1, key.key_id, ADOPTED_SCOPES)
    with pytest.raises(UserDisabled):
        accounts.authenticate("another plain key", datetime.now(UTC))
    for wrong in ("", PLAIN_KEY.upper(), PLAIN_KEY[:-1]):
        with pytest.raises(KeyInvalid):
            accounts.authenticate(wrong, datetime.now(UTC))
    assert len(accounts.keys()) == 2


def test_no_plain_key_is_left(prototype):
    upgrade(prototype)
    with prototype.reading() as connection:
        there = sa.inspect(connection)
        assert "api_key" not in {column["name"] for column in there.get_columns("users")}
        for table in there.get_table_names():
            kept = connection.execute(sa.text(f"SELECT * FROM {table}")).all()
            assert PLAIN_KEY not in str(kept)


def test_no_plain_key_is_left_in_the_file(sqlite_database):
    make_prototype(sqlite_database)
    file = Path(sqlite_database.url.database)
    assert PLAIN_KEY.encode() in file.read_bytes()
    upgrade(sqlite_database)
    for one in file.parent.glob("d3.db*"):
        assert PLAIN_KEY.encode() not in one.read_bytes(), one


def test_the_request_log_is_kept(prototype):
    upgrade(prototype)
    (log,) = rows(prototype, "request_logs")
    assert log[:6] == (7, "/api/inference/predict", "POST", 200, "192.0.2.1", 0.25)


def test_new_rows_go_on_counting(prototype):
    upgrade(prototype)
    assert SqlHistory(prototype).add_many([an_entry()]) == [4]
    assert SqlAccounts(prototype).add_user("new", None, NOON).id == 7
    with SqlHistory(prototype).transaction() as transaction:
        transaction.log_many(
            [
                RequestRecord(
                    endpoint="/", method="GET", status_code=200, response_time=0, created_at=NOON
                )
            ]
        )
    assert [row[0] for row in rows(prototype, "request_logs")] == [7, 8]


def test_an_id_of_a_deleted_row_is_not_given_again(postgresql_database):
    make_prototype(postgresql_database)
    run(postgresql_database, "DELETE FROM inference_results WHERE id = 3")
    upgrade(postgresql_database)
    assert SqlHistory(postgresql_database).add_many([an_entry()]) == [4]


def test_a_prototype_that_was_never_used_is_adopted_too(empty_database):
    make_prototype(empty_database)
    run(
        empty_database,
        *(f"DELETE FROM {table}" for table in ("inference_results", "users", "request_logs")),
    )
    upgrade(empty_database)
    assert SqlHistory(empty_database).add_many([an_entry()])


def test_what_the_prototype_left_out_is_filled_plainly(prototype):
    run(
        prototype,
        "UPDATE inference_results SET confidence = NULL, threshold = NULL, processing_time = NULL,"
        " created_at = NULL WHERE id = 1",
        "UPDATE request_logs SET endpoint = NULL, method = NULL, status_code = NULL,"
        " response_time = NULL, ip_address = NULL",
    )
    upgrade(prototype)
    entry = SqlHistory(prototype).get(1)
    assert (entry.confidence, entry.threshold, entry.processing_time) == (0.5, 0.5, 0.0)
    assert entry.created_at == datetime(1970, 1, 1, tzinfo=UTC)


def test_two_users_with_one_key_are_the_first_as_ever(sqlite_database):
    make_prototype(sqlite_database)
    run_plainly(
        sqlite_database,
        "CREATE TABLE copied AS SELECT * FROM users",
        "DROP TABLE users",
        "CREATE TABLE users (id INTEGER PRIMARY KEY, username VARCHAR(80), email VARCHAR(120),"
        " api_key VARCHAR(255), created_at DATETIME, is_active BOOLEAN)",
        "INSERT INTO users SELECT * FROM copied",
        "UPDATE users SET api_key = 'shared'",
        "DROP TABLE copied",
    )
    upgrade(sqlite_database)
    assert SqlAccounts(sqlite_database).authenticate("shared", NOON).user_id == 1


@pytest.mark.parametrize(
    "text",
    ["2025-03-01 12:00:00", "2025-03-01T12:00:00", "2025-03-01 13:00:00+01:00", "2025-03-01 12:00"],
)
def test_times_of_other_forms_are_read_too(sqlite_database, text):
    make_prototype(sqlite_database)
    run(sqlite_database, f"UPDATE inference_results SET created_at = '{text}'")
    upgrade(sqlite_database)
    assert SqlHistory(sqlite_database).get(1).created_at == NOON.replace(microsecond=0)


def test_a_row_of_nobody_is_kept_without_an_account(sqlite_database):
    make_prototype(sqlite_database)
    run_plainly(sqlite_database, "UPDATE inference_results SET user_id = 99 WHERE id = 1")
    upgrade(sqlite_database)
    assert SqlHistory(sqlite_database).get(1).user_id is None


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE inference_results SET prediction = 1.5 WHERE id >= 2",
        "UPDATE inference_results SET threshold = -1 WHERE id >= 2",
        "UPDATE inference_results SET processing_time = -1 WHERE id >= 2",
    ],
)
def test_rows_that_cannot_be_kept_are_named_and_nothing_changes(prototype, spoil):
    run(prototype, spoil)
    before = everything(prototype)
    with pytest.raises(SchemaMismatch, match=r"inference_results.* 2 of its rows.* id 2"):
        upgrade(prototype)
    assert everything(prototype) == before
    assert state(prototype) is SchemaState.PROTOTYPE


def test_a_time_that_is_none_is_named(sqlite_database):
    make_prototype(sqlite_database)
    run(sqlite_database, "UPDATE request_logs SET created_at = 'yesterday'")
    with pytest.raises(SchemaMismatch, match=r"request_logs.* id 7"):
        upgrade(sqlite_database)


@pytest.mark.parametrize("step", ["_set_aside", "_copy", "_hash_keys", "continue_after"])
def test_a_failure_half_way_leaves_the_prototypes_tables_untouched(prototype, monkeypatch, step):
    done = getattr(adoption, step)
    before = everything(prototype)

    def fail_afterwards(*arguments: object) -> None:
        done(*arguments)
        raise ZeroDivisionError

    monkeypatch.setattr(adoption, step, fail_afterwards)
    with pytest.raises(ZeroDivisionError):
        upgrade(prototype)
    assert everything(prototype) == before
    assert state(prototype) is SchemaState.PROTOTYPE
    monkeypatch.undo()
    assert upgrade(prototype) == head()


def test_several_may_adopt_at_once(prototype):
    gate = threading.Barrier(3)

    def start() -> str:
        gate.wait()
        return upgrade(prototype)

    with ThreadPoolExecutor(3) as pool:
        assert {one.result() for one in [pool.submit(start) for _ in range(3)]} == {head()}
    assert SqlHistory(prototype).page(HistoryFilter(), 10).total == 3


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE users ADD COLUMN shoe_size INTEGER",
        "ALTER TABLE users DROP COLUMN is_active",
        "DROP TABLE request_logs",
        "CREATE TABLE api_keys (id INTEGER)",
    ],
)
def test_tables_that_are_only_like_the_prototypes_are_foreign(prototype, change):
    run(prototype, change)
    assert state(prototype) is SchemaState.FOREIGN
    with pytest.raises(SchemaMismatch, match="were not created by D3"):
        upgrade(prototype)


def test_other_tables_of_the_same_database_stay(prototype):
    run(prototype, "CREATE TABLE albums (id INTEGER PRIMARY KEY)", "INSERT INTO albums VALUES (1)")
    upgrade(prototype)
    assert rows(prototype, "albums") == [(1,)]


def test_a_file_is_copied_before_it_is_adopted_if_asked_for(sqlite_database):
    make_prototype(sqlite_database)
    done = SqlSchema(sqlite_database).upgrade()
    assert done.revision == head()
    assert state(Database(done.backup)) is SchemaState.PROTOTYPE


def test_many_rows_are_adopted(empty_database):
    make_prototype(empty_database, results=5000)
    upgrade(empty_database)
    assert SqlHistory(empty_database).page(HistoryFilter(), 1).total == 5000
    assert SqlHistory(empty_database).add_many([an_entry()]) == [5001]
