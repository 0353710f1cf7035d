"""A database is filled, upgraded, recognised and refused as it should be."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from d3.adapters.sql import (
    Database,
    SchemaState,
    SqlHistory,
    SqlScanLedger,
    current,
    head,
    make_ready,
    schema,
    state,
    upgrade,
)
from d3.adapters.sql.tables import Base
from d3.domain.errors import SchemaMismatch, SettingsInvalid
from d3.domain.history import HistoryFilter

SEARCH = ("name_search", "ix_inference_results_search")


def run(database: Database, *statements: str) -> None:
    with database.writing() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def test_from_nothing_to_head(empty_database):
    assert state(empty_database) is SchemaState.EMPTY
    assert current(empty_database) is None
    assert upgrade(empty_database) == head()
    assert state(empty_database) is SchemaState.AT_HEAD
    assert current(empty_database) == head()
    assert upgrade(empty_database) == head()


def test_a_migration_has_the_number_that_its_file_begins_with() -> None:
    scripts = ScriptDirectory(str(schema._MIGRATIONS)).walk_revisions()
    numbers = [one.revision for one in scripts][::-1]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
    assert numbers == schema._revisions()


def test_the_migrations_make_the_tables_that_the_code_declares(database):
    with database.reading() as connection:
        options = {
            "version_table": schema.VERSION_TABLE,
            "compare_type": True,
            "compare_server_default": True,
            # Each database has its own; the tests of searching see to them.
            "include_name": lambda name, *_: not str(name).startswith(SEARCH),
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []


def test_every_constraint_and_index_is_named_as_declared(database):
    with database.reading() as connection:
        there = sa.inspect(connection)
        for table in Base.metadata.sorted_tables:
            indexes = {
                index["name"]: index["column_names"] for index in there.get_indexes(table.name)
            }
            for index in table.indexes:
                assert indexes[index.name] == [column.name for column in index.columns]
            # SQLite numbers by itself only where the key stands unnamed beside its column.
            assert there.get_pk_constraint(table.name)["name"] in {f"pk_{table.name}", None}
            declared = {str(one.name) for one in table.constraints}
            found = {one["name"] for one in there.get_foreign_keys(table.name)}
            found |= {one["name"] for one in there.get_check_constraints(table.name)}
            assert found <= declared


def test_a_failed_migration_leaves_nothing(empty_database, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(command, "upgrade", _upgrade_then(fail, command.upgrade))
    with pytest.raises(ZeroDivisionError):
        upgrade(empty_database)
    assert state(empty_database) is SchemaState.EMPTY


def _upgrade_then(fail, upgrade_):
    def both(*arguments: object) -> None:
        upgrade_(*arguments)
        fail()

    return both


def test_several_processes_may_start_at_once(empty_database):
    gate = threading.Barrier(4)

    def start() -> str | None:
        gate.wait()
        make_ready(empty_database)
        return current(empty_database)

    with ThreadPoolExecutor(4) as pool:
        assert {one.result() for one in [pool.submit(start) for _ in range(4)]} == {head()}


def test_a_newer_database_is_refused(database):
    run(database, f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'")
    assert state(database) is SchemaState.AHEAD
    for attempt in (upgrade, make_ready):
        with pytest.raises(SchemaMismatch, match="newer D3"):
            attempt(database)


def test_foreign_tables_of_our_names_are_refused(empty_database):
    run(empty_database, "CREATE TABLE users (id INTEGER PRIMARY KEY)")
    assert state(empty_database) is SchemaState.FOREIGN
    for attempt in (upgrade, make_ready):
        with pytest.raises(SchemaMismatch, match="were not created by D3"):
            attempt(empty_database)


def test_other_applications_in_the_same_database_are_left_alone(empty_database):
    run(
        empty_database,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)",
        "INSERT INTO alembic_version VALUES ('theirs')",
        "CREATE TABLE albums (id INTEGER PRIMARY KEY)",
    )
    assert state(empty_database) is SchemaState.EMPTY
    make_ready(empty_database)
    with empty_database.reading() as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == "theirs"


def test_a_server_that_is_behind_is_refused_and_a_file_upgraded(empty_database, monkeypatch):
    upgrade(empty_database)
    states = [SchemaState.BEHIND]
    monkeypatch.setattr(
        schema, "state", lambda database: states.pop() if states else state(database)
    )
    if empty_database.is_sqlite:
        make_ready(empty_database)
    else:
        with pytest.raises(SchemaMismatch, match="d3 db upgrade"):
            make_ready(empty_database)


def test_a_folder_with_any_name_will_do(tmp_path):
    for name in ("100%", "a b", "what?", "hash#", "日本", "a:b", "q=1&x"):
        database = Database(tmp_path / name / "deep" / "d3.db")
        make_ready(database)
        assert (tmp_path / name / "deep" / "d3.db").is_file()
        database.close()


def test_sqlite_is_set_up_to_lose_nothing(sqlite_database):
    with sqlite_database.reading() as connection:
        for pragma, value in (
            ("journal_mode", "wal"),
            ("synchronous", 2),
            ("foreign_keys", 1),
            ("busy_timeout", 10000),
        ):
            assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://u:secret@h/d", "sqlite://", "sqlite:///:memory:", "http://x"]
)
def test_other_addresses_are_refused_without_telling_them(url):
    with pytest.raises(SettingsInvalid, match=r"D3_DATABASE_URL|mysql|http") as refusal:
        Database(url)
    assert "secret" not in str(refusal.value)


def test_the_original_spellings_of_a_server_work():
    for scheme in ("postgres", "postgresql", "postgresql+psycopg2", "postgresql+psycopg"):
        database = Database(f"{scheme}://user:secret@host/name")
        assert database.url.drivername == "postgresql+psycopg"
        assert "secret" not in database.name
        database.close()


def test_a_url_may_name_a_file(tmp_path: Path):
    database = Database(f"sqlite:///{tmp_path}/x.db")
    make_ready(database)
    assert (tmp_path / "x.db").is_file()
    database.close()


STARTER_SAID = "The starter model is for trying the software, not for judging real photographs."


def test_rows_from_before_notices_are_told_by_their_model(empty_database):
    upgrade(empty_database, "0005")
    row = (
        "INSERT INTO inference_results (image_name, prediction, is_fake, confidence, threshold, "
        "processing_time, created_at, verdict, logit, views, spread, model_name, model_version, "
        "model_sha256, engine, precision, calibration_name, calibration_scale, calibration_bias, "
        "abstain_below, abstain_above, cached, d3_version) VALUES ('a.png', 0.75, {yes}, 0.5, 0.5, "
        "0.1, '2026-01-01 00:00:00.000000+00:00', '{verdict}', 1.0, 1, 0.0, '{model}', 1, '{sha}', "
        "'torch', 'fp32', 'none', 1.0, 0.0, 0.0, 0.0, {no}, '0.1.0')"
    )
    scan = (
        "INSERT INTO scans (name, source, model_name, model_version, model_sha256, threshold, "
        "views, by_service, state, created_at, listed, shards) VALUES ('{model}', '/x', '{model}', "
        "1, '{sha}', 0.5, 1, {no}, 'done', '2026-01-01 00:00:00.000000+00:00', {yes}, 0)"
    )
    said = {"yes": "true", "no": "false", "sha": "b" * 64}
    rows = [("starter", "fake"), ("mine", "fake"), ("starter", "uncertain")]
    run(
        empty_database,
        *(row.format(model=model, verdict=verdict, **said) for model, verdict in rows),
        *(scan.format(model=model, **said) for model in ("starter", "mine")),
    )
    assert upgrade(empty_database) == head()
    history = SqlHistory(empty_database)
    kept = sorted(history.iterate(HistoryFilter()), key=lambda one: one.id)
    assert [one.notice for one in kept] == [STARTER_SAID, "", STARTER_SAID]
    assert [one.reason for one in kept] == [None, None, None]
    reported = history.statistics(HistoryFilter())
    assert (reported.by_verdict.fake, reported.by_verdict.uncertain, reported.demo) == (2, 1, 2)
    ledger = SqlScanLedger(empty_database)
    assert ledger.get("starter").notice == STARTER_SAID
    assert ledger.get("mine").notice == ""
