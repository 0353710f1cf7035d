"""D3 behind a connection pooler, beside a standby, and on databases it cannot use."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from d3.adapters.sql import Database, SqlHistory, SqlSchema, upgrade
from d3.adapters.sql.postgres import Prepared
from d3.domain.errors import SettingsInvalid, StorageFailed, StorageUnavailable
from d3.domain.history import HistoryFilter
from poolers import pgbouncer
from tests.support.history import an_entry
from tests.support.servers import PostgresqlServer


@pytest.fixture
def pooled(postgresql_server: PostgresqlServer) -> Iterator[str]:
    with postgresql_server.database() as url, pgbouncer(url) as pooled:
        yield pooled


def test_two_replicas_share_one_connection_of_a_pooler(pooled: str) -> None:
    """A statement that one of them prepared is unknown, or another one, on the next connection."""
    replicas = [Database(pooled, pool_size=2) for _ in range(2)]
    upgrade(replicas[0])
    histories = [SqlHistory(database) for database in replicas]

    def work(history: SqlHistory) -> None:
        # psycopg prepares what it was given five times since the last rollback.
        ids = [history.add_many([an_entry(f"{number}.jpg")]) for number in range(12)]
        for number, (id_,) in enumerate(ids):
            assert history.get(id_).image_name == f"{number}.jpg"
        assert history.statistics(HistoryFilter(), None).total_inferences

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, histories * 2))
    assert histories[0].page(HistoryFilter(), 1).total == 48
    for database in replicas:
        database.close()


def test_behind_a_pooler_each_transaction_sets_its_own_limits(pooled: str) -> None:
    replicas = {seconds: Database(pooled, statement_seconds=seconds) for seconds in (7, 3)}
    for _ in range(2):
        for seconds, database in replicas.items():
            with database.reading() as connection:
                assert connection.scalar(sa.text("SHOW statement_timeout")) == f"{seconds}s"
                assert connection.scalar(sa.text("SHOW TimeZone")) == "UTC"
    for database in replicas.values():
        database.close()


@pytest.mark.parametrize(("prepared", "there"), [("auto", True), ("on", True), ("off", False)])
def test_without_a_pooler_statements_are_prepared_unless_it_is_turned_off(
    postgresql_server: PostgresqlServer, prepared: Prepared, there: int
) -> None:
    with postgresql_server.database() as url:
        database = Database(url, prepared=prepared, statement_seconds=7)
        with database.reading() as connection:
            for _ in range(8):
                connection.execute(sa.text("SELECT 1"))
            found = connection.scalar(sa.text("SELECT count(*) FROM pg_prepared_statements"))
            assert min(found, 1) == there
            assert connection.scalar(sa.text("SHOW statement_timeout")) == "7s"
        database.close()


def test_a_connection_to_a_server_that_became_read_only_is_left(
    postgresql_server: PostgresqlServer,
) -> None:
    """After a switchover the old primary answers every ping and takes no write."""
    with postgresql_server.database() as url:
        database = Database(url, pool_size=1)
        upgrade(database)
        history = SqlHistory(database)
        with database.reading() as connection:
            connection.exec_driver_sql("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
            connection.commit()
        with pytest.raises(StorageUnavailable, match="read-only"):
            history.add_many([an_entry()])
        assert history.add_many([an_entry()]) == [1]
        database.close()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_in_another_encoding_is_refused(
    postgresql_server: PostgresqlServer, encoding: str
) -> None:
    with postgresql_server.database() as url:
        name = sa.make_url(url).database
        postgresql_server.execute(f"DROP DATABASE {name}")
        postgresql_server.execute(
            f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' "
            "TEMPLATE template0"
        )
        database = Database(url)
        for ask in (SqlSchema(database).upgrade, SqlSchema(database).state):
            with pytest.raises(StorageFailed, match=rf"{encoding}.*UTF8"):
                ask()
        database.close()


@pytest.mark.parametrize("parameter", ["prepare_threshold=0", "autocommit=true", "sslmood=off"])
def test_a_parameter_that_libpq_does_not_know_is_named(parameter: str) -> None:
    with pytest.raises(SettingsInvalid, match=parameter.split("=", maxsplit=1)[0]):
        Database(f"postgresql://u@h/d?{parameter}")


def test_parameters_of_libpq_are_passed_on(postgresql_server: PostgresqlServer) -> None:
    with postgresql_server.database() as url:
        there = sa.make_url(url).update_query_dict({"application_name": "newsroom"})
        database = Database(there.render_as_string(hide_password=False))
        with database.reading() as connection:
            assert connection.scalar(sa.text("SHOW application_name")) == "newsroom"
        database.close()
