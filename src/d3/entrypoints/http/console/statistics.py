"""Statistics: totals, their course over time, and the distribution of predictions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from litestar import Controller, Request, get
from litestar.response import Template

from d3.domain.accounts import Scope
from d3.domain.drift import DRIFTED, DriftReport
from d3.domain.errors import D3Error
from d3.domain.history import BucketSize, GroupBy, HistoryFilter
from d3.entrypoints.http.console.filters import Asked
from d3.entrypoints.http.console.guards import allows
from d3.entrypoints.http.console.models import model_names
from d3.entrypoints.http.console.rendering import page
from d3.entrypoints.http.console.texts import TEXTS, VERDICTS
from d3.entrypoints.http.services import D3, Services
from d3.evaluation.charts import Axis, Bar, Chart, Line, columns, histogram, line_chart, round_ticks

_T = TEXTS.statistics
_RANGES = {"day": 1, "week": 7, "month": 30, "quarter": 90, "all": None}
_STACKED = ("fake", "uncertain", "real")
_BINS = 20
_MOST_BUCKETS = 400
_TICKS = 6
_HOURS_UP_TO = timedelta(days=3)


class StatisticsPages(Controller):
    """Statistics."""

    path = "/statistics"
    guards = (allows(Scope.READ),)

    @get("/")
    async def statistics(self, request: Request[Any, Any, Any], d3: D3) -> Template:
        """The page for a range of days."""
        asked = Asked.of(request.query_params)
        chosen = str(request.query_params.get("range", ""))
        only = replace(asked, verdict="", label="", provenance="", disagree="", contains="")
        where = only.where(request)
        if asked.since or asked.until:
            chosen = ""
        else:
            chosen = chosen if chosen in _RANGES else "month"
            days = _RANGES[chosen]
            since = None if days is None else datetime.now(UTC) - timedelta(days=days)
            where = replace(where, since=since)
        span = (where.until or datetime.now(UTC)) - where.since if where.since else None
        bucket = BucketSize.HOUR if span and span <= _HOURS_UP_TO else BucketSize.DAY
        totals = await d3.query(d3.history.statistics, where, bucket)
        lie = await d3.query(d3.history.distribution, where, _BINS)
        by_model = await d3.query(d3.history.breakdown, where, GroupBy.MODEL)
        drift = await d3.run_slowly(_drift, d3, asked.model, where)
        failures = await d3.query(d3.history.failures, where, bucket)
        buckets = (totals.series or ())[-_MOST_BUCKETS:]
        form = "%Y-%m-%d %H:00" if bucket is BucketSize.HOUR else "%Y-%m-%d"
        course = [
            Bar(one.start.strftime(form), tuple(getattr(one.by_verdict, name) for name in _STACKED))
            for one in buckets
        ]
        scores = [
            Bar(f"{n / _BINS:.2f} to {(n + 1) / _BINS:.2f}", (number,))
            for n, number in enumerate(lie.scores)
        ]
        errors = [
            Bar(one.start.strftime(form), (one.failed, one.refused))
            for one in failures[-_MOST_BUCKETS:]
        ]
        return page(
            request,
            d3,
            "statistics",
            asked=asked,
            chosen=chosen,
            ranges=list(_RANGES),
            totals=totals,
            lie=lie,
            drift=drift,
            drift_charts=_drift_charts(drift) if drift else (),
            by_model=by_model,
            models=await model_names(d3, asked.model),
            course=course,
            course_title=_T.course_hours if bucket is BucketSize.HOUR else _T.course_days,
            course_chart=columns(
                course, [VERDICTS[name] for name in _STACKED], ("generated", "doubt", "real")
            ),
            scores=scores,
            score_chart=columns(scores, (_T.count,), ("plain",)),
            errors=errors,
            errors_title=_T.errors_hours if bucket is BucketSize.HOUR else _T.errors_days,
            error_chart=columns(errors, (_T.failed, _T.refused), ("failed", "refused")),
        )


def _drift(d3: Services, model: str, where: HistoryFilter) -> DriftReport | None:
    """How the results compare with the calibration of the model; None if it is not there."""
    try:
        return d3.drift.report(
            model or None, since=where.since, until=where.until, user_id=where.user_id
        )
    except D3Error:
        return None


def _drift_charts(drift: DriftReport) -> list[Chart]:
    """The scores beside those of the calibration, and the index by day."""
    charts, reference = [], drift.reference
    if reference is not None and drift.total.images:
        scores = {
            _T.drift_now: drift.total.scores,
            _T.drift_real: reference.real,
            _T.drift_fake: reference.fake,
        }
        charts.append(histogram(_T.drift_scores, Axis(_T.bin), scores))
    days = [(day.start, day.psi) for day in drift.days if day.psi is not None]
    if len(days) > 1:
        top = max(DRIFTED, *(psi.high for _, psi in days))
        every = -(-len(days) // _TICKS)
        ticks = [(n, f"{start:%m-%d}") for n, (start, _) in enumerate(days)][::every]
        line = Line(
            _T.drift_psi,
            [(n, psi.value) for n, (_, psi) in enumerate(days)],
            [(n, psi.low, psi.high) for n, (_, psi) in enumerate(days)],
            marks=True,
        )
        values = round_ticks(top)
        y = Axis("", 0, values[-1], [(value, f"{value:g}") for value in values])
        charts.append(line_chart(_T.drift_days, Axis("", 0, len(days) - 1, ticks), y, [line]))
    return charts
