"""The history of judged images: its entries, filters, pages and statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from operator import attrgetter
from typing import Annotated

from d3.domain.detections import Detection
from d3.domain.errors import RequestInvalid
from d3.domain.labels import Label, LabelIs
from d3.domain.panels import Agreement
from d3.domain.provenance import Says
from d3.domain.records import MAX_NOTICE, Length, ResultRecord, Text64, Text255
from d3.domain.scoring import Verdict
from d3.domain.text import searchable, storable

MAX_PAGE = 500
"""The most entries of one page."""

LARGEST_ID = 2**63 - 1
"""Identifiers run from 1 to this; nothing beyond it was ever handed out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry(ResultRecord):
    """One result on its way into the history.

    Attributes:
        created_at: when it was judged; any zone is accepted and UTC is kept.
        cached: whether the logit came from the cache.
        d3_version: of the software that wrote the entry.
        user_id: whose request it was; None without an account.
        request_id: of the HTTP request, to find it in the logs.

    Raises:
        ValueError: a number that is not finite or out of its range, or a time without a zone.
    """

    created_at: datetime
    cached: bool = False
    d3_version: Text64 = ""
    user_id: int | None = None
    request_id: Text255 | None = None

    def __post_init__(self) -> None:
        # Negated comparisons, so that NaN fails them too.
        shares = (self.prediction, self.confidence, self.threshold, self.spread)
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError("prediction, confidence, threshold and spread lie between 0 and 1")
        if not 0 <= self.processing_time < math.inf:
            raise ValueError("the processing time is a finite number of seconds")
        if self.logit is not None and not math.isfinite(self.logit):
            raise ValueError("a logit is finite")
        object.__setattr__(self, "created_at", in_utc(self.created_at))
        object.__setattr__(self, "image_name", storable(self.image_name))
        object.__setattr__(self, "notice", storable(self.notice, MAX_NOTICE))

    @property
    def is_demo(self) -> bool:
        """Whether the model is a demo, on whose verdicts nobody should rely."""
        return bool(self.notice)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry(NewEntry):
    """One result as it stands in the history.

    Attributes:
        id: counts from 1; never given twice, not even after a deletion.
        label: what somebody says the image is; None where nobody said anything.
    """

    id: int
    label: Annotated[Label, Length(16)] | None = None


_RESULT = tuple(one.name for one in fields(ResultRecord))
_read_result = attrgetter(*_RESULT)


def entry_of(
    detection: Detection,
    *,
    created_at: datetime,
    d3_version: str,
    cached: bool = False,
    user_id: int | None = None,
    request_id: str | None = None,
) -> NewEntry:
    """What the history keeps of a detection."""
    return NewEntry(
        **dict(zip(_RESULT, _read_result(detection), strict=True)),
        created_at=created_at,
        cached=cached,
        d3_version=d3_version,
        user_id=user_id,
        request_id=request_id,
    )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class HistoryFilter:
    """Which entries are meant; without arguments, all.

    Attributes:
        is_fake: only these.
        verdict: only these.
        model: the model's name.
        since: judged at this time or later.
        until: judged before this time.
        q: the image's name begins with this, letter for letter: case counts, and ``%`` and ``_``
            are ordinary characters. Empty finds all.
        user_id: only this account's.
        model_version: only this version's; of which model, ``model`` says.
        label: only those that people call so, or with ``none`` those that nobody called anything.
        provenance: only those whose file says this of itself.
        contains: stands anywhere in the image's name, whatever the case; all characters are
            ordinary ones. Empty finds all.
        image_sha256: only results of this very file.
        disagree: only those of panels whose models contradict each other, or only those of panels
            whose models do not.

    Raises:
        ValueError: a time without a zone.
    """

    is_fake: bool | None = None
    verdict: Verdict | None = None
    model: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    q: str | None = None
    user_id: int | None = None
    model_version: int | None = None
    label: LabelIs | None = None
    provenance: Says | None = None
    contains: str | None = None
    image_sha256: str | None = None
    disagree: bool | None = None

    def __post_init__(self) -> None:
        for name in ("since", "until"):
            if (moment := getattr(self, name)) is not None:
                object.__setattr__(self, name, in_utc(moment))
        if self.model is not None:
            object.__setattr__(self, "model", storable(self.model))
        if self.q is not None:
            # One more than a name can have, so that an overlong prefix finds nothing.
            object.__setattr__(self, "q", storable(self.q, 256))
        if self.contains is not None:
            object.__setattr__(self, "contains", searchable(storable(self.contains, 256)))
        if self.image_sha256 is not None:
            object.__setattr__(self, "image_sha256", storable(self.image_sha256.lower(), 65))

    def __repr__(self) -> str:
        """All conditions; the later ones where they are set: cursors are sealed with this text."""
        first = ("is_fake", "verdict", "model", "since", "until", "q", "user_id")
        named = ((one.name, getattr(self, one.name)) for one in fields(self))
        said = (f"{name}={value!r}" for name, value in named if name in first or value is not None)
        return f"HistoryFilter({', '.join(said)})"

    def matches(self, entry: HistoryEntry) -> bool:
        """Whether the entry is meant; what a database does with an index."""
        return (
            (self.is_fake is None or entry.is_fake == self.is_fake)
            and (self.verdict is None or entry.verdict == self.verdict)
            and (self.model is None or entry.model_name == self.model)
            and (self.since is None or entry.created_at >= self.since)
            and (self.until is None or entry.created_at < self.until)
            and (self.q is None or entry.image_name.startswith(self.q))
            and (self.user_id is None or entry.user_id == self.user_id)
            and (self.model_version is None or entry.model_version == self.model_version)
            and (self.label is None or (entry.label or LabelIs.NONE).value == self.label.value)
            and (self.provenance is None or entry.provenance_says == self.provenance)
            and (not self.contains or self.contains in searchable(entry.image_name))
            and (self.image_sha256 is None or entry.image_sha256 == self.image_sha256)
            and (self.disagree is None or _disagrees(entry) is self.disagree)
        )


def _disagrees(entry: HistoryEntry) -> bool | None:
    return None if entry.agreement is None else entry.agreement is Agreement.DISAGREE


@dataclass(frozen=True, slots=True)
class Page:
    """A page found by its offset.

    Attributes:
        entries: at most as many as asked for.
        total: entries that match, on all pages.
    """

    entries: tuple[HistoryEntry, ...]
    total: int


@dataclass(frozen=True, slots=True)
class CursorPage:
    """A page found by its place in the order: rows that arrive or go meanwhile shift nothing.

    Attributes:
        entries: at most as many as asked for.
        next_cursor: asks for what follows; None at the end.
    """

    entries: tuple[HistoryEntry, ...]
    next_cursor: str | None


class BucketSize(StrEnum):
    """The length of a time series' steps, in UTC."""

    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictCounts:
    """Entries by verdict.

    Attributes:
        fake: called fake.
        real: called real.
        uncertain: neither.
    """

    fake: int = 0
    real: int = 0
    uncertain: int = 0

    @property
    def total(self) -> int:
        """Entries with any verdict."""
        return self.fake + self.real + self.uncertain


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementCounts:
    """Entries of panels by what their opinions are to each other, see :class:`Agreement`.

    Attributes:
        agree: all say the same.
        partial: none contradicts another, but one or more are undecided.
        disagree: one says fake and another real.
    """

    agree: int = 0
    partial: int = 0
    disagree: int = 0

    @property
    def total(self) -> int:
        """Entries that a panel judged."""
        return self.agree + self.partial + self.disagree


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts over some entries.

    Attributes:
        total_inferences: entries counted.
        total_fake: those with ``is_fake``, whatever their verdict; ``by_verdict`` is what to show.
        avg_processing_time: mean seconds; 0 over no entries.
        by_verdict: how many were called what.
        demo: those of demo models, whose notice says not to rely on them.
        agreement: those of panels, by what the opinions are to each other.
    """

    total_inferences: int
    total_fake: int
    avg_processing_time: float
    by_verdict: VerdictCounts
    demo: int
    agreement: AgreementCounts = AgreementCounts()

    @property
    def total_real(self) -> int:
        """Those without ``is_fake``, whatever their verdict."""
        return self.total_inferences - self.total_fake

    @property
    def fake_percentage(self) -> float:
        """0 to 100; 0 over no entries."""
        return 100 * self.total_fake / self.total_inferences if self.total_inferences else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket(Tally):
    """Counts over one day or hour in which something was judged.

    Attributes:
        start: its first moment, in UTC.
    """

    start: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics(Tally):
    """Counts over all that was asked for, and their course in time.

    Attributes:
        series: oldest first, without the empty ones; None unless asked for.
    """

    series: tuple[Bucket, ...] | None = field(default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """The distribution of the scores and times of some entries.

    Attributes:
        scores: how many probabilities lie in each part of [0, 1], all equally wide; the last part
            includes 1.
        p50: seconds within which half of the entries were judged, by nearest rank; None without
            any.
        p95: seconds within which 95 % were.
    """

    scores: tuple[int, ...]
    p50: float | None
    p95: float | None


class GroupBy(StrEnum):
    """What results can be counted by, beside their verdict and time."""

    MODEL = "model"
    LABEL = "label"
    PROVENANCE = "provenance"
    AGREEMENT = "agreement"


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One day of results, in UTC, as a watch over drift needs it.

    Attributes:
        start: its first moment.
        scores: how many probabilities lie in each part of [0, 1], as in :class:`Distribution`;
            together, all results of the day.
        uncertain: how many verdicts were ``uncertain``.
        labelled: how many results with the label ``real`` or ``generated`` have which verdict;
            pairs without one are left out.
    """

    start: datetime
    scores: tuple[int, ...]
    uncertain: int
    labelled: Mapping[tuple[Label, Verdict], int]

    @property
    def total(self) -> int:
        """Results of the day."""
        return sum(self.scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """Requests to judge images that failed in one day or hour.

    Attributes:
        start: its first moment, in UTC.
        refused: answered 4xx: something was wrong with the request or its image.
        failed: answered 5xx: something was wrong with the service, or it was busy.
    """

    start: datetime
    refused: int
    failed: int


JUDGING = tuple(f"/api/inference/predict{one}" for one in ("", "-batch", "-video"))
"""Where requests to judge images go, as the request log has them."""


def nearest_rank(share: float, total: int) -> int:
    """The index of a quantile among so many ordered values, from 0."""
    return max(math.ceil(share * total) - 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One HTTP request: who asked what, and how it ended.

    Attributes:
        endpoint: the path, without its query.
        method: such as ``"GET"``.
        status_code: of the answer.
        ip_address: of the caller; None where there is none.
        response_time: seconds until the answer was complete.
        created_at: when it arrived, with a zone.
        request_id: as in ``X-Request-Id``.
        user_id: whose it was; None without an account.
        requests: how many it stands for: 1, or all of a second's refusals that were alike.
    """

    endpoint: str
    method: str
    status_code: int
    response_time: float
    created_at: datetime
    ip_address: str | None = None
    request_id: str | None = None
    user_id: int | None = None
    requests: int = 1


def in_utc(moment: datetime) -> datetime:
    """The same moment in UTC.

    Raises:
        ValueError: it has no zone, so nobody knows which moment it is, or UTC's calendar, which
            has the years 1 to 9999, does not reach it.
    """
    if moment.utcoffset() is None:
        raise ValueError("a time needs a zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time lies between the years 1 and 9999") from error


def checked_limit(limit: int) -> int:
    """The size of a page, from 1 to 500.

    Raises:
        RequestInvalid: it is anything else.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_PAGE:
        raise RequestInvalid(
            f"A page cannot have {limit!r} results.",
            f"Use a limit from 1 to {MAX_PAGE}.",
        )
    return limit


def checked_offset(offset: int) -> int:
    """How many entries to pass over, from 0.

    Raises:
        RequestInvalid: it is negative, beyond 2**63 - 1, or no whole number.
    """
    if isinstance(offset, bool) or not isinstance(offset, int) or not 0 <= offset <= LARGEST_ID:
        raise RequestInvalid(
            f"The offset {offset!r} is not valid.",
            "Use a whole number from 0, or use a cursor instead.",
        )
    return offset
