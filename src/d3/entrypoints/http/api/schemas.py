"""What the service answers, as msgspec structs: the original's fields first, ours after them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from d3.domain.clips import ClipVerdict
from d3.domain.detections import Detection
from d3.domain.drift import DriftReport
from d3.domain.errors import D3Error
from d3.domain.heatmaps import Heatmap
from d3.domain.history import LARGEST_ID, Bucket, HistoryEntry, Statistics, Tally
from d3.domain.labels import MOST_LABELS
from d3.domain.models import D3, Manifest, ModelReference, ModelSummary
from d3.domain.panels import Missing, Opinion
from d3.domain.provenance import Provenance
from d3.domain.services.model_host import Panel

IsFake = Annotated[
    bool,
    Meta(
        description="Whether `prediction` is above `threshold`, even if `verdict` is `uncertain`. "
        "Show and count `verdict` instead."
    ),
]
Verdict = Literal["fake", "real", "uncertain"]
Reason = Annotated[
    str | None,
    Meta(
        description="Why the verdict is `uncertain`: `too_small`, `one_colour`, `alpha_only` "
        "(drawn only in transparency), `spread` (the views disagree), `abstain_band` (too close to "
        "the threshold), `panel` (the models do not agree), `unstable` (a harmless change of the "
        "image turns it), `frames` (the frames of a clip do not agree) or `few_frames` (it has too "
        "few). Null for other verdicts."
    ),
]
ReasonText = Annotated[str | None, Meta(description="`reason` as a sentence for people.")]
ImageFrames = Annotated[
    int | None,
    Meta(
        description="Number of frames, pages or images in the file. D3 judges the first, and of "
        "clips those in `clip`."
    ),
]
ImageNote = Annotated[
    str | None,
    Meta(
        description="A note about the file: `cut_short` (at most the last rows of the image are "
        "missing) or `two_pictures` (some programs show another image). Null if there is no note."
    ),
]
ImageNoteText = Annotated[str | None, Meta(description="`image_note` as a sentence for people.")]
Notice = Annotated[
    str,
    Meta(
        description="A text that must be shown with the verdict, such as how often a demo model is "
        "wrong. Empty if there is none."
    ),
]


class Model(Struct, kw_only=True):
    """Which model answered."""

    name: str
    version: int
    sha256: str


Logits = Annotated[
    list[float], Meta(description="Each view's raw logit. Empty for old results of several views.")
]


class SourceItem(Struct, omit_defaults=True):
    """One statement of a file about itself; what it leaves open is left out.

    ``kind`` says where it stands: ``c2pa`` (Content Credentials), ``iptc``, ``exif``, ``record`` (a
    generator's own) or ``watermark``. ``state`` of a manifest is ``valid``, ``untrusted``,
    ``invalid`` or ``none``. ``prompt`` is true if a generator's record holds one.
    """

    kind: str
    says: str
    state: str | None = None
    reason: str | None = None
    generator: str | None = None
    model: str | None = None
    prompt: bool | None = None
    digital_source_type: str | None = None
    signer: str | None = None
    signed_at: str | None = None
    actions: list[str] = []
    ingredients: list[str] = []
    camera: str | None = None
    software: str | None = None
    created_at: str | None = None
    modified_at: str | None = None
    position: str | None = None


class ProvenanceItem(Struct, kw_only=True):
    """What a file says about itself: ``generated``, ``camera``, ``edited`` or ``nothing``."""

    says: str
    sources: list[SourceItem]


SaysOfItself = Annotated[
    ProvenanceItem | None,
    Meta(
        description="What the file says about itself. It can be forged and removed, and is not "
        "part of the score. Null if nobody looked."
    ),
]
LabelOf = Annotated[
    str | None,
    Meta(
        description="What somebody says the image is: `real`, `generated` or `unknown`. It never "
        "changes the verdict."
    ),
]


Opinions = Annotated[
    tuple[Opinion, ...],
    Meta(
        description="What each model of the panel says, the chief first: each with its own "
        "threshold and calibration. Empty if one model judged alone."
    ),
]
MissingModels = Annotated[
    tuple[Missing, ...],
    Meta(description="Models of the panel that gave no opinion, and why."),
]
AgreementOf = Annotated[
    str | None,
    Meta(
        description="`agree`, `partial` (some are undecided) or `disagree` (one says fake and "
        "another real). Null if fewer than two models gave an opinion."
    ),
]
RuleOf = Annotated[
    str | None,
    Meta(description="How the opinions became one verdict: `chief`, `any` or `majority`."),
]
StabilityOf = Annotated[
    dict[str, float],
    Meta(
        description="The probability after each harmless change of the image: `jpeg`, `scaled`, "
        "`cropped` and `mirrored`. Empty unless asked for."
    ),
]


ClipOf = Annotated[
    ClipVerdict | None,
    Meta(
        description="What was seen over a clip's time: each frame that was judged, and the rule "
        "that made one verdict of them. `prediction` is the highest mean over five frames in a "
        "row. Null for a still."
    ),
]


class Result(Struct):
    """One image's verdict and the numbers behind it.

    ``calibration_fpr`` and ``calibration_tpr`` are the rates that were measured for the threshold
    applied, null where nobody measured them.
    """

    cached: bool
    prediction: float
    is_fake: IsFake
    confidence: float
    processing_time: float
    logit: float
    verdict: Verdict
    threshold: float
    views: int
    spread: float
    image_sha256: str
    model: Model
    engine: str
    precision: str
    notice: Notice
    calibration_name: str = field(name="calibration", default="none")
    calibration_fpr: float | None = None
    calibration_tpr: float | None = None
    reason: Reason = None
    reason_text: ReasonText = None
    image_format: str | None = None
    image_width: int | None = None
    image_height: int | None = None
    image_frames: ImageFrames = None
    image_bytes: int | None = None
    image_note: ImageNote = None
    image_note_text: ImageNoteText = None
    provenance: SaysOfItself = None
    logits: Logits = []
    device: str = ""
    libraries: str = ""
    opinions: Opinions = ()
    missing: MissingModels = ()
    agreement: AgreementOf = None
    panel_rule: RuleOf = None
    stability: StabilityOf = field(default_factory=dict)
    clip: ClipOf = None


class EvidenceKey(Struct, kw_only=True):
    """The key that bundles of evidence are checked with.

    ``key_id`` is the SHA-256 of the key in DER form; ``public_key`` is the key as a PEM file.
    """

    success: bool = True
    key_id: str
    public_key: str


class Explanation(Struct, kw_only=True):
    """Where a score comes from: relative to the image itself, and no proof.

    ``values`` are rows of patches from -1 to 1, the higher the more generated the patch's
    neighbourhood looks alone; ``overlay`` is the image under its heat map, a PNG file in base64
    that says in its texts which model drew it, what it means and the model's notice.
    """

    meaning: str
    values: list[list[float]]
    overlay: str
    notice: Notice = ""


class Prediction(Struct, kw_only=True):
    """The answer to one image; ``explanation`` where it was asked for."""

    success: bool = True
    result: Result
    inference_id: int
    explanation: Explanation | UnsetType = UNSET


class Explained(Struct, kw_only=True):
    """The answer to an image that was only to be explained."""

    success: bool = True
    explanation: Explanation


class BatchItem(Struct, kw_only=True):
    """One file of a batch: a result and its id, or an error and its code."""

    filename: str
    result: Result | UnsetType = UNSET
    inference_id: int | UnsetType = UNSET
    error: str | UnsetType = UNSET
    code: str | UnsetType = UNSET


class BatchPrediction(Struct, kw_only=True):
    """The answer to several images, in the order sent."""

    success: bool = True
    count: int
    results: list[BatchItem]


class HistoryItem(Struct):
    """One result as the history keeps it; null where an old row never recorded it."""

    id: int
    image_name: str
    prediction: float
    is_fake: IsFake
    confidence: float
    threshold: float
    processing_time: float
    created_at: datetime
    user_id: int | None
    verdict: Verdict
    logit: float | None
    views: int
    spread: float
    image_sha256: str | None
    image_format: str | None
    image_width: int | None
    image_height: int | None
    image_frames: ImageFrames
    image_bytes: int | None
    model: Model | None
    engine: str
    precision: str
    cached: bool
    calibration_name: str = field(name="calibration")
    d3_version: str
    request_id: str | None
    reason: Reason = None
    reason_text: ReasonText = None
    notice: Notice = ""
    image_note: ImageNote = None
    image_note_text: ImageNoteText = None
    provenance: SaysOfItself = None
    logits: Logits = []
    device: str = ""
    libraries: str = ""
    label: LabelOf = None
    opinions: Opinions = ()
    missing: MissingModels = ()
    agreement: AgreementOf = None
    panel_rule: RuleOf = None
    stability: StabilityOf = field(default_factory=dict)
    clip: ClipOf = None


class HistoryPage(Struct, kw_only=True):
    """A page of the history; ``total`` by offset, ``next_cursor`` by cursor."""

    success: bool = True
    count: int
    total: int | UnsetType = UNSET
    next_cursor: str | UnsetType | None = UNSET
    results: list[HistoryItem]


class OneResult(Struct, kw_only=True):
    """One result of the history."""

    success: bool = True
    result: HistoryItem


class Done(Struct, kw_only=True):
    """Something was done."""

    success: bool = True
    message: str


Ids = Annotated[
    list[Annotated[int, Meta(ge=1, le=LARGEST_ID)]],
    Meta(min_length=1, max_length=MOST_LABELS, description="The `id` of each result."),
]


class BulkDeleteRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which results to delete."""

    ids: Ids


class Deleted(Struct, kw_only=True):
    """How many results are gone, and which were not there."""

    success: bool = True
    count: int
    missing: list[int]


class ModelLoaded(Done, kw_only=True):
    """A model was loaded."""

    model_name: str
    version: int


class ByVerdict(Struct, kw_only=True):
    """How many results have which verdict; together they are all."""

    fake: int = 0
    real: int = 0
    uncertain: int = 0


class ByAgreement(Struct, kw_only=True):
    """How many results of panels have which agreement; those of one opinion count nowhere."""

    agree: int = 0
    partial: int = 0
    disagree: int = 0


class Totals(Struct, kw_only=True):
    """Counts over the results asked for.

    ``by_verdict`` is what to show. ``total_fake``, ``total_real`` and ``fake_percentage`` (0 to
    100) count by ``is_fake``, as the original does: an uncertain verdict counts there too, by the
    side of the threshold that its prediction lies on.
    """

    total_inferences: int
    total_fake: Annotated[
        int, Meta(description="Number of results with `is_fake`, including uncertain verdicts.")
    ]
    total_real: Annotated[
        int, Meta(description="Number of results without `is_fake`, including uncertain verdicts.")
    ]
    fake_percentage: Annotated[
        float, Meta(description="100 * total_fake / total_inferences. 0 if there are no results.")
    ]
    avg_processing_time: float
    by_verdict: ByVerdict = field(default_factory=ByVerdict)
    demo: Annotated[
        int, Meta(description="Number of results of demo models, which have a `notice`.")
    ] = 0
    agreement: ByAgreement = field(default_factory=ByAgreement)


class SeriesItem(Totals, kw_only=True):
    """Counts over one hour or day."""

    start: datetime


class GroupItem(Totals, kw_only=True):
    """Counts over one group; ``name`` is null for results without a word for it."""

    name: str | None


class StatsBody(Totals, kw_only=True):
    """Counts, with their course in time and their groups where asked for, the largest first."""

    series: list[SeriesItem] | UnsetType = UNSET
    groups: list[GroupItem] | UnsetType = UNSET


class Stats(Struct, kw_only=True):
    """Statistics of the history."""

    success: bool = True
    stats: StatsBody


class DriftAnswer(Struct, kw_only=True):
    """Whether a model's results are still like its calibration."""

    success: bool = True
    drift: DriftReport


class PanelMember(Struct, kw_only=True):
    """A model of the service's panel; ``error`` says why one that is not loaded is missing."""

    name: str
    version: int | None = None
    loaded: bool
    error: str | None = None


class LoadedModelInfo(Struct, kw_only=True):
    """What is loaded, and on what; ``panel`` is empty where one model judges alone."""

    loaded: bool
    model_name: str | None
    architecture: str
    device: str
    precision: str | None = None
    version: int | None = None
    sha256: str | None = None
    threshold: float | None = None
    engine: str | None = None
    notice: str = ""
    panel: list[PanelMember] = []
    panel_rule: RuleOf = None


class ModelInfo(Struct, kw_only=True):
    """The model in use."""

    success: bool = True
    info: LoadedModelInfo


class ModelDetails(Struct, kw_only=True):
    """A model of the registry."""

    name: str
    version: int
    sha256: str
    architecture: str
    threshold: float
    licence: str
    provenance: str
    notice: str
    created_at: str
    active: bool
    packaged: bool
    metrics: dict[str, Any]
    package: str = ""
    trouble: str | None = None


class ModelList(Struct, kw_only=True):
    """Every model of the registry, by name."""

    success: bool = True
    count: int
    models: list[str]
    details: list[ModelDetails]


class Uploaded(Struct, kw_only=True):
    """A model that was stored."""

    success: bool = True
    message: str
    model_name: str
    sha256: str
    version: int


class Health(Struct, kw_only=True):
    """Whether the service lives, and with which model."""

    status: str
    model_loaded: bool
    device: str
    version: str


class Readiness(Struct, kw_only=True):
    """Whether images can be judged, and what is missing."""

    ready: bool
    missing: list[str]


def reader_of(answer: type[Struct], *, besides: str = "") -> Callable[[object], list[Any]]:
    """A function that reads a response's fields, in order, from a record with the same names.

    A record's field ``clip`` is a text; the response has what it holds.

    Args:
        answer: has a field ``provenance``, which is read in the response's form.
        besides: a field that is not the record's.
    """
    names = [one for one in answer.__struct_fields__ if one != besides]
    read = attrgetter(*("clip_verdict" if one == "clip" else one for one in names))
    place = names.index("provenance")

    def values(record: object) -> list[Any]:
        found = list(read(record))
        found[place] = provenance_of(found[place])
        return found

    return values


_read_result = reader_of(Result, besides="cached")
_read_history_item = reader_of(HistoryItem)


def result_of(detection: Detection, *, cached: bool) -> Result:
    """The response's form of a detection."""
    return Result(cached, *_read_result(detection))


def explanation_of(heatmap: Heatmap) -> Explanation:
    """The response's form of a heat map."""
    return Explanation(
        meaning=heatmap.meaning,
        values=[[round(one, 4) for one in row] for row in heatmap.values.tolist()],
        overlay=base64.b64encode(heatmap.png()).decode(),
        notice=heatmap.notice,
    )


def history_item(entry: HistoryEntry) -> HistoryItem:
    """The response's form of an entry of the history."""
    return HistoryItem(*_read_history_item(entry))


def provenance_of(found: Provenance | None) -> ProvenanceItem | None:
    """The response's form of what a file says about itself."""
    if found is None:
        return None
    sources = [msgspec.convert(one, SourceItem, from_attributes=True) for one in found.sources]
    return ProvenanceItem(says=found.says, sources=sources)


def stats_of(statistics: Statistics, groups: Mapping[str | None, Tally] | None = None) -> StatsBody:
    """The response's form of statistics."""
    series = statistics.series
    return StatsBody(
        **_totals(statistics),
        series=UNSET if series is None else [_series_item(bucket) for bucket in series],
        groups=UNSET
        if groups is None
        else [GroupItem(name=name, **_totals(tally)) for name, tally in groups.items()],
    )


def members_of(panel: Panel) -> list[PanelMember]:
    """The response's form of a panel, the chief first; empty for one model alone."""
    if not (panel.others or panel.missing):
        return []
    return [
        *(
            PanelMember(
                name=one.manifest.name,
                version=one.manifest.version,
                loaded=True,
                error=one.queue.trouble,
            )
            for one in panel.members
        ),
        *(PanelMember(name=one.model, loaded=False, error=one.error) for one in panel.missing),
    ]


def details_of(summary: ModelSummary, trouble: D3Error | None) -> ModelDetails:
    """The response's form of a model in the registry, and why it cannot be used here."""
    manifest = summary.manifest
    return ModelDetails(
        name=manifest.name,
        version=manifest.version,
        sha256=manifest.sha256,
        architecture=architecture_of(manifest),
        threshold=manifest.threshold,
        licence=manifest.licence,
        provenance=manifest.provenance,
        notice=manifest.notice,
        created_at=manifest.created_at,
        active=summary.active,
        packaged=summary.packaged,
        metrics=manifest.metrics,
        package=manifest.package,
        trouble=None if trouble is None else str(trouble),
    )


def architecture_of(manifest: Manifest) -> str:
    """What a model is: ``CLIP:ViT-L/14`` for the published D3, as the prototype said.

    Other architectures are named before their encoder, or alone: ``ufd CLIP:ViT-L/14``.
    """
    spec = manifest.spec
    if spec is None:
        return manifest.architecture
    size = {(1024, 24): "L", (768, 12): "B"}.get((spec.width, spec.layers))
    encoder = f"CLIP:ViT-{size or f'{spec.width}x{spec.layers}'}/{spec.patch_size}"
    return encoder if manifest.architecture == D3 else f"{manifest.architecture} {encoder}"


def model_of(reference: ModelReference) -> Model:
    """The response's form of a model's reference."""
    return Model(name=reference.name, version=reference.version, sha256=reference.sha256)


def _series_item(bucket: Bucket) -> SeriesItem:
    return SeriesItem(start=bucket.start, **_totals(bucket))


def _totals(tally: Tally) -> dict[str, Any]:
    counts = tally.by_verdict
    return {
        "total_inferences": tally.total_inferences,
        "total_fake": tally.total_fake,
        "total_real": tally.total_real,
        "fake_percentage": tally.fake_percentage,
        "avg_processing_time": tally.avg_processing_time,
        "by_verdict": ByVerdict(fake=counts.fake, real=counts.real, uncertain=counts.uncertain),
        "demo": tally.demo,
        "agreement": ByAgreement(**asdict(tally.agreement)),
    }
