"""The filter of the history, as a form and an address hold it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from litestar import Request

from d3.domain.errors import RequestInvalid
from d3.domain.history import HistoryFilter
from d3.domain.labels import LabelIs
from d3.domain.ordering import NEWEST_FIRST, Order, SortKey
from d3.domain.provenance import Says
from d3.domain.scoring import Verdict
from d3.domain.text import storable
from d3.entrypoints.http.api.history import sees
from d3.entrypoints.http.console.texts import PROBLEMS, VERDICTS

_CHOICES: dict[str, Collection[str]] = {
    "verdict": VERDICTS,
    "label": frozenset(LabelIs),
    "provenance": frozenset(Says),
    "disagree": frozenset({"true", "false"}),
}
"""The fields of the filter that are chosen from a list."""
_DIRECTIONS = {"asc": "ascending", "desc": "descending"}
_COLUMNS = {SortKey.IMAGE_NAME: "asc", SortKey.PREDICTION: "desc", SortKey.CREATED_AT: "desc"}
"""The columns that sort the table, and their first direction."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column by which the table can be sorted.

    Attributes:
        state: the table's order by this column, as a value of ``aria-sort``.
        query: of the URL that sorts by this column, or reverses its order.
    """

    state: str
    query: str


@dataclass(frozen=True, slots=True)
class Asked:
    """The filter of the page's form, as typed. An empty field does not filter.

    Attributes:
        verdict: a verdict.
        label: a label, or ``none``.
        provenance: what the file says of itself.
        disagree: ``true`` for panels whose models disagree, ``false`` for other panels.
        model: a model's name.
        since: first day, ISO 8601.
        until: last day, ISO 8601.
        contains: a part of the image's name.
        zone: the reader's time zone, whose days are meant; empty for UTC.
        sort: the column to sort by, as the API names it.
        order: ``asc`` or ``desc``.
    """

    verdict: str = ""
    label: str = ""
    provenance: str = ""
    disagree: str = ""
    model: str = ""
    since: str = ""
    until: str = ""
    contains: str = ""
    zone: str = ""
    sort: str = ""
    order: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        """Read the filter from a query; unknown verdicts, labels and orders are ignored.

        A NUL, which no database can look for, becomes U+FFFD, as it does in stored names.
        """
        asked = {name: storable(str(query.get(name, ""))) for name in cls.__slots__}
        for name, known in _CHOICES.items():
            if asked[name] not in known:
                asked[name] = ""
        if asked["sort"] not in _COLUMNS or asked["order"] not in _DIRECTIONS:
            asked["sort"] = asked["order"] = ""
        if not (asked["since"] or asked["until"]):
            asked["zone"] = ""
        return cls(**asked)

    def api(self) -> dict[str, str]:
        """The filter as query parameters of the API.

        Raises:
            RequestInvalid: a day does not exist.
        """
        words = {name: getattr(self, name) for name in (*_CHOICES, "model", "contains")}
        for name, day, days in (("since", self.since, 0), ("until", self.until, 1)):
            words[name] = f"{self._midnight(day, days):%Y-%m-%dT%H:%M:%SZ}" if day else ""
        return {name: text for name, text in words.items() if text}

    def _midnight(self, day: str, days: int) -> datetime:
        """The moment at which a day begins for the reader, or so many days later."""
        try:
            start = date.fromisoformat(day) + timedelta(days=days)
            return datetime.combine(start, time.min, _zone_of(self.zone)).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise RequestInvalid(PROBLEMS["invalid_dates"]) from error

    def where(self, request: Request[Any, Any, Any]) -> HistoryFilter:
        """The filter, limited to the results that the caller may see.

        Raises:
            RequestInvalid: a day does not exist.
        """
        return HistoryFilter(
            verdict=Verdict(self.verdict) if self.verdict else None,
            label=LabelIs(self.label) if self.label else None,
            provenance=Says(self.provenance) if self.provenance else None,
            disagree=self.disagree == "true" if self.disagree else None,
            model=self.model or None,
            since=self._midnight(self.since, 0) if self.since else None,
            until=self._midnight(self.until, 1) if self.until else None,
            contains=self.contains or None,
            user_id=sees(request),
        )

    @property
    def sorting(self) -> Order:
        """The order of the table; newest first by default."""
        return Order(SortKey(self.sort), self.order == "desc") if self.sort else NEWEST_FIRST

    def columns(self) -> dict[str, Column]:
        """The columns by which the table can be sorted, by their names in the API."""
        now = self.sorting
        found: dict[str, Column] = {}
        for name, first in _COLUMNS.items():
            state, following = "none", first
            if name == now.by:
                state = _DIRECTIONS["desc" if now.descending else "asc"]
                following = "asc" if now.descending else "desc"
            plain = (name, following) == (NEWEST_FIRST.by, "desc")
            sort, order = ("", "") if plain else (name, following)
            found[name] = Column(state, self.query(sort=sort, order=order))
        return found

    def query(self, **more: str) -> str:
        """The query string of this filter, with further parameters."""
        own = {name: getattr(self, name) for name in self.__slots__}
        return urlencode({name: text for name, text in (own | more).items() if text})


def _zone_of(name: str) -> tzinfo:
    """The time zone of this name; UTC if there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return UTC
