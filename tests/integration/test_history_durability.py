"""What was acknowledged is there after the worst; commits are shared on real databases too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from d3.adapters.in_process import SystemClock
from d3.adapters.sql import Database, SqlHistory
from d3.adapters.sql.tables import RequestLogRow, User
from d3.domain.errors import CommitInDoubt, EntryRefused, StorageUnavailable
from d3.domain.history import HistoryFilter, RequestRecord
from d3.domain.idempotency import Completion, IdempotencyKey, StoredAnswer
from d3.domain.services.history_writer import HistoryWriter
from d3.domain.services.request_log_writer import RequestLogWriter
from tests.support.history import NOON, an_entry

ALL = HistoryFilter()
SOURCE = Path(__file__).parents[2] / "src"
WRITE_FOREVER = """
import sys, threading
from datetime import UTC, datetime
from d3.adapters.sql import Database, SqlHistory
from d3.adapters.in_process import SystemClock
from d3.domain.history import NewEntry
from d3.domain.scoring import Verdict
from d3.domain.services.history_writer import HistoryWriter

writer = HistoryWriter(SqlHistory(Database(sys.argv[1])), SystemClock())
saying = threading.Lock()

def work(name):
    for n in range(10**6):
        (id_,) = writer.submit([NewEntry(
            image_name=f"{name}-{n}", prediction=0.5, is_fake=False, confidence=0.0, threshold=0.5,
            processing_time=0.1, created_at=datetime.now(UTC), verdict=Verdict.REAL)]).result()
        with saying:
            print(f"{id_} {name}-{n}", flush=True)

for name in "abcdefgh":
    threading.Thread(target=work, args=(name,), daemon=True).start()
threading.Event().wait()
"""


@pytest.fixture
def history(database: Database) -> SqlHistory:
    return SqlHistory(database)


@pytest.fixture
def writer(history):
    writer = HistoryWriter(history, SystemClock())
    yield writer
    writer.close()


def test_a_killed_process_loses_no_acknowledged_entry(database, history):
    url = database.url.render_as_string(hide_password=False)
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_FOREVER, url],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    ) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline() for _ in range(200)]
        process.send_signal(signal.SIGKILL)
        acknowledged += process.stdout.readlines()
    for line in acknowledged:
        if line.endswith("\n"):  # the last may be cut short
            id_, name = line.split()
            assert history.get(int(id_)).image_name == name
    if database.is_sqlite:
        with database.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    assert history.add_many([an_entry()])


def test_what_waits_shares_commits_and_statements(database, writer):
    commits, inserts = [], []
    event.listen(database.engine, "commit", commits.append)

    def notice(connection, cursor, statement, *_):
        if statement.startswith("INSERT"):
            inserts.append(statement)

    event.listen(database.engine, "before_cursor_execute", notice)
    with database.writing():  # so that everything below gathers
        futures = [writer.submit([an_entry(str(n))]) for n in range(100)]
        if not database.is_sqlite:
            futures[0].result(10)
    ids = [future.result(30)[0] for future in futures]
    assert len(set(ids)) == 100
    assert len(commits) <= 10
    assert len(inserts) <= 10


def test_a_batch_is_one_statement(database, history):
    inserts = []

    def notice(connection, cursor, statement, *_):
        inserts.append(statement)

    event.listen(database.engine, "before_cursor_execute", notice)
    history.add_many([an_entry(str(n)) for n in range(32)])
    assert len([one for one in inserts if one.startswith("INSERT")]) == 1


def test_an_account_that_is_gone_fails_its_own_entry_alone(history, writer):
    futures = [writer.submit([an_entry(user_id=999 if n == 3 else None)]) for n in range(10)]
    assert isinstance(futures[3].exception(30), EntryRefused)
    assert all(future.result(30) for n, future in enumerate(futures) if n != 3)
    assert history.page(ALL, 1).total == 9


def test_a_removed_account_leaves_its_entries(database, history):
    with database.writing() as connection:
        user = connection.scalar(
            sa.insert(User)
            .values(username="ada", created_at=NOON, is_active=True)
            .returning(User.id)
        )
    (id_,) = history.add_many([an_entry(user_id=user)])
    with database.writing() as connection:
        connection.execute(sa.delete(User))
    assert history.get(id_).user_id is None


def test_the_answer_holds_the_ids_that_were_committed_with_it(history, writer):
    key = IdempotencyKey(0, "key", "hash")
    held = writer.reserve(key).result(30)
    answer = Completion(held, lambda ids: repr(list(ids)).encode())
    ids = writer.submit([an_entry(), an_entry()], answer).result(30)
    assert writer.reserve(key).result(30) == StoredAnswer(repr(ids).encode())


def test_the_request_log_is_written(database, history):
    record = RequestRecord(
        endpoint="/x" * 300, method="GET", status_code=200, response_time=0.5, created_at=NOON
    )
    log = RequestLogWriter(history, SystemClock())
    log.log(record)
    log.close()
    with database.reading() as connection:
        row = connection.execute(sa.select(RequestLogRow.__table__)).one()
    assert (row.status_code, row.created_at, len(row.endpoint)) == (200, NOON, 255)


def test_readers_do_not_wait_for_the_writer(database, history):
    history.add_many([an_entry()])
    with history.transaction() as transaction:
        transaction.add_many([an_entry()])
        assert history.page(ALL, 10).total == 1
    assert history.page(ALL, 10).total == 2


def test_two_processes_may_write_the_same_file(sqlite_database):
    from d3.adapters.sql import upgrade

    upgrade(sqlite_database)
    other = Database(Path(sqlite_database.url.database))
    writers = [HistoryWriter(SqlHistory(one), SystemClock()) for one in (sqlite_database, other)]
    futures = [writers[n % 2].submit([an_entry()]) for n in range(400)]
    assert len({future.result(30)[0] for future in futures}) == 400
    for writer in writers:
        writer.close()
    other.close()


def test_a_killed_backend_costs_no_request(postgresql_server, postgresql_database):
    from d3.adapters.sql import upgrade

    upgrade(postgresql_database)
    history = SqlHistory(postgresql_database)
    writer = HistoryWriter(history, SystemClock())
    kill = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{postgresql_database.url.database}'"
    )
    for _ in range(5):
        writer.submit([an_entry()]).result(30)
        postgresql_server.execute(kill)
    assert history.page(ALL, 1).total == 5
    with pytest.raises(StorageUnavailable), history.transaction() as transaction:  # noqa: PT012
        transaction.add_many([an_entry()])
        postgresql_server.execute(kill)
        transaction.add_many([an_entry()])
    with pytest.raises(CommitInDoubt), history.transaction() as transaction:  # noqa: PT012
        transaction.add_many([an_entry()])
        postgresql_server.execute(kill)
    assert history.page(ALL, 1).total == 5
    writer.close()
