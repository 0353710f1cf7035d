"""The history's queries; a test checks that each uses its index."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import sqlalchemy as sa

from d3.adapters.sql.rows import COLUMNS
from d3.adapters.sql.search import contains
from d3.adapters.sql.tables import InferenceResult, RequestLogRow
from d3.domain.history import JUDGING, BucketSize, GroupBy, HistoryFilter
from d3.domain.labels import Label, LabelIs
from d3.domain.ordering import NEWEST_FIRST, Order, Place
from d3.domain.panels import Agreement
from d3.domain.provenance import Says
from d3.domain.scoring import Verdict

_T = InferenceResult.__table__.c
_LAST = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


_EQUAL = {
    "verdict": _T.verdict,
    "model": _T.model_name,
    "model_version": _T.model_version,
    "user_id": _T.user_id,
    "provenance": _T.provenance_says,
    "image_sha256": _T.image_sha256,
}
_SAYING = sa.text("provenance_says <> 'nothing'")
_DISAGREE = Agreement.DISAGREE.value
_DISAGREEING = sa.text("agreement = 'disagree'")  # in the words of its index


def conditions(where: HistoryFilter) -> list[sa.ColumnElement[bool] | sa.TextClause]:
    """The conditions that a filter stands for."""
    asked = {name: getattr(where, name) for name in _EQUAL}
    found: list[sa.ColumnElement[bool] | sa.TextClause] = [
        _EQUAL[name] == getattr(value, "value", value)
        for name, value in asked.items()
        if value is not None
    ]
    if where.provenance not in {None, Says.NOTHING}:
        found.append(_SAYING)  # in the words of the index, which holds no others
    if where.label is not None:
        found.append(_T.label == (None if where.label is LabelIs.NONE else where.label.value))
    if where.is_fake is not None:
        # Equality, which an index answers; SQLite would render "IS 1".
        found.append(_T.is_fake == sa.bindparam(None, where.is_fake, sa.Boolean()))
    if where.since is not None:
        found.append(_T.created_at >= where.since)
    if where.until is not None:
        found.append(_T.created_at < where.until)
    if where.disagree is not None:
        found.append(_DISAGREEING if where.disagree else _T.agreement != _DISAGREE)
    return found + _about_the_name(where)


def _about_the_name(where: HistoryFilter) -> list[sa.ColumnElement[bool] | sa.TextClause]:
    found: list[sa.ColumnElement[bool] | sa.TextClause] = []
    if where.q:
        found.append(_T.image_name >= where.q)
        if (end := after_prefix(where.q)) is not None:
            found.append(_T.image_name < end)
    if where.contains:
        found.append(contains(where.contains))
    return found


def after_prefix(prefix: str) -> str | None:
    """The first text after all that begin with ``prefix``, by code points; None if none is."""
    stem = prefix.rstrip(chr(_LAST))
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    if following in _SURROGATES:  # no text holds one
        following = _SURROGATES.stop
    return stem[:-1] + chr(following)


def page(
    where: HistoryFilter,
    limit: int,
    *,
    offset: int = 0,
    after: Place | None = None,
    order: Order = NEWEST_FIRST,
) -> sa.Select[Any]:
    """Whole rows, in order.

    The inner statement finds the ids and can do so in an index alone, so that what an offset
    passes over costs no look at the table.
    """
    columns = [getattr(_T, name) for name in order.columns]
    ordered = [one.desc() if order.descending else one.asc() for one in columns]
    wanted = sa.select(_T.id).where(*conditions(where))
    if after is not None:
        row = sa.tuple_(*columns)
        reached = sa.tuple_(
            *(sa.literal(value, one.type) for value, one in zip(after, columns, strict=True))
        )
        wanted = wanted.where(row < reached if order.descending else row > reached)
    wanted = wanted.order_by(*ordered).limit(limit)
    if offset:
        wanted = wanted.offset(offset)
    ids = wanted.subquery("wanted")
    return sa.select(*COLUMNS).join(ids, _T.id == ids.c.id).order_by(*ordered)


def count(where: HistoryFilter) -> sa.Select[Any]:
    """How many rows match."""
    return sa.select(sa.func.count()).select_from(InferenceResult).where(*conditions(where))


def totals(where: HistoryFilter) -> sa.Select[Any]:
    """One row: the counts of :class:`Sums`."""
    return sa.select(*_sums()).where(*conditions(where))


def series(where: HistoryFilter, size: BucketSize, *, sqlite: bool) -> sa.Select[Any]:
    """A row for each day or hour in which there is one: its start, then what `sums_of` reads."""
    if sqlite and _in_order_of_time(where):
        # One array of all sums, so that each range is walked through once.
        sums = sa.func.json_array(*(one.element for one in _sums()))
        return _by_hops(
            where,
            size,
            lambda inside, bucket: (
                sa.select(sums).where(*inside).correlate(bucket).scalar_subquery()
            ),
        )
    start = _start(_T.created_at, size, sqlite=sqlite)
    return sa.select(start, *_sums()).where(*conditions(where)).group_by(start).order_by(start)


def _start(moment: Any, size: BucketSize, *, sqlite: bool) -> sa.Label[Any]:
    """The first moment of the day or hour; times are text on SQLite."""
    if sqlite:
        return sa.func.substr(moment, 1, _WIDTH[size]).label("start")
    return sa.func.date_trunc(size.value, moment, "UTC").label("start")


class Sums(NamedTuple):
    """What is added up over some rows.

    Attributes:
        is_fake: of them above their threshold.
        fake: rows by verdict.
        demo: of models with a notice.
        panels: that a panel judged.
        partial: of panels, by agreement.
    """

    total: int
    is_fake: int
    seconds: float
    fake: int
    uncertain: int
    demo: int
    panels: int
    partial: int
    disagree: int


def sums_of(row: Any) -> Sums:
    """What a row of :func:`totals` or :func:`series` says."""
    if "sums" in row._fields:
        return Sums(*json.loads(row.sums))
    return Sums(*(getattr(row, name) for name in Sums._fields))


def _sums() -> tuple[sa.Label[Any], ...]:
    def of(condition: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.func.count().filter(condition)

    sums: tuple[sa.ColumnElement[Any], ...] = (
        sa.func.count(),
        of(_T.is_fake.expression),
        sa.func.coalesce(sa.func.sum(_T.processing_time), 0.0),
        of(_T.verdict == Verdict.FAKE.value),
        of(_T.verdict == Verdict.UNCERTAIN.value),
        of(_T.demo.expression),
        sa.func.count(_T.agreement),
        *(of(_T.agreement == one.value) for one in (Agreement.PARTIAL, Agreement.DISAGREE)),
    )
    return tuple(one.label(name) for name, one in zip(Sums._fields, sums, strict=True))


def scores(where: HistoryFilter, parts: int) -> sa.Select[Any]:
    """A row for each part of [0, 1] in which there is a score, and how many; on PostgreSQL."""
    part: sa.Label[Any] = _part(parts, sqlite=False).label("part")
    return sa.select(part, sa.func.count().label("total")).where(*conditions(where)).group_by(part)


def _part(parts: int, *, sqlite: bool) -> sa.ColumnElement[int]:
    """In which part of [0, 1] a score lies; the last includes 1."""
    place = _T.prediction * parts
    # A cast cuts off on SQLite and rounds on PostgreSQL.
    whole = sa.cast(place if sqlite else sa.func.floor(place), sa.Integer())
    return sa.case((place >= parts, parts - 1), else_=whole)


_GROUPS = {
    GroupBy.MODEL: _T.model_name,
    GroupBy.LABEL: _T.label,
    GroupBy.PROVENANCE: _T.provenance_says,
    GroupBy.AGREEMENT: _T.agreement,
}


def breakdown(where: HistoryFilter, by: GroupBy) -> sa.Select[Any]:
    """A row for each group: its name, then what `sums_of` reads."""
    name = _GROUPS[by].label("name")
    return sa.select(name, *_sums()).where(*conditions(where)).group_by(name)


def days(where: HistoryFilter, parts: int, *, sqlite: bool) -> sa.Select[Any]:
    """What :func:`day_groups` reads."""
    groups = (
        _part(parts, sqlite=sqlite).label("part"),
        _T.verdict.label("verdict"),
        sa.func.nullif(_T.label, Label.UNKNOWN.value).label("label"),
    )
    total = sa.func.count().label("total")
    if sqlite and _in_order_of_time(where):

        def counted(inside: Sequence[sa.ColumnElement[bool]], day: sa.CTE) -> sa.ScalarSelect[Any]:
            of_day = sa.select(*groups, total).where(*inside).group_by(*groups)
            found = of_day.correlate(day).subquery()
            return sa.select(
                sa.func.json_group_array(sa.func.json_array(*found.c))
            ).scalar_subquery()

        return _by_hops(where, BucketSize.DAY, counted)
    start = _start(_T.created_at, BucketSize.DAY, sqlite=sqlite)
    return (
        sa.select(start, *groups, total)
        .where(*conditions(where))
        .group_by(start, *groups)
        .order_by(start)
    )


class DayGroup(NamedTuple):
    """Results of a day that are alike.

    Attributes:
        start: of the day, as the database has it.
        part: of [0, 1], that their scores lie in.
        label: real or generated, or None.
    """

    start: Any
    part: int
    verdict: str
    label: str | None
    total: int


def day_groups(rows: Iterable[Any]) -> Iterator[DayGroup]:
    """All there are in rows of :func:`days`, day by day."""
    for row in rows:
        if "sums" in row._fields:
            yield from (DayGroup(row.start, *group) for group in json.loads(row.sums))
        else:
            yield DayGroup(*row)


def quantiles(where: HistoryFilter, *shares: float) -> sa.Select[Any]:
    """One row on PostgreSQL: the times below which these shares lie, by nearest rank."""
    return sa.select(
        *(sa.func.percentile_disc(one).within_group(_T.processing_time) for one in shares)
    ).where(*conditions(where))


def time_at(where: HistoryFilter, rank: int, total: int) -> sa.Select[Any]:
    """The time that stands at this place, from 0, where all are put in order.

    Counted from the nearer end: SQLite keeps in order only what is passed over.
    """
    times = sa.select(_T.processing_time).where(*conditions(where)).limit(1)
    left = total - 1 - rank
    if left < rank:
        return times.order_by(_T.processing_time.desc()).offset(left)
    return times.order_by(_T.processing_time).offset(rank)


def failures(where: HistoryFilter, size: BucketSize, *, sqlite: bool) -> sa.Select[Any]:
    """A row for each day or hour in which a request to judge failed: its start, 4xx, 5xx."""
    log = RequestLogRow
    meant = [log.status_code >= _REFUSED, log.endpoint.in_(JUDGING)]
    if where.user_id is not None:
        meant.append(log.user_id == where.user_id)
    if where.since is not None:
        meant.append(log.created_at >= where.since)
    if where.until is not None:
        meant.append(log.created_at < where.until)
    start = _start(log.created_at, size, sqlite=sqlite)
    failing = sa.cast(log.status_code >= _FAILED, sa.Integer()) * log.requests
    failed, total = sa.func.sum(failing), sa.func.sum(log.requests)
    wanted = sa.select(start, failed.label("failed"), total.label("total"))
    return wanted.where(*meant).group_by(start).order_by(start)


_REFUSED, _FAILED = 400, 500
_WIDTH = {BucketSize.DAY: 10, BucketSize.HOUR: 13}
_STEP = {BucketSize.DAY: ("%Y-%m-%d", ""), BucketSize.HOUR: ("%Y-%m-%d %H", ":00")}


def _in_order_of_time(where: HistoryFilter) -> bool:
    """Whether the index of the filter has its rows in the order of time."""
    return not (where.q or where.contains or where.image_sha256)


def _by_hops(
    where: HistoryFilter,
    size: BucketSize,
    counted: Callable[[Sequence[Any], sa.CTE], sa.ScalarSelect[Any]],
) -> sa.Select[Any]:
    """What is counted in each bucket on SQLite, without the sort of all rows of a GROUP BY.

    From each bucket the index is asked for the first row behind it, so that only buckets with a
    row are visited, in order; then each is summed up as a range of the index. Times are text: the
    first 10 or 13 characters are the bucket, and compare as its first moment. Each look has one
    lower and one upper bound: of two SQLite may take the one that is of no use.
    """
    others = conditions(replace(where, since=None, until=None))
    since, until = (
        [] if one is None else [sa.literal(one, _T.created_at.type)]
        for one in (where.since, where.until)
    )
    before_end = [_T.created_at < one for one in until]
    width, (form, padding) = _WIDTH[size], _STEP[size]

    def end(start: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
        return sa.func.strftime(form, start + padding if padding else start, f"+1 {size.value}")

    created = sa.type_coerce(_T.created_at, sa.Text())
    first = (
        sa.select(created).where(*conditions(where)).order_by(_T.created_at).limit(1)
    ).scalar_subquery()
    buckets = sa.select(sa.func.substr(first, 1, width).label("start")).cte(
        "buckets", recursive=True
    )
    following = (
        sa.select(created)
        .where(*others, created >= end(buckets.c.start), *before_end)
        .order_by(_T.created_at)
        .limit(1)
        .correlate(buckets)
        .scalar_subquery()
    )
    buckets = buckets.union_all(
        sa.select(sa.func.substr(following, 1, width)).where(buckets.c.start.is_not(None))
    )
    inside = (
        created >= _extreme(sa.func.max, buckets.c.start, since),
        created < _extreme(sa.func.min, end(buckets.c.start), until),
    )
    added = counted([*others, *inside], buckets)
    return (
        sa.select(buckets.c.start, added.label("sums"))
        .where(buckets.c.start.is_not(None))
        .order_by(buckets.c.start)
    )


def _extreme(
    choose: Callable[..., Any], one: sa.ColumnElement[str], others: Sequence[Any]
) -> sa.ColumnElement[str]:
    """The larger or smaller of the texts; SQLite's ``max`` of one argument is an aggregate."""
    chosen: sa.ColumnElement[str] = choose(one, *others) if others else one
    return chosen
