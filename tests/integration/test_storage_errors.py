"""What goes wrong with a database is told in our words, naming the setting and no secret."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from d3.adapters.sql import Database, SqlHistory, make_ready, state, upgrade
from d3.domain.errors import (
    EntryRefused,
    SchemaMismatch,
    StorageFailed,
    StorageUnavailable,
)
from d3.domain.history import HistoryFilter
from tests.support.history import an_entry

SECRET = "hunter2"


def complaint(database: Database) -> StorageFailed:
    with pytest.raises(StorageFailed) as caught:
        state(database)
    database.close()
    assert SECRET not in str(caught.value)
    return caught.value


def test_a_server_that_is_not_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    error = complaint(Database(f"postgresql://d3:{SECRET}@127.0.0.1:{port}/d3"))
    assert isinstance(error, StorageUnavailable)
    assert "POSTGRES_HOST" in str(error)


def test_a_host_that_does_not_exist():
    error = complaint(Database(f"postgresql://d3:{SECRET}@no-such-host.invalid/d3"))
    assert "POSTGRES_HOST" in str(error)


def test_a_server_that_does_not_answer_is_given_up_soon():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        began = time.monotonic()
        url = f"postgresql://d3:{SECRET}@127.0.0.1:{port}/d3"
        error = complaint(Database(url, connect_seconds=2))
    assert isinstance(error, StorageUnavailable)
    assert time.monotonic() - began < 8


def test_a_database_that_is_missing(postgresql_server):
    url = postgresql_server.url.set(database="nowhere").render_as_string(hide_password=False)
    assert "POSTGRES_DB" in str(complaint(Database(url)))


def test_a_user_who_is_not_let_in(postgresql_server):
    url = postgresql_server.url.set(username="stranger", password=SECRET)
    error = complaint(Database(url.render_as_string(hide_password=False)))
    assert "POSTGRES_USER" in str(error)


def test_a_server_without_the_tls_that_is_asked_for():
    def refuse(listening):
        caller, _ = listening.accept()
        with caller:
            caller.recv(8)  # PostgreSQL's SSLRequest
            caller.sendall(b"N")
            caller.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        done = pool.submit(refuse, listening)
        port = listening.getsockname()[1]
        url = f"postgresql://d3:{SECRET}@127.0.0.1:{port}/d3?sslmode=require"
        error = complaint(Database(url))
        done.result(10)
    assert "offers no TLS" in str(error)
    assert "sslmode" in error.remedy


def test_a_user_who_may_not_write(postgresql_server, postgresql_database):
    upgrade(postgresql_database)
    name = f"reader_{postgresql_database.url.database}"
    postgresql_server.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'")
    url = postgresql_database.url.set(username=name, password=SECRET)
    database = Database(url.render_as_string(hide_password=False))
    with pytest.raises(StorageFailed, match="is not allowed"):
        SqlHistory(database).add_many([an_entry()])
    database.close()


def test_a_statement_that_takes_too_long(postgresql_server):
    with postgresql_server.database() as url:
        database = Database(url, statement_seconds=1)
        with pytest.raises(StorageUnavailable, match="too long"), database.reading() as connection:
            connection.execute(sa.text("SELECT pg_sleep(30)"))
        with database.reading() as connection:
            assert connection.scalar(sa.text("SELECT 1")) == 1
        database.close()


def test_no_tables_name_the_command_that_makes_them(empty_database):
    with pytest.raises(SchemaMismatch, match="d3 db upgrade"):
        SqlHistory(empty_database).page(HistoryFilter(), 1)


def test_a_missing_column_is_told_alike_for_reading_and_writing(empty_database):
    make_ready(empty_database)
    with empty_database.writing() as connection:
        connection.execute(sa.text("ALTER TABLE inference_results DROP COLUMN clip"))
    history = SqlHistory(empty_database)
    for work in (lambda: history.add_many([an_entry()]), lambda: history.page(HistoryFilter(), 1)):
        with pytest.raises(SchemaMismatch, match="d3 db upgrade"):
            work()


def test_a_trouble_of_sqlite_that_nobody_knows_names_no_server(sqlite_database):
    with pytest.raises(StorageUnavailable) as caught, sqlite_database.writing() as connection:
        connection.execute(sa.text("SELEKT 1"))
    assert "POSTGRES_HOST" not in str(caught.value)
    assert "D3_HOME" in str(caught.value)


def test_all_connections_in_use_is_told(sqlite_database):
    url = Path(sqlite_database.url.database)
    database = Database(url, pool_size=1, pool_seconds=1)
    with database.reading(), pytest.raises(StorageUnavailable, match="D3_DATABASE_POOL_SIZE"):
        SqlHistory(database).check_writable()
    database.close()


def test_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "d3.db"
    path.write_bytes(b"This is a letter to my aunt. " * 100)
    assert "D3_HOME" in str(complaint(Database(path)))


def test_a_folder_where_the_file_should_be(tmp_path):
    assert "D3_HOME" in str(complaint(Database(tmp_path)))


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "home").write_text("")
    assert "D3_HOME" in str(complaint(Database(tmp_path / "home" / "d3.db")))


def test_a_file_that_somebody_holds(sqlite_database):
    upgrade(sqlite_database)
    history = SqlHistory(sqlite_database)
    other = sqlite3.connect(sqlite_database.url.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with sqlite_database.reading() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 100")
    with pytest.raises(StorageUnavailable, match="busy"):
        history.add_many([an_entry()])
    with sqlite_database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 100
    release = threading.Timer(0.05, other.rollback)
    other.close()
    release.cancel()
    assert history.add_many([an_entry()])


@pytest.mark.parametrize("using", ["fts5(name, tokenize='older')", "fts5_left_out(name)"])
def test_a_sqlite_that_cannot_search(sqlite_database, using):
    with pytest.raises(StorageFailed, match="FTS5"), sqlite_database.writing() as connection:
        connection.execute(sa.text(f"CREATE VIRTUAL TABLE names USING {using}"))


def test_a_full_disk(tmp_path):
    database = Database(tmp_path / "d3.db", pool_size=1)
    make_ready(database)
    with database.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
    history = SqlHistory(database)
    with pytest.raises(StorageFailed, match="no space left"):
        history.add_many([an_entry("n" * 255) for _ in range(500)])
    assert history.page(HistoryFilter(), 1).total == 0
    database.close()


def test_an_entry_cannot_pose_as_another_error(database):
    evil = an_entry("no such table: password authentication failed", user_id=77)
    with pytest.raises(EntryRefused):
        SqlHistory(database).add_many([evil])


def test_a_number_beyond_the_columns_range_is_refused(database):
    with pytest.raises(EntryRefused):
        SqlHistory(database).add_many([an_entry(user_id=2**70)])
