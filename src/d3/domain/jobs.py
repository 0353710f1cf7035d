"""Jobs: many images that the service judges later, each kept in the history exactly once.

A job has items, each an image or a clip. The files that were sent with it lie in a spool until they
are judged. Items are worked on shard by shard, as those of scans are; the models are the ones that
the service has loaded at the time.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from d3.domain.errors import D3Error, ImageNotFound, RequestInvalid
from d3.domain.history import HistoryEntry, NewEntry
from d3.domain.panels import PanelRule
from d3.domain.scoring import Verdict
from d3.domain.webhooks import Callback

SHARD_ITEMS = 100
"""Files of a shard: what is leased and kept in one file of the spool."""

SHARD_BYTES = 16 * 2**20
"""Of a shard's files; the last of them may go beyond."""

FETCHED_ITEMS = 16
"""Items of a shard that have to be fetched from elsewhere, which may take seconds each."""

ID_PATTERN = r"[0-9a-f]{16}"
"""The whole of a job's id."""

MAX_EXTERNAL_ID = 255
"""The most characters of an id that the sender gave an item."""


class JobState(StrEnum):
    """How a job stands."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


class ItemState(StrEnum):
    """How an item stands."""

    WAITING = "waiting"
    JUDGED = "judged"
    ERROR = "error"
    CANCELLED = "cancelled"


class ItemPlace(StrEnum):
    """Where an item's bytes are until it is judged."""

    SPOOL = "spool"
    LINK = "link"
    S3 = "s3"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """An item as it is kept when its job begins.

    Attributes:
        number: counts from 1 in the order sent.
        name: for display.
        external_id: what the sender calls it; None where it said nothing.
        source: the link or ``s3://`` URI; empty for a file in the spool.
        offset: where its bytes begin in the shard's file of the spool.
        size_bytes: of the file in the spool; 0 where it is not known yet.
        error: why it will never be judged; None for most.
    """

    number: int
    name: str
    external_id: str | None = None
    source: str = ""
    offset: int = 0
    size_bytes: int = 0
    error: D3Error | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewShard:
    """Items that are worked on together.

    Attributes:
        number: counts from 0.
        place: of all its items.
        size_bytes: of its file in the spool; 0 where it has none.
    """

    number: int
    place: ItemPlace
    items: tuple[NewItem, ...] = field(repr=False)
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What is fixed when a job begins.

    Attributes:
        name: its id for callers, see :func:`new_job_name`; also of its files in the spool.
        created_at: with its zone.
        expires_at: when it is forgotten, whether it is over or not.
        user_id: whose it is; None without an account.
        request_id: of the HTTP request, kept with each result.
        threshold: of the chief, in [0, 1]; the model's own unless said.
        views: 1 to 16.
        panel: names of the models that judge, the chief first; the service's own unless said.
        panel_rule: how their verdicts become one; likewise.
        stability: whether each image is judged after harmless changes too.
        callback: who is told when it is over.
        every: seconds between the frames of a clip that are judged; None for the default.
        most: frames of a clip at most; None for the default.
        spool: id of the spool that holds its files; None where it has none.
    """

    name: str
    created_at: datetime
    expires_at: datetime
    user_id: int | None = None
    request_id: str | None = None
    threshold: float | None = None
    views: int = 1
    panel: tuple[str, ...] | None = None
    panel_rule: PanelRule | None = None
    stability: bool = False
    callback: Callback | None = None
    every: float | None = None
    most: int | None = None
    spool: str | None = None


@dataclass(frozen=True, slots=True)
class JobCounts:
    """How many items of a job ended in which way."""

    items: int = 0
    fake: int = 0
    real: int = 0
    uncertain: int = 0
    error: int = 0
    cancelled: int = 0

    @property
    def waiting(self) -> int:
        """Items that are not through."""
        done = self.fake + self.real + self.uncertain + self.error + self.cancelled
        return self.items - done

    def to_dict(self) -> dict[str, int]:
        """For answers, events and files."""
        counts = asdict(self)
        return {"items": counts.pop("items"), "waiting": self.waiting, **counts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(NewJob):
    """A job in the ledger.

    Attributes:
        id: of its rows.
        finished_at: when the last item was through, or the rest was cancelled; None before.
        trouble: why it does not go on at the moment; None if it does.
    """

    id: int
    state: JobState
    finished_at: datetime | None = None
    counts: JobCounts = JobCounts()
    trouble: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """What an event says of it, and the command line: JSON values, no secret."""
        return {
            "id": self.name,
            "state": self.state.value,
            "created_at": self.created_at.isoformat(),
            "finished_at": None if self.finished_at is None else self.finished_at.isoformat(),
            "expires_at": self.expires_at.isoformat(),
            "threshold": self.threshold,
            "views": self.views,
            "panel": None if self.panel is None else list(self.panel),
            "panel_rule": None if self.panel_rule is None else self.panel_rule.value,
            "stability": self.stability,
            "counts": self.counts.to_dict(),
            "trouble": self.trouble,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class JobItem:
    """An item of a job, as it stands.

    Attributes:
        result_id: of its result in the history; it may have been deleted there.
        entry: that result; None where there is none, or none any more.
        error: what was wrong with it, as a sentence; None where nothing was.
        code: of that error.
    """

    number: int
    name: str
    external_id: str | None
    state: ItemState
    result_id: int | None = None
    entry: HistoryEntry | None = None
    error: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobShard:
    """A shard to be judged by whoever holds its lease.

    Attributes:
        job: whose it is, as it was when it was claimed.
        items: that are not judged yet.
        begun: whether another worker held it before; one of its images may have killed it.
        claims: how often it was claimed, this time included.
    """

    job: Job
    number: int
    place: ItemPlace
    items: tuple[NewItem, ...] = field(repr=False)
    begun: bool = False
    claims: int = 1

    @property
    def key(self) -> tuple[int, int]:
        """Of the job and of the shard in it."""
        return self.job.id, self.number


ItemOutcome = NewEntry | D3Error


@dataclass(frozen=True, slots=True)
class ShardProgress:
    """What became of a shard when outcomes were stored.

    Attributes:
        finished: whether all its items are through.
        over: whether its job is over with it.
    """

    finished: bool = False
    over: bool = False


@dataclass(frozen=True, slots=True)
class JobTotals:
    """All jobs of a database together.

    Attributes:
        running: jobs that are not over.
        waiting: their items that are not through.
        spooled_bytes: of files that wait in spools.
    """

    running: int = 0
    waiting: int = 0
    spooled_bytes: int = 0


def new_job_name() -> str:
    """A new id, which nobody guesses."""
    return secrets.token_hex(8)


def checked_external_id(text: str | None) -> str | None:
    """An item's id by its sender, if it can be kept.

    Raises:
        RequestInvalid: it is too long, or holds control characters.
    """
    if text is None or text == "":
        return None
    if len(text) > MAX_EXTERNAL_ID or not text.isprintable():
        raise RequestInvalid(
            "An external_id is too long or holds control characters.",
            f"Use at most {MAX_EXTERNAL_ID} printable characters.",
        )
    return text


def file_gone() -> ImageNotFound:
    """The error for an item whose file was lost before it was judged."""
    return ImageNotFound("The file is not in the spool any more.", "Send it in a new job.")


def kind_of(verdict: Verdict | None) -> str:
    """Under which name of :class:`JobCounts` an item counts."""
    return "error" if verdict is None else verdict.value


def counted(outcomes: Mapping[int, ItemOutcome]) -> dict[str, int]:
    """How many of the outcomes count under which name."""
    found: dict[str, int] = {}
    for one in outcomes.values():
        name = kind_of(one.verdict if isinstance(one, NewEntry) else None)
        found[name] = found.get(name, 0) + 1
    return found
