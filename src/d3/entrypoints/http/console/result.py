"""The page of one result: what was recorded, what the file says, and what people say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
from litestar import Controller, Request, get, post
from litestar.enums import RequestEncodingType
from litestar.params import Body, FromPath
from litestar.response import Redirect, Response, Template
from msgspec import Struct

from d3.domain.accounts import Scope
from d3.domain.errors import LabelInvalid
from d3.domain.history import HistoryEntry, HistoryFilter
from d3.domain.labels import LabelChange, NewLabel, label_of, without_refused
from d3.domain.scoring import Calibration
from d3.entrypoints.http.api.history import checked_id, sees
from d3.entrypoints.http.api.labels import keep_labels
from d3.entrypoints.http.api.schemas import OneResult, history_item
from d3.entrypoints.http.callers import caller_of
from d3.entrypoints.http.console.guards import allows
from d3.entrypoints.http.console.problems import refusal
from d3.entrypoints.http.console.rendering import (
    base_of,
    explains,
    page,
    percent,
    seconds,
    size,
)
from d3.entrypoints.http.console.texts import CHANGES, FACTS, TEXTS, VERDICTS
from d3.entrypoints.http.services import D3, Services

_N = TypeVar("_N", int, float)
_OTHERS = 20
_MOST_BYTES = 64 * 1024


class LabelForm(Struct):
    """What somebody says an image is, how they know it, and anything else."""

    label: str = ""
    source: str = ""
    note: str = ""


class ResultPages(Controller):
    """Results."""

    path = "/history"

    @get("/{result_id:str}", guards=[allows(Scope.READ)])
    async def result(
        self, request: Request[Any, Any, Any], d3: D3, result_id: FromPath[str]
    ) -> Template:
        """Everything recorded of one result, and what was said and found of the same image."""
        return await _page(request, d3, checked_id(result_id), sees(request))

    @get("/{result_id:str}/report.pdf", guards=[allows(Scope.READ)])
    async def report(
        self, request: Request[Any, Any, Any], d3: D3, result_id: FromPath[str]
    ) -> Response[bytes]:
        """The result as a report to print; it is not signed, as a bundle of evidence is."""
        number, whose = checked_id(result_id), sees(request)
        content = await d3.run_slowly(_report, d3, number, whose, caller_of(request).username)
        called = f'attachment; filename="d3-result-{number}.pdf"'
        headers = {"Content-Disposition": called}
        return Response(content, media_type="application/pdf", headers=headers)

    @post(
        "/{result_id:str}/label",
        status_code=200,
        request_max_body_size=_MOST_BYTES,
        guards=[allows(Scope.PREDICT)],
    )
    async def label(
        self,
        request: Request[Any, Any, Any],
        d3: D3,
        result_id: FromPath[str],
        data: Annotated[LabelForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    ) -> Template | Redirect:
        """Say what an image is, and redirect to its result; what cannot be said is shown again."""
        number, whose = checked_id(result_id), sees(request, Scope.PREDICT)
        try:
            said = NewLabel(
                result_id=number,
                label=label_of(data.label),
                source=data.source.strip(),
                note=data.note.strip(),
            )
        except LabelInvalid as error:
            how = refusal(request, error)
            form = LabelForm(source=without_refused(data.source), note=without_refused(data.note))
            if (form.source, form.note) != (data.source, data.note):
                how["sentence"] = f"{error.problem} {TEXTS.result.without}"
            return await _page(request, d3, number, whose, form=form, **how)
        await keep_labels(request, d3, [said], whose)
        return Redirect(f"{base_of(request)}history/{number}?done=label", status_code=303)


@dataclass(frozen=True, slots=True)
class Change:
    """Something that was said about an image.

    Attributes:
        change: what was said.
        username: who said it; empty without an account.
    """

    change: LabelChange
    username: str


async def _page(
    request: Request[Any, Any, Any],
    d3: Services,
    number: int,
    whose: int | None,
    *,
    form: LabelForm = LabelForm(),
    status: int = 200,
    headers: dict[str, str] | None = None,
    sentence: str = "",
) -> Template:
    entry = await d3.query(d3.history.get, number, whose)
    document = msgspec.json.format(
        msgspec.json.encode(OneResult(result=history_item(entry))), indent=2
    )
    others: Sequence[HistoryEntry] = ()
    if entry.image_sha256:
        same = HistoryFilter(image_sha256=entry.image_sha256, user_id=whose)
        others = (await d3.query(d3.history.page_after, same, _OTHERS + 1)).entries
    return page(
        request,
        d3,
        "result",
        status=status,
        headers=headers,
        sentence=sentence,
        form=form,
        entry=entry,
        views=views_of(entry),
        facts=facts_of(entry),
        document=document.decode(),
        explains=explains(d3),
        others=[one for one in others if one.id != entry.id][:_OTHERS],
        stability=stability_of(entry),
        changes=await d3.query(_changes, d3, number, whose),
        done=str(request.query_params.get("done", "")),
    )


def views_of(entry: HistoryEntry) -> list[float]:
    """The probability of each view; none if they were not recorded, or if there is one view."""
    if entry.views == 1:
        return []
    calibration = Calibration(entry.calibration_scale, entry.calibration_bias)
    return [calibration.probability(logit) for logit in entry.logits]


def _report(d3: Services, number: int, whose: int | None, made_by: str) -> bytes:
    content: bytes = d3.evidence_bundles.report(d3.evidence.of_result(number, whose, made_by))
    return content


def _changes(d3: Services, number: int, whose: int | None) -> list[Change]:
    names = d3.accounts.usernames()
    return [
        Change(one, names.get(one.user_id, "") if one.user_id is not None else "")
        for one in d3.history.labels(number, whose)
    ]


def stability_of(entry: HistoryEntry) -> str:
    """The probability after each harmless change, on one line; empty where that was not asked."""
    changed = entry.stability.items()
    return ", ".join(f"{CHANGES[name]} {percent(one)}" for name, one in changed)


def facts_of(entry: HistoryEntry) -> list[tuple[str, str | None]]:
    """The recorded facts of a result as texts; None for facts that were not recorded."""
    model = entry.model
    facts: dict[str, str | None] = {
        "image_name": entry.image_name,
        "verdict": VERDICTS[entry.verdict.value],
        **({"reason": entry.reason_text} if entry.reason else {}),
        **({"notice": entry.notice} if entry.notice else {}),
        "prediction": f"{percent(entry.prediction)} ({entry.prediction:.6f})",
        "threshold": percent(entry.threshold),
        "confidence": percent(entry.confidence),
        "logit": _maybe(entry.logit, "{:.6f}".format),
        "views": str(entry.views),
        "spread": percent(entry.spread) if entry.views > 1 else TEXTS.card.one_view,
        **({"stability": stability_of(entry)} if entry.stability else {}),
        "model": f"{model.name}, {TEXTS.models.version.lower()} {model.version}" if model else None,
        "model_sha256": entry.model_sha256,
        "calibration": entry.calibration_name,
        "engine": f"{entry.engine} {entry.precision}".strip() or None,
        "device": entry.device or None,
        "libraries": entry.libraries or None,
        "processing_time": seconds(entry.processing_time),
        "cached": FACTS["yes" if entry.cached else "no"],
        "image_format": entry.image_format,
        "image_size": f"{entry.image_width} x {entry.image_height}" if entry.image_width else None,
        "image_frames": _maybe(entry.image_frames, str),
        **({"image_note": entry.image_note_text} if entry.image_note else {}),
        "image_bytes": _maybe(entry.image_bytes, size),
        "image_sha256": entry.image_sha256,
        "d3_version": entry.d3_version or None,
        "request_id": entry.request_id,
    }
    return [(FACTS[name], value) for name, value in facts.items()]


def _maybe(value: _N | None, form: Callable[[_N], str]) -> str | None:
    return None if value is None else form(value)
