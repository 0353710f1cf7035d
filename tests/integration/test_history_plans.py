"""Every question asked of the history is answered by an index, on both databases."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from d3.adapters.sql import Database, SqlHistory, queries, upgrade
from d3.adapters.sql.tables import User
from d3.domain.history import BucketSize, GroupBy, HistoryFilter
from d3.domain.labels import Label, LabelIs, NewLabel
from d3.domain.ordering import Order, SortKey
from d3.domain.panels import Agreement
from d3.domain.provenance import Says
from d3.domain.scoring import Verdict
from tests.support.history import NOON, a_real_entry, an_entry

ROWS = int(os.environ.get("D3TEST_ROWS", "20000"))
_CHUNK = 10_000
MIDDLE = NOON + timedelta(minutes=ROWS // 2)
PLACE = (MIDDLE, ROWS // 2)
USER = 7
RARE = {
    "verdict": Verdict.UNCERTAIN,
    "model": "rare",
    "user_id": USER,
    "image_sha256": "f" * 64,
    "provenance_says": Says.GENERATED,
    "agreement": Agreement.DISAGREE,
}
COMMON = {"provenance_says": Says.NOTHING, "agreement": Agreement.AGREE}
FILTERS = {
    "order": HistoryFilter(),
    "order by time": HistoryFilter(since=MIDDLE - timedelta(hours=9), until=MIDDLE),
    "fake": HistoryFilter(is_fake=False),
    "verdict": HistoryFilter(verdict=Verdict.UNCERTAIN),
    "model": HistoryFilter(model="rare"),
    "user": HistoryFilter(user_id=USER),
    "user by time": HistoryFilter(user_id=USER, since=MIDDLE - timedelta(days=1), until=MIDDLE),
    "name": HistoryFilter(q="rare-"),
    "label": HistoryFilter(label=LabelIs.REAL),
    "provenance": HistoryFilter(provenance=Says.GENERATED),
    "image": HistoryFilter(image_sha256="f" * 64),
    "disagreeing": HistoryFilter(disagree=True),
}
LIKE_ALL = {
    "order": HistoryFilter(label=LabelIs.NONE),
    "order of what says nothing": HistoryFilter(provenance=Says.NOTHING),
    "order of what no model contradicts": HistoryFilter(disagree=False),
}
"""Filters that nearly all rows pass: read in the order of time."""
PAGES = {
    "first page": lambda where: queries.page(where, 50),
    "deep page": lambda where: queries.page(where, 50, after=PLACE),
    "offset": lambda where: queries.page(where, 50, offset=15_000),
    "count": queries.count,
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(request, tmp_path_factory):
    """Many entries; one in a hundred is rare in each respect."""
    if request.param == "sqlite":
        database = Database(tmp_path_factory.mktemp("plans") / "d3.db")
        yield _fill(database)
        database.close()
    else:
        with request.getfixturevalue("postgresql_server").database() as url:
            database = Database(url)
            yield _fill(database)
            database.close()


def _fill(database: Database) -> Database:
    upgrade(database)
    with database.writing() as connection:
        connection.execute(
            sa.insert(User).values(id=USER, username="ada", created_at=NOON, is_active=True)
        )
    for start in range(0, ROWS, _CHUNK):
        _add(database, range(start, min(start + _CHUNK, ROWS)))
    if not database.is_sqlite:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as bare:
            bare.execute(sa.text("VACUUM ANALYZE inference_results"))
    return database


def _add(database: Database, numbers: range) -> None:
    entries = []
    for n in numbers:
        rare = n % 100 == 0
        make = a_real_entry if rare else an_entry
        changes = RARE if rare else COMMON
        name = f"{'rare' if rare else 'often'}-{n}.jpg"
        entries.append(make(name, created_at=NOON + timedelta(minutes=n), **changes))
    history = SqlHistory(database)
    rare = history.add_many(entries)[::100]
    history.label([NewLabel(result_id=id_, label=Label.REAL) for id_ in rare], NOON)


def plan(database: Database, statement: sa.Select) -> str:
    """The database's own words, literals in place."""
    compiled = statement.compile(database.engine)
    explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN (COSTS OFF) "
    with database.engine.connect() as connection:
        parameters = compiled.construct_params()
        bound = {
            name: compiled._bind_processors[name](value)
            if name in compiled._bind_processors
            else value
            for name, value in parameters.items()
        }
        if compiled.positional:
            bound = tuple(bound[name] for name in compiled.positiontup)
        rows = connection.exec_driver_sql(explain + str(compiled), bound).all()
    return "\n".join(str(row[-1]) for row in rows)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("name", [*FILTERS, *LIKE_ALL])
def test_a_page_is_read_from_its_index(filled, name, page):
    reported = plan(filled, PAGES[page]((FILTERS | LIKE_ALL)[name]))
    if page == "count":  # any index will do that holds all that is looked at
        whole = "Seq Scan" in reported and name in LIKE_ALL
        assert "COVERING INDEX" in reported or "Index Only Scan" in reported or whole, reported
        return
    assert f"ix_inference_results_{name.split()[0]}" in reported, reported
    assert "Seq Scan" not in reported, reported


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("by", "index", "value"),
    [
        (SortKey.CREATED_AT, "order", ()),
        (SortKey.PREDICTION, "prediction", (0.5,)),
        (SortKey.IMAGE_NAME, "name", ("often-5",)),
    ],
)
def test_every_order_is_read_from_its_index_without_a_sort_of_all(  # noqa: PLR0917
    filled, by, index, value, after, descending
):
    place = (*value, *PLACE) if after else None
    order = Order(by, descending)
    reported = plan(filled, queries.page(HistoryFilter(), 50, after=place, order=order))
    assert f"ix_inference_results_{index}" in reported, reported
    if filled.is_sqlite:
        page, look, scan = reported.splitlines()[:3]
        assert (page, scan) == ("MATERIALIZE wanted", "SCAN wanted"), reported  # no sort between
        assert look.startswith("SEARCH" if after else "SCAN"), reported
    else:
        page = reported.partition("Limit")[2].partition("Index Scan using pk_")[0]
        assert "Sort" not in page, reported
        assert ("Index Cond" in page) == after, reported


@pytest.mark.parametrize("name", ["order", "order by time", "user", "user by time", "fake"])
@pytest.mark.parametrize("series", [None, *BucketSize])
def test_statistics_are_read_from_indexes_alone(filled, name, series):
    where = FILTERS[name]
    statement = (
        queries.totals(where)
        if series is None
        else queries.series(where, series, sqlite=filled.is_sqlite)
    )
    reported = plan(filled, statement)
    if filled.is_sqlite:
        looks = [line for line in reported.splitlines() if "inference_results" in line]
        assert looks, reported
        assert all("USING COVERING INDEX" in line for line in looks), reported
        assert "GROUP BY" not in reported, reported
    else:
        assert "Index Only Scan" in reported, reported
        assert "Seq Scan" not in reported, reported


@pytest.mark.parametrize("size", BucketSize)
def test_a_series_between_two_times_costs_no_more_than_the_whole(filled, size):
    most = HistoryFilter(since=NOON + timedelta(hours=1), until=NOON + timedelta(minutes=ROWS))
    if filled.is_sqlite:
        for where in (most, replace(most, until=None), replace(most, since=None)):
            assert steps(filled, where, size) < 1.5 * steps(filled, HistoryFilter(), size)
    else:
        reported = plan(filled, queries.series(most, size, sqlite=False))
        assert reported.count("Index Only Scan") == 1, reported  # one pass


def steps(database: Database, where: HistoryFilter, size: BucketSize) -> int:
    """Hundreds of steps of SQLite's machine that a series takes."""
    taken = 0

    def count() -> None:
        nonlocal taken
        taken += 1

    with database.reading() as connection:
        raw = connection.connection.driver_connection
        raw.set_progress_handler(count, 100)
        connection.execute(queries.series(where, size, sqlite=True)).all()
        raw.set_progress_handler(None, 0)
    return taken


@pytest.mark.parametrize("part", ["re-1900.jp", 're-1900"; DROP', "re-1900% OR _"])
@pytest.mark.parametrize("page", ["first page", "count"])
def test_a_part_of_few_names_is_found_by_its_trigrams(filled, page, part):
    reported = plan(filled, PAGES[page](HistoryFilter(contains=part)))
    if filled.is_sqlite:
        assert "name_search VIRTUAL TABLE INDEX" in reported, reported
        assert "SEARCH inference_results USING INTEGER PRIMARY KEY" in reported, reported
    else:
        assert "Bitmap Index Scan on ix_inference_results_search" in reported, reported
        assert "Seq Scan" not in reported, reported


COUNTS = {
    "breakdown": [lambda where, _, by=by: queries.breakdown(where, by) for by in GroupBy],
    "days": [lambda where, sqlite: queries.days(where, 20, sqlite=sqlite)],
    "times": [lambda where, _: queries.time_at(where, 9, 99)],
    "scores": [
        lambda where, sqlite: (
            queries.days(where, 20, sqlite=True) if sqlite else queries.scores(where, 20)
        )
    ],
}


@pytest.mark.parametrize("name", ["order", "order by time", "user", "user by time", "model"])
@pytest.mark.parametrize("counted", COUNTS)
def test_what_the_statistics_page_asks_is_read_from_one_index(filled, name, counted):
    for ask in COUNTS[counted]:
        reported = plan(filled, ask(FILTERS[name], filled.is_sqlite))
        if filled.is_sqlite:
            looks = [line for line in reported.splitlines() if "inference_results" in line]
            assert looks, reported
            assert all("USING COVERING INDEX" in look for look in looks), reported
        else:
            looks = reported.count("Index Only Scan")
            whole = FILTERS[name] == HistoryFilter() and "Seq Scan" in reported
            assert looks == 1 or whole, reported


def test_one_result_is_found_by_its_key(filled):
    statement = (
        sa.select(sa.text("*")).select_from(queries.InferenceResult).where(queries._T.id == 5)
    )
    assert "PRIMARY KEY" in plan(filled, statement) or "pk_" in plan(filled, statement)
