"""Every history keeps the contract: in memory, in SQLite, and in a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d3.adapters.sql import Database, SqlHistory
from d3.adapters.sql.tables import User
from d3.domain.history import BucketSize, HistoryFilter
from d3.domain.ports.history import History
from tests.support.history import HistoryContract, a_real_entry, an_entry
from tests.support.labels import LabelsContract
from tests.support.memory.history import MemoryHistory


class TestMemoryHistory(HistoryContract, LabelsContract):
    @pytest.fixture
    def history(self) -> History:
        return MemoryHistory()


class SqlContract(HistoryContract, LabelsContract):
    @pytest.fixture
    def accounts(self, database: Database) -> tuple[int, int]:
        with database.writing() as connection:
            ids = connection.scalars(
                sa.insert(User).returning(User.id, sort_by_parameter_order=True),
                [
                    {"username": name, "created_at": datetime.now(UTC), "is_active": True}
                    for name in ("ada", "grace")
                ],
            ).all()
        return ids[0], ids[1]


class TestSqliteHistory(SqlContract):
    @pytest.fixture
    def database(self, ready_sqlite: Database) -> Database:
        return ready_sqlite

    @pytest.fixture
    def history(self, database: Database) -> History:
        return SqlHistory(database)


class TestPostgresqlHistory(SqlContract):
    @pytest.fixture
    def database(self, ready_postgresql: Database) -> Database:
        return ready_postgresql

    @pytest.fixture
    def history(self, database: Database) -> History:
        return SqlHistory(database)


MODELS = count()
MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2999, 1, 1), timezones=st.timezones())  # noqa: DTZ001
CLOSE = st.builds(
    lambda minutes: datetime(2026, 2, 28, 22, tzinfo=UTC) + timedelta(minutes=minutes),
    st.integers(0, 300),
)
JUDGED = st.tuples(st.booleans(), st.floats(0, 1e6), CLOSE | MOMENTS)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(JUDGED, max_size=12), st.none() | CLOSE, st.none() | CLOSE, st.sampled_from(BucketSize)
)
def test_statistics_are_those_of_plain_python(database, judged, since, until, size):
    model = f"model-{next(MODELS)}"
    where = HistoryFilter(model=model, since=since, until=until)
    make = {True: an_entry, False: a_real_entry}
    entries = [
        make[fake](model=model, processing_time=seconds, created_at=moment)
        for fake, seconds, moment in judged
    ]
    plain, kept = MemoryHistory(), SqlHistory(database)
    for history in (plain, kept):
        history.add_many(entries)
    wanted, reported = plain.statistics(where, size), kept.statistics(where, size)
    flat, total = kept.statistics(where), plain.statistics(where)
    for one, other in [
        (reported, wanted),
        (flat, total),
        *zip(reported.series, wanted.series, strict=True),
    ]:
        assert one.total_inferences == other.total_inferences
        assert one.total_fake == other.total_fake
        assert one.avg_processing_time == pytest.approx(other.avg_processing_time)
    assert [b.start for b in reported.series] == [b.start for b in wanted.series]
