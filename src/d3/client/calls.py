"""The calls of the service, each described once for :class:`d3.Client` and :class:`d3.AsyncClient`.

Their results are what the clients' methods of the same names give.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

import msgspec

from d3.client.steps import A, Call, Pages, Steps, T, answer
from d3.client.uploads import File, Form
from d3.domain.drift import DriftReport
from d3.domain.labels import MOST_LABELS
from d3.domain.scans import new_scan_name
from d3.entrypoints.http.api.label_schemas import (
    LabelItem,
    Labelled,
    LabelList,
    LabelName,
    OneLabel,
)
from d3.entrypoints.http.api.scan_schemas import (
    OneScan,
    ScanItem,
    ScanPage,
    ScanResultItem,
    ScanResultPage,
)
from d3.entrypoints.http.api.schemas import (
    BatchPrediction,
    Deleted,
    DriftAnswer,
    HistoryItem,
    HistoryPage,
    LoadedModelInfo,
    ModelInfo,
    ModelList,
    OneResult,
    Prediction,
    Stats,
    StatsBody,
    Uploaded,
)

Panel: TypeAlias = "Sequence[str] | str"
"""Names of models, the chief first; in one text, with commas between them."""
Rule: TypeAlias = Literal["chief", "any", "majority"]
_INFERENCE, _SCANS = "/api/inference", "/api/scans"
_PAGE = 500


def predict(
    image: File,
    *,
    threshold: float | None = None,
    views: int = 1,
    name: str | None = None,
    explain: bool = False,
    panel: Panel | None = None,
    panel_rule: Rule | None = None,
    stability: bool = False,
) -> Call[Prediction]:
    """Judge one image; safe to retry, since each call carries an idempotency key.

    Args:
        image: a path or an encoded file's bytes.
        threshold: in [0, 1]; the model's own unless given.
        views: 1 to 16 permutations to average.
        name: the image's name; a path's own unless given.
        explain: adds an ``explanation``: where the score comes from.
        panel: models that judge together, the chief first; the service's own unless given.
        panel_rule: how their opinions become one verdict; the service's own unless given.
        stability: judges the image again after harmless changes.

    Raises:
        ServiceError: see its ``code``.
    """
    asked = _question(threshold, views, panel, panel_rule, stability=stability)
    fields = asked | _texts(explain=explain or None)
    return _once(f"{_INFERENCE}/predict", Form(fields, [("file", name, image)]), Prediction)


def predict_batch(
    images: Iterable[File],
    *,
    threshold: float | None = None,
    views: int = 1,
    panel: Panel | None = None,
    panel_rule: Rule | None = None,
    stability: bool = False,
) -> Call[BatchPrediction]:
    """Judge several images in one request; a bad image has an error instead of a result."""
    fields = _question(threshold, views, panel, panel_rule, stability=stability)
    form = Form(fields, [("files", None, image) for image in images])
    return _once(f"{_INFERENCE}/predict-batch", form, BatchPrediction)


def history(
    *,
    is_fake: bool | None = None,
    verdict: Literal["fake", "real", "uncertain"] | None = None,
    model: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    q: str | None = None,
    contains: str | None = None,
    label: Literal["real", "generated", "unknown", "none"] | None = None,
    provenance: Literal["generated", "camera", "edited", "nothing"] | None = None,
    image_sha256: str | None = None,
    disagree: bool | None = None,
    sort: Literal["created_at", "prediction", "image_name"] = "created_at",
    order: Literal["asc", "desc"] = "desc",
) -> Pages[HistoryItem]:
    """Every result that matches, newest first; pages are fetched as needed.

    Args:
        is_fake: only these.
        verdict: only these.
        model: only this model's.
        since: judged at this time or later; with a zone.
        until: judged before this time; with a zone.
        q: the image's name begins with this.
        contains: stands anywhere in the image's name, in upper or lower case.
        label: only these; ``"none"``: without a label.
        provenance: only images whose file says this of itself.
        image_sha256: only results of this file.
        disagree: only those of panels whose models contradict each other; False: of panels
            whose models do not.
        sort: what to order by; then by time.
        order: ``"desc"``: the newest or largest first.
    """
    asked = _texts(
        is_fake=is_fake,
        verdict=verdict,
        model=model,
        since=since,
        until=until,
        q=q,
        contains=contains,
        label=label,
        provenance=provenance,
        image_sha256=image_sha256,
        disagree=disagree,
        sort=sort,
        order=order,
    )
    return _by_cursor(f"{_INFERENCE}/history", HistoryPage, asked | {"cursor": ""})


def result(inference_id: int) -> Call[HistoryItem]:
    """One result of the history."""
    return _get(_result(inference_id), OneResult, lambda one: one.result)


def evidence(inference_id: int) -> Call[bytes]:
    """A result as a signed bundle of evidence: a zip file.

    Raises:
        ServiceError: ``signing_key_missing`` where the service has no key.
    """
    return Call(method="GET", path=f"{_result(inference_id)}/evidence", read=bytes, again=True)


def delete(inference_id: int) -> Call[None]:
    """Delete one result for good."""
    return Call(method="DELETE", path=_result(inference_id), read=_nothing)


def delete_many(inference_ids: Iterable[int]) -> Steps[list[int]]:
    """Delete results for good, a thousand in one transaction; those that were not there."""
    missing: list[int] = []
    for some in _thousands(inference_ids):
        missing += yield _post(
            f"{_INFERENCE}/results/delete", {"ids": some}, Deleted, lambda one: one.missing
        )
    return missing


def label(
    inference_id: int, label: LabelName, *, source: str = "", note: str = ""
) -> Call[LabelItem]:
    """Say what an image truly is; its verdict stays.

    Args:
        inference_id: of the result.
        label: ``"unknown"`` takes back what was said before.
        source: how it is known, such as ``"photographer"``.
        note: anything else.

    Raises:
        ServiceError: see its ``code``.
    """
    said = {"label": label, "source": source, "note": note}
    return _post(f"{_result(inference_id)}/label", said, OneLabel, lambda one: one.label)


def label_many(
    inference_ids: Iterable[int], label: LabelName, *, source: str = "", note: str = ""
) -> Steps[int]:
    """Give results the same label, a thousand in one transaction; how many there were."""
    said, count = {"label": label, "source": source, "note": note}, 0
    for some in _thousands(inference_ids):
        asked = said | {"ids": some}
        count += yield _post(f"{_INFERENCE}/labels", asked, Labelled, lambda one: one.count)
    return count


def labels(inference_id: int) -> Call[list[LabelItem]]:
    """All that was said about a result's image, newest first."""
    return _get(f"{_result(inference_id)}/labels", LabelList, lambda one: one.labels)


def stats(
    *,
    bucket: Literal["day", "hour"] | None = None,
    group: Literal["model", "label", "provenance", "agreement"] | None = None,
) -> Call[StatsBody]:
    """Totals, a time series with ``bucket``, and totals of each group with ``group``."""
    asked = _texts(bucket=bucket, group=group)
    return _get(f"{_INFERENCE}/stats", Stats, lambda one: one.stats, asked)


def drift(
    model: str | None = None,
    *,
    version: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Call[DriftReport]:
    """Whether results are still like the calibration of their model, in all and by day.

    Args:
        model: its name; the one in use unless given.
        version: the newest unless given.
        since: judged at this time or later; with a zone; the last 30 days unless given.
        until: judged before this time; with a zone.
    """
    asked = _texts(model=model, version=version, since=since, until=until)
    return _get(f"{_INFERENCE}/drift", DriftAnswer, lambda one: one.drift, asked)


def models() -> Call[ModelList]:
    """All models."""
    return _get("/api/model/list", ModelList, _whole)


def model() -> Call[LoadedModelInfo]:
    """The model in use."""
    return _get("/api/model/info", ModelInfo, lambda one: one.info)


def load_model(name: str | None = None) -> Call[None]:
    """Load a model; the active one unless given."""
    query = _texts(name=name or None)
    return Call(method="POST", path="/api/model/load", read=_nothing, query=query)


def unload_model() -> Call[None]:
    """Free the model's memory."""
    return Call(method="POST", path="/api/model/unload", read=_nothing)


def upload_model(
    head: File, name: str | None = None, *, architecture: str | None = None
) -> Call[Uploaded]:
    """Store a file as a model.

    Args:
        head: a head, which gets an encoder that the service has, or all that the architecture
            wants.
        name: of the model; that of the file unless given.
        architecture: what the file is of; ``d3`` unless given.

    Raises:
        ServiceError: see its ``code``.
    """
    fields = _texts(name=name or None, architecture=architecture or None)
    form = Form(fields, [("file", None, head)])
    read = answer(Uploaded, _whole)
    return Call(method="POST", path="/api/model/upload", read=read, body=form)


def start_scan(
    source: str,
    *,
    scan_id: str | None = None,
    model: str | None = None,
    threshold: float | None = None,
    views: int | None = None,
    panel: Panel | None = None,
    panel_rule: Rule | None = None,
    stability: bool | None = None,
) -> Call[ScanItem]:
    """Let the service judge a whole prefix; safe to retry, since each scan has an id.

    Args:
        source: ``s3://BUCKET/PREFIX``, or a folder of the server's below its D3_SCAN_FOLDER.
        scan_id: of the scan; an unfinished one is resumed.
        model: the active one unless given.
        threshold: in [0, 1]; the model's own unless given.
        views: 1 to 16 permutations to average.
        panel: names of the models that judge, the chief's first; the service's own unless
            given.
        panel_rule: how their verdicts become one: ``chief``, ``any`` or ``majority``.
        stability: whether harmless changes of each image are judged too.

    Raises:
        ServiceError: see its ``code``.
    """
    asked = _given(
        source=source,
        id=scan_id or new_scan_name(datetime.now(UTC)),
        model=model,
        threshold=threshold,
        views=views,
        panel=_commas(panel),
        panel_rule=panel_rule,
        stability=stability,
    )
    return _post(_SCANS, asked, OneScan, lambda one: one.scan, again=True)


def scans() -> Pages[ScanItem]:
    """Every scan, newest first; pages are fetched as needed."""
    return _by_offset(_SCANS, ScanPage, lambda one: one.scans)


def scan(scan_id: str) -> Call[ScanItem]:
    """One scan with its counts."""
    return _get(_named(_SCANS, scan_id), OneScan, lambda one: one.scan)


def scan_results(scan_id: str, *, disagree: bool | None = None) -> Pages[ScanResultItem]:
    """Every result of a scan, by URI.

    Args:
        scan_id: of the scan.
        disagree: only those on which models of a panel contradict each other, or only those on
            which they do not.
    """
    asked = _texts(disagree=disagree)
    return _by_cursor(f"{_named(_SCANS, scan_id)}/results", ScanResultPage, asked)


def cancel_scan(scan_id: str) -> Call[ScanItem]:
    """Stop a scan's workers after their current shard."""
    read = answer(OneScan, lambda one: one.scan)
    return Call(method="DELETE", path=_named(_SCANS, scan_id), read=read, again=True)


def _once(path: str, form: Form, kind: type[T]) -> Call[T]:
    """A form that has one effect however often it is sent."""
    key = {"Idempotency-Key": uuid.uuid4().hex}
    read = answer(kind, _whole)
    return Call(method="POST", path=path, read=read, body=form, headers=key, again=True)


def _get(
    path: str, kind: type[A], part: Callable[[A], T], query: Mapping[str, str] | None = None
) -> Call[T]:
    return Call(method="GET", path=path, read=answer(kind, part), query=query or {}, again=True)


def _post(
    path: str, asked: object, kind: type[A], part: Callable[[A], T], *, again: bool = False
) -> Call[T]:
    body = msgspec.json.encode(asked)
    return Call(method="POST", path=path, read=answer(kind, part), body=body, again=again)


def _by_cursor(path: str, kind: type[Any], asked: Mapping[str, str]) -> Pages[Any]:
    """Pages that name the next one by ``next_cursor``."""

    def at(cursor: str) -> Call[tuple[Sequence[Any], str | None]]:
        query = {**asked, "limit": str(_PAGE)} | ({"cursor": cursor} if cursor else {})
        return _get(path, kind, lambda page: (page.results, page.next_cursor or None), query)

    return Pages(at)


def _by_offset(path: str, kind: type[A], part: Callable[[A], Sequence[T]]) -> Pages[T]:
    """Pages that begin at an offset; the last is not full."""

    def at(offset: str) -> Call[tuple[Sequence[T], str | None]]:
        def read(page: A) -> tuple[Sequence[T], str | None]:
            found = part(page)
            return found, str(int(offset) + _PAGE) if len(found) == _PAGE else None

        return _get(path, kind, read, {"limit": str(_PAGE), "offset": offset})

    return Pages(at, "0")


def _question(
    threshold: float | None,
    views: int,
    panel: Panel | None,
    panel_rule: Rule | None,
    *,
    stability: bool,
) -> dict[str, str]:
    """The fields of a form that say how images are judged."""
    return _texts(
        threshold=None if threshold is None else float(threshold),
        views=views,
        panel=_commas(panel),
        panel_rule=panel_rule,
        stability=stability or None,
    )


def _given(**asked: Any) -> dict[str, Any]:
    """What was asked for."""
    return {name: value for name, value in asked.items() if value is not None}


def _texts(**asked: str | float | datetime | None) -> dict[str, str]:
    """What was asked for, as addresses and forms have it."""
    return {name: _text(value) for name, value in _given(**asked).items()}


def _text(value: str | float | datetime) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _commas(panel: Panel | None) -> str | None:
    return panel if panel is None or isinstance(panel, str) else ",".join(panel)


def _thousands(ids: Iterable[int]) -> Iterator[list[int]]:
    coming = iter(ids)
    while some := list(islice(coming, MOST_LABELS)):
        yield some


def _result(inference_id: int) -> str:
    return f"{_INFERENCE}/result/{inference_id}"


def _named(path: str, name: str) -> str:
    return f"{path}/{quote(name, safe='')}"


def _whole(one: T) -> T:
    return one


def _nothing(_: bytes) -> None:
    return None
