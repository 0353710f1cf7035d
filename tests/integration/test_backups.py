"""An embedded database is copied whole while it is in use, and always before it is upgraded."""

from __future__ import annotations

import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from d3.adapters.sql import (
    Database,
    SchemaState,
    SqlAccounts,
    SqlHistory,
    SqlSchema,
    backup,
    current,
    head,
    make_ready,
    schema,
    state,
    upgrade,
)
from d3.adapters.sql.rows import row_of
from d3.adapters.sql.types import UtcDateTime
from d3.domain.errors import StorageFailed
from d3.domain.history import HistoryFilter
from tests.support.contracts.accounts import NOON
from tests.support.history import an_entry

EARLIER = tuple(f"{number:04}" for number in range(1, 13))


def old_database(database: Database, revision: str) -> None:
    """As an earlier D3 left it, with rows."""
    upgrade(database, revision)
    with database.writing() as connection:
        for statement in (
            (
                "INSERT INTO users (username, created_at, is_active) "
                "VALUES ('ada', '2026-03-01 12:00:00.000000+00:00', true)"
            ),
            (
                "INSERT INTO api_keys (key_id, user_id, name, secret_sha256, scopes, created_at) "
                "VALUES ('k', 1, 'n', 'h', 'read', '2026-03-01 12:00:00.000000+00:00')"
            ),
        ):
            connection.execute(sa.text(statement))
        there = {one["name"] for one in sa.inspect(connection).get_columns("inference_results")}
        table = sa.table("inference_results", *map(sa.column, there))
        for row in [row_of(an_entry(f"Straße e\u0301 {n}.png", user_id=1)) for n in range(3)]:
            row["created_at"] = sa.literal(row["created_at"], UtcDateTime())
            connection.execute(sa.insert(table).values({k: row[k] for k in row if k in there}))


def backups(database: Database) -> list[Path]:
    file = Path(database.url.database or "")
    return sorted(file.parent.glob(f"{file.name}.before-upgrade*"))


def total(database: Database) -> int:
    """Rows of the history, at any revision."""
    with database.reading() as connection:
        return connection.scalar(sa.text("SELECT count(*) FROM inference_results")) or 0


@pytest.mark.parametrize("revision", EARLIER)
def test_from_every_earlier_revision_the_rows_arrive(empty_database, revision):
    old_database(empty_database, revision)
    assert state(empty_database) is SchemaState.BEHIND
    assert upgrade(empty_database) == head()
    assert total(empty_database) == 3
    (user,) = SqlAccounts(empty_database).users()
    (key,) = SqlAccounts(empty_database).keys(user.id)
    assert (user.created_at, key.key_id) == (NOON, "k")
    for part, found in (("1.PNG", 1), ("straSSe", 3), ("É", 3), ("%", 0)):
        assert SqlHistory(empty_database).page(HistoryFilter(contains=part), 9).total == found


def test_every_earlier_revision_is_tried():
    script = ScriptDirectory(str(schema._MIGRATIONS))
    assert [one.revision for one in script.walk_revisions()][::-1] == [*EARLIER, head()]


def test_a_start_keeps_a_copy_of_what_it_upgrades(sqlite_database):
    old_database(sqlite_database, "0001")
    kept = make_ready(sqlite_database)
    assert current(sqlite_database) == head()
    assert backups(sqlite_database) == [kept]
    copy = Database(kept)
    assert (current(copy), total(copy)) == ("0001", 3)
    copy.close()
    assert make_ready(sqlite_database) is None
    assert len(backups(sqlite_database)) == 1


def test_where_there_are_no_rows_nothing_is_copied(sqlite_database):
    upgrade(sqlite_database, "0001")
    assert make_ready(sqlite_database) is None
    assert backups(sqlite_database) == []


def test_a_new_database_is_not_copied(sqlite_database):
    assert make_ready(sqlite_database) is None
    assert backups(sqlite_database) == []


def test_of_several_that_start_at_once_one_makes_a_copy(sqlite_database):
    old_database(sqlite_database, "0001")
    gate = threading.Barrier(3)

    def start() -> Path | None:
        gate.wait()
        return make_ready(sqlite_database)

    with ThreadPoolExecutor(3) as pool:
        reported = [one.result() for one in [pool.submit(start) for _ in range(3)]]
    assert [kept for kept in reported if kept] == backups(sqlite_database)
    assert len(backups(sqlite_database)) == 1
    assert total(sqlite_database) == 3


def test_without_a_copy_nothing_is_upgraded(sqlite_database, monkeypatch):
    old_database(sqlite_database, "0001")
    nowhere = Path(sqlite_database.url.database) / "no folder"  # below a file
    monkeypatch.setattr(schema, "beside", lambda *_: nowhere)
    with pytest.raises(StorageFailed, match="backup"):
        make_ready(sqlite_database)
    assert current(sqlite_database) == "0001"
    assert total(sqlite_database) == 3


def test_a_server_is_not_copied(postgresql_database, tmp_path):
    old_database(postgresql_database, "0001")
    assert SqlSchema(postgresql_database).upgrade().backup is None
    with pytest.raises(StorageFailed, match="pg_dump"):
        backup(postgresql_database, tmp_path / "copy.db")


def test_a_backup_holds_one_moment_of_a_database_in_use(database_in_use, tmp_path):
    database, stop = database_in_use
    for n in range(5):
        file = tmp_path / f"{n}.db"
        backup(database, file)
        copy = Database(file)
        # Whole transactions of ten, and nothing beside the file is needed to see them.
        assert total(copy) % 10 == 0
        copy.close()
    stop.set()


@pytest.fixture
def database_in_use(sqlite_database):
    upgrade(sqlite_database)
    stop, began = threading.Event(), threading.Event()

    def write() -> None:
        history = SqlHistory(sqlite_database)
        while not stop.is_set():
            history.add_many([an_entry()] * 10)
            began.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert began.wait(30)
    yield sqlite_database, stop
    stop.set()
    writer.join(30)


def test_a_backup_is_one_sound_file_for_its_owner_alone(database_with_rows, tmp_path):
    file = tmp_path / "new" / "copy.db"
    reported: list[tuple[int, int]] = []
    backup(database_with_rows, file, lambda _, done, pages: reported.append((done, pages)))
    assert [one.name for one in file.parent.iterdir()] == ["copy.db"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert reported[-1][0] == reported[-1][1] > 0
    with closing(sqlite3.connect(file)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)


@pytest.fixture
def database_with_rows(sqlite_database):
    upgrade(sqlite_database)
    SqlHistory(sqlite_database).add_many([an_entry()] * 100)
    return sqlite_database


def test_a_backup_replaces_no_file(database_with_rows, tmp_path):
    file = tmp_path / "precious"
    file.write_text("mine")
    with pytest.raises(StorageFailed, match="never replaces a file"):
        backup(database_with_rows, file)
    assert file.read_text() == "mine"


def test_a_backup_that_fails_leaves_no_file(database_with_rows, tmp_path):
    folder = tmp_path / "copies"

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        backup(database_with_rows, folder / "copy.db", fail)
    assert list(folder.iterdir()) == []


def test_a_damaged_database_gives_no_backup(database_with_rows, tmp_path):
    database_with_rows.close()
    source = Path(database_with_rows.url.database)
    content = bytearray(source.read_bytes())
    content[8192:12288] = b"\xff" * 4096
    source.write_bytes(content)
    with pytest.raises(StorageFailed, match="could not be written"):
        backup(database_with_rows, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_database_that_is_not_there_is_not_backed_up(tmp_path):
    with pytest.raises(StorageFailed, match="no database"):
        backup(Database(tmp_path / "typo.db"), tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == []


def test_a_backup_put_back_is_the_database_again(sqlite_database, tmp_path):
    """The way of docs/deploy.md: stop, put the file back without its log, start."""
    upgrade(sqlite_database)
    SqlHistory(sqlite_database).add_many([an_entry()] * 3)
    backup(sqlite_database, tmp_path / "copy.db")
    SqlHistory(sqlite_database).add_many([an_entry()] * 4)
    sqlite_database.close()
    home = Path(sqlite_database.url.database)
    for log in home.parent.glob("d3.db-*"):
        log.unlink()
    (tmp_path / "copy.db").replace(home)
    make_ready(sqlite_database)
    assert total(sqlite_database) == 3
    assert SqlHistory(sqlite_database).add_many([an_entry()]) == [4]


def test_nobody_else_reads_the_database_or_the_files_beside_it(tmp_path):
    file = tmp_path / "home/d3.db"
    database = Database(file)
    SqlSchema(database).make_ready()
    with database.writing() as connection:
        connection.exec_driver_sql("SELECT 1")
        modes = {one.name: one.stat().st_mode & 0o777 for one in file.parent.iterdir()}
    assert modes == {"d3.db": 0o600, "d3.db-wal": 0o600, "d3.db-shm": 0o600}
    database.close()


def test_a_database_that_everybody_could_read_is_closed_to_them(tmp_path):
    file = tmp_path / "d3.db"
    database = Database(file)
    SqlSchema(database).make_ready()
    database.close()
    file.chmod(0o644)
    SqlSchema(Database(file)).make_ready()
    assert file.stat().st_mode & 0o777 == 0o600
