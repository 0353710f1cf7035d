"""Requests and answers about bulk scans, as msgspec structs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct, field

from d3.domain.panels import PanelRule
from d3.domain.scans import NAME_PATTERN, Scan, ScanRow, ScanState
from d3.entrypoints.http.api.schemas import (
    AgreementOf,
    ClipOf,
    ImageFrames,
    ImageNote,
    ImageNoteText,
    MissingModels,
    Model,
    Notice,
    Opinions,
    Reason,
    ReasonText,
    RuleOf,
    SaysOfItself,
    StabilityOf,
    Verdict,
    model_of,
    reader_of,
)

Source = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=1024,
        description="`s3://BUCKET/PREFIX` on the service's S3 server, or a folder on the server "
        "inside D3_SCAN_FOLDER.",
        examples=["s3://archive/2026/"],
    ),
]
ScanId = Annotated[
    str,
    Meta(
        pattern=f"^{NAME_PATTERN}$",
        description="Name of the scan. The id of an existing scan continues it, even if it was "
        "cancelled. It is safe to send a lost request again.",
        examples=["summer"],
    ),
]
ModelName = Annotated[
    str, Meta(max_length=100, description="Name of the model. Default: the default model.")
]
Threshold = Annotated[
    float,
    Meta(ge=0, le=1, description="Threshold of the verdicts. Default: the model's threshold."),
]
Views = Annotated[
    int, Meta(ge=1, le=16, description="Number of permutations to average. Default: 1.")
]
PanelNames = Annotated[
    str,
    Meta(
        max_length=1000,
        description="Models that judge together, separated by commas, the chief first. Default: "
        "those of D3_PANEL, unless `model` is given.",
        examples=["d3-vit-l14,ferretnet-s"],
    ),
]
Rule = Annotated[
    PanelRule,
    Meta(description="How their verdicts become one. Default: D3_PANEL_RULE."),
]
Stability = Annotated[
    bool,
    Meta(
        description="Judge each image again as JPEG, scaled, cropped and mirrored; the verdict is "
        "`uncertain` if one of them turns it. Default: false."
    ),
]


Video = Annotated[
    bool,
    Meta(description="Judge videos too, which needs the extra `video`. Default: false."),
]


class ScanRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """A scan to begin."""

    source: Source
    id: ScanId | None = None
    model: ModelName | None = None
    threshold: Threshold | None = None
    views: Views | None = None
    panel: PanelNames | None = None
    panel_rule: Rule | None = None
    stability: Stability | None = None
    video: Video | None = None


class ScanItem(Struct, kw_only=True):
    """A scan and how far it is.

    ``fake``, ``real``, ``uncertain`` and ``error`` count images, ``passed_over`` files that are
    none, ``listed`` all that was found so far and, once ``listed_all``, all there is. ``trouble``
    says why a running scan does not go on; it is tried again every minute. ``panel`` are its
    models, the chief first; empty where ``model`` judges alone.
    """

    id: str
    state: ScanState
    source: str
    model: Model
    threshold: float
    views: int
    by_service: bool
    created_at: datetime
    finished_at: datetime | None = None
    trouble: str | None = None
    listed_all: bool
    listed: int
    fake: int
    real: int
    uncertain: int
    error: int
    passed_over: int
    notice: Notice = ""
    panel: list[Model] = []
    panel_rule: PanelRule | None = None
    stability: bool = False
    video: bool = False


class OneScan(Struct, kw_only=True):
    """One scan."""

    success: bool = True
    scan: ScanItem


class ScanPage(Struct, kw_only=True):
    """Scans, the newest first."""

    success: bool = True
    count: int
    scans: list[ScanItem]


class ScanResultItem(Struct):
    """One image of a scan: a verdict, or in ``error`` the code of why there is none."""

    uri: str
    created_at: datetime
    verdict: Verdict | None = None
    prediction: float | None = None
    logit: float | None = None
    spread: float | None = None
    error: str | None = None
    image_sha256: str | None = None
    image_format: str | None = None
    image_width: int | None = None
    image_height: int | None = None
    image_bytes: int | None = None
    processing_time: float | None = None
    reason: Reason = None
    reason_text: ReasonText = None
    notice: Notice = ""
    image_frames: ImageFrames = None
    image_note: ImageNote = None
    image_note_text: ImageNoteText = None
    provenance: SaysOfItself = None
    opinions: Opinions = ()
    missing: MissingModels = ()
    agreement: AgreementOf = None
    panel_rule: RuleOf = None
    stability: StabilityOf = field(default_factory=dict)
    clip: ClipOf = None


class ScanResultPage(Struct, kw_only=True):
    """A page of a scan's images, by URI; ``next_cursor`` is null on the last."""

    success: bool = True
    count: int
    next_cursor: str | None = None
    results: list[ScanResultItem]


_read_result_item = reader_of(ScanResultItem)


def scan_item(scan: Scan) -> ScanItem:
    """The response's form of a scan."""
    counts = scan.counts
    return ScanItem(
        id=scan.name,
        state=scan.state,
        source=scan.source.encode(errors="replace").decode(),
        model=model_of(scan.model),
        threshold=scan.threshold,
        views=scan.views,
        by_service=scan.by_service,
        created_at=scan.created_at,
        finished_at=scan.finished_at,
        trouble=scan.trouble,
        listed_all=scan.listed,
        listed=counts.listed,
        fake=counts.fake,
        real=counts.real,
        uncertain=counts.uncertain,
        error=counts.error,
        passed_over=counts.passed_over,
        notice=scan.notice,
        panel=[model_of(one) for one in scan.panel],
        panel_rule=scan.panel_rule if scan.panel else None,
        stability=scan.stability,
        video=scan.video,
    )


def result_page(rows: list[ScanRow], limit: int) -> ScanResultPage:
    """The response's form of rows; a full page may be followed by another."""
    items = [ScanResultItem(*_read_result_item(row)) for row in rows]
    last = rows[-1].uri if len(rows) == limit else None
    return ScanResultPage(count=len(items), next_cursor=last, results=items)
