"""Bulk scans: a model or a panel judges many images, shard by shard, one row for each."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from d3.domain.detections import Detection
from d3.domain.errors import D3Error, RequestInvalid, ScanMismatch
from d3.domain.models import ModelReference
from d3.domain.panels import PanelRule
from d3.domain.records import ImageRecord, Length, Text64, in_order
from d3.domain.scoring import Verdict
from d3.domain.webhooks import EventType, NewEvent

SHARD_IMAGES = 2000
"""Images of a shard: what is listed again, leased and looked up at once."""

S3_SCHEME = "s3://"
"""With which the URI of an object in a bucket begins."""

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""The whole of a scan's name."""

_NAME = re.compile(NAME_PATTERN)
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_URI_BYTES = 2000
_DIGEST_DIGITS = 32


class ScanState(StrEnum):
    """How a scan stands."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewScan:
    """What is fixed when a scan begins.

    Attributes:
        name: see :func:`checked_scan_name`.
        source: where its images are; a folder or file by its absolute path.
        threshold: in [0, 1].
        views: 1 to 16.
        created_at: with its zone.
        by_service: whether the service started it, and so finishes it.
        notice: what must be said beside the verdicts, from the models' manifests; may be empty.
        panel: its models, the chief, which is ``model``, first; empty where that judges alone.
        panel_rule: how their verdicts become one.
        stability: whether each image is judged after harmless changes too.
        video: whether videos are judged too.
    """

    name: str
    source: str
    model: ModelReference
    threshold: float
    views: int
    created_at: datetime
    by_service: bool = False
    notice: str = ""
    panel: tuple[ModelReference, ...] = ()
    panel_rule: PanelRule = PanelRule.CHIEF
    stability: bool = False
    video: bool = False

    @property
    def members(self) -> tuple[ModelReference, ...]:
        """All models that judge, the chief first."""
        return self.panel or (self.model,)


@dataclass(frozen=True, slots=True)
class ScanCounts:
    """How many images of a scan ended in which way.

    Attributes:
        passed_over: files that are no images.
        listed: files found so far, images or not.
    """

    fake: int = 0
    real: int = 0
    uncertain: int = 0
    error: int = 0
    passed_over: int = 0
    listed: int = 0

    @property
    def rows(self) -> int:
        """Images with a row."""
        return self.fake + self.real + self.uncertain + self.error

    @property
    def done(self) -> int:
        """Files that are finished, images or not."""
        return self.rows + self.passed_over


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan(NewScan):
    """A scan in the ledger.

    Attributes:
        listed: whether every file has been found.
        finished_at: None while it is not over.
        trouble: why the service could not go on with it at the last attempt; None if it could.
    """

    id: int
    state: ScanState
    listed: bool
    shards: int
    finished_at: datetime | None
    counts: ScanCounts = ScanCounts()
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """The right to list the collection, and where to continue.

    Attributes:
        number: of the next shard.
        cursor: after the last file listed; None at the beginning.
    """

    number: int
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Shard:
    """Some files of a scan, to be judged by whoever holds its lease.

    Attributes:
        number: counts from 0.
        uris: as the collection listed them.
        begun: whether another worker held it before; one of its images may have killed it.
    """

    number: int
    uris: tuple[str, ...] = field(repr=False)
    begun: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRow(ImageRecord):
    """One image's result; what does not apply is None.

    The ledger keeps the notice with the scan.

    Attributes:
        uri: see :func:`stored_uri`.
        verdict: None for an error.
        error: the code of what was wrong with it; None for a verdict.
        created_at: with its zone.
        prediction: probability in [0, 1] that the image is generated.
        logit: mean raw logit.
        spread: largest minus smallest probability of the views.
        processing_time: seconds.
    """

    uri: str
    verdict: Annotated[Verdict, Length(16)] | None
    error: Text64 | None
    created_at: datetime
    prediction: float | None = None
    logit: float | None = None
    spread: float | None = None
    processing_time: float | None = None

    @property
    def kind(self) -> str:
        """Under which name of :class:`ScanCounts` it counts."""
        return self.verdict or "error"


_FIRST_FIELDS = (
    *("uri", "verdict", "prediction", "logit", "spread", "error", "image_sha256"),
    *("image_format", "image_width", "image_height", "image_bytes", "processing_time"),
    *("created_at", "reason", "reason_text", "notice"),
    *("image_frames", "image_note", "image_note_text"),
)
ROW_FIELDS = in_order(_FIRST_FIELDS, ScanRow)
"""A row's fields, in the order of files."""

_SHARED = {one.name for one in fields(ScanRow)} & {one.name for one in fields(Detection)}


def row_of(uri: str, outcome: Detection | D3Error, now: datetime) -> ScanRow:
    """The row of an image that was judged, or failed."""
    if isinstance(outcome, D3Error):
        return ScanRow(uri=stored_uri(uri), verdict=None, error=outcome.code, created_at=now)
    shared = {name: getattr(outcome, name) for name in _SHARED}
    return ScanRow(uri=stored_uri(uri), error=None, created_at=now, **shared)


def stored_uri(uri: str) -> str:
    """The URI in a form that every database can store and index; unique for each URI.

    One that is too long, or is no Unicode text, is shown as far as possible, with its SHA-256.
    """
    if not _UNSTORABLE.search(uri) and len(uri.encode()) <= _URI_BYTES:
        return uri
    digest = hashlib.sha256(uri.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_DIGITS]
    shown = _UNSTORABLE.sub("\ufffd", uri).encode()[: _URI_BYTES - _DIGEST_DIGITS - 1]
    return f"{shown.decode(errors='ignore')}#{digest}"


def checked_scan_name(name: str) -> str:
    """The name, if it is valid.

    Raises:
        RequestInvalid: it is not 1 to 64 letters, digits, ``.``, ``_`` and ``-``.
    """
    if not _NAME.fullmatch(name):
        raise RequestInvalid(
            f"{name[:80]!r} cannot be a scan's id.",
            "Use 1 to 64 letters, digits, '.', '_' and '-'. The first must be a letter or a digit.",
        )
    return name


def new_scan_name(now: datetime) -> str:
    """A new name: the time and a few random digits."""
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def scan_finished(scan: Scan, now: datetime) -> NewEvent:
    """The event that a scan is done."""
    models = [asdict(one) for one in scan.members]
    return NewEvent(
        type=EventType.SCAN_FINISHED,
        data={
            "id": scan.name,
            "state": scan.state.value,
            "source": scan.source,
            "created_at": scan.created_at.isoformat(),
            "finished_at": now.isoformat(),
            "model": models[0],
            "panel": models if scan.panel else [],
            "threshold": scan.threshold,
            "views": scan.views,
            "counts": asdict(scan.counts),
            "notice": scan.notice,
        },
        at=now,
    )


def as_begun(scan: Scan) -> NewScan:
    """What was fixed when it began."""
    return NewScan(**{one.name: getattr(scan, one.name) for one in fields(NewScan)})


def check_same(scan: Scan, wanted: NewScan) -> None:
    """Check that a scan goes on with what it was begun with.

    Raises:
        ScanMismatch: it was begun with something else; each difference is named.
    """
    differences = [
        f"{name} {there} instead of {here}"
        for name, there, here in (
            ("source", scan.source, wanted.source),
            ("model", _said(scan.model), _said(wanted.model)),
            ("panel", *map(_said_of_panel, (scan, wanted))),
            ("panel rule", scan.panel_rule, wanted.panel_rule),
            ("threshold", scan.threshold, wanted.threshold),
            ("views", scan.views, wanted.views),
            ("stability", *("on" if one.stability else "off" for one in (scan, wanted))),
            ("video", *("on" if one.video else "off" for one in (scan, wanted))),
        )
        if there != here
    ]
    if differences:
        raise ScanMismatch(
            f"The scan {scan.name!r} was started with {', '.join(differences)}.",
            "Use the same values, or another name for the scan.",
        )


def _said(model: ModelReference) -> str:
    return f"{model.name}@{model.version} ({model.sha256[:12]})"


def _said_of_panel(scan: NewScan) -> str:
    """The models beside the chief."""
    return " and ".join(map(_said, scan.panel[1:])) or "none"
