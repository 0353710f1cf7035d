"""``/api/inference``: judge images, once per idempotency key, and answer when the row is kept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import msgspec
from litestar import Controller, Request, post
from msgspec import UNSET

from d3.domain.accounts import Scope
from d3.domain.errors import D3Error, FormInvalid
from d3.domain.idempotency import (
    ANONYMOUS,
    Completion,
    IdempotencyKey,
    Reservation,
    StoredAnswer,
)
from d3.domain.ports.queue import Lane
from d3.domain.services.inference import Judged, Upload
from d3.domain.services.keeping import Outcome, keep
from d3.domain.text import display_name
from d3.entrypoints.http.api import openapi
from d3.entrypoints.http.api.answers import Answer
from d3.entrypoints.http.api.forms import Form, FormLimits, header_of, read_form
from d3.entrypoints.http.api.schemas import (
    BatchItem,
    BatchPrediction,
    Explained,
    Explanation,
    Prediction,
    explanation_of,
    result_of,
)
from d3.entrypoints.http.middleware.access import caller_of
from d3.entrypoints.http.middleware.telemetry import RequestTelemetry
from d3.entrypoints.http.services import D3, Services
from d3.entrypoints.http.waiting import wait_unless_disconnected

Body: TypeAlias = Callable[[Sequence[Outcome], Sequence[int]], bytes]
_encode = msgspec.json.Encoder().encode
_FORM_OVERHEAD = 64 * 1024
_REFUSALS = (400, 401, 403, 408, 409, 413, 415, 422, 429, 503)
_BEFORE_THE_WAY_BACK = 0.9
"""Of the time a request has: the rest is for keeping the result and sending the answer."""


class InferenceController(Controller):
    """Judging images."""

    path = "/api/inference"
    tags = ("inference",)

    @post(
        "/predict",
        operation_id="predict",
        operation_class=openapi.PredictOperation,
        status_code=200,
        summary="Judge one image",
        responses=openapi.responses(Prediction, *_REFUSALS),
        request_max_body_size=None,
    )
    async def predict(self, request: Request[Any, Any, Any], d3: D3) -> Answer:
        """Tell whether the image in the field ``file`` was made or altered by a generator.

        Where the service fetches links (`D3_FETCH_LINKS`), ``url`` may stand for the file.

        With an ``Idempotency-Key``, the same request again gets the same answer and no second row.
        """
        caller_of(request).check(Scope.PREDICT)
        d3.inference.check_capacity(
            Lane.INTERACTIVE, _BEFORE_THE_WAY_BACK * d3.settings.request_seconds
        )
        form = await read_form(request, _limits_of_one(d3))
        image = await _image(request, d3, form)
        form.only("file", "url", "threshold", "views", "explain")
        explanation = await _explained(request, d3, form, image) if form.explain() else UNSET

        def body(outcomes: Sequence[Outcome], ids: Sequence[int]) -> bytes:
            (outcome,) = outcomes
            assert isinstance(outcome, Judged)
            result = result_of(outcome.detection, cached=outcome.cached)
            return _encode(Prediction(result=result, inference_id=ids[0], explanation=explanation))

        return await _answer(request, d3, form, [image], body, lane=Lane.INTERACTIVE)

    @post(
        "/explain",
        operation_id="explain",
        operation_class=openapi.ExplainOperation,
        status_code=200,
        summary="Draw one image's heat map",
        responses=openapi.problems(*_REFUSALS),
        request_max_body_size=None,
    )
    async def explain(self, request: Request[Any, Any, Any], d3: D3) -> Explained:
        """Say where the score of the image in the field ``file`` comes from; nothing is kept."""
        caller_of(request).check(Scope.PREDICT)
        form = await read_form(request, _limits_of_one(d3))
        image = await _image(request, d3, form)
        form.only("file", "url", "views")
        return Explained(explanation=await _explained(request, d3, form, image))

    @post(
        "/predict-batch",
        operation_id="predictBatch",
        operation_class=openapi.PredictBatchOperation,
        status_code=200,
        summary="Judge several images",
        responses=openapi.responses(BatchPrediction, *_REFUSALS),
        request_max_body_size=None,
    )
    async def predict_batch(self, request: Request[Any, Any, Any], d3: D3) -> Answer:
        """Judge the images in the fields ``files``; one bad file fails only itself."""
        caller_of(request).check(Scope.PREDICT)
        d3.inference.check_capacity(Lane.BULK)
        limits = FormLimits(d3.settings.max_batch_bytes, d3.settings.max_batch_files + 8)
        form = await read_form(request, limits)
        uploads = form.all_files("files")
        form.only("files", "threshold", "views")
        names = [display_name(upload.name) for upload in uploads]

        def body(outcomes: Sequence[Outcome], ids: Sequence[int]) -> bytes:
            left = iter(ids)
            results = [
                BatchItem(
                    filename=name,
                    result=result_of(outcome.detection, cached=outcome.cached),
                    inference_id=next(left),
                )
                if isinstance(outcome, Judged)
                else BatchItem(filename=name, error=str(outcome), code=outcome.code)
                for name, outcome in zip(names, outcomes, strict=True)
            ]
            return _encode(BatchPrediction(count=len(results), results=results))

        return await _answer(request, d3, form, uploads, body, lane=Lane.BULK)


def _limits_of_one(d3: Services) -> FormLimits:
    return FormLimits(d3.settings.max_image_bytes + _FORM_OVERHEAD, 16)


async def _image(request: Request[Any, Any, Any], d3: Services, form: Form) -> Upload:
    """The form's image: the field ``file``, or what the link in ``url`` leads to."""
    # Beside a file the field means nothing to a service that fetches no links.
    means_link = d3.settings.fetch_links or "file" not in form.files
    if not means_link or (url := form.text("url")) is None:
        return form.file("file")
    if "file" in form.files:
        raise FormInvalid("A file and a link were sent.", "Send one of them.")
    until = time.monotonic() + d3.settings.fetch_seconds + d3.settings.request_seconds
    found = await wait_unless_disconnected(request, d3.wait(d3.fetch(url)), until)
    return Upload(found.name, found.data)


async def _explained(
    request: Request[Any, Any, Any], d3: Services, form: Form, image: Upload
) -> Explanation:
    """The heat map, within the time a request has."""
    within = _BEFORE_THE_WAY_BACK * d3.settings.request_seconds
    drawing = d3.explain(image.data, form.views(), within, explanation_of)
    return await wait_unless_disconnected(request, d3.wait(drawing), time.monotonic() + within)


async def _answer(
    request: Request[Any, Any, Any],
    d3: Services,
    form: Form,
    uploads: Sequence[Upload],
    body: Body,
    *,
    lane: Lane,
) -> Answer:
    """Judge the uploads and keep the results; the answer leaves after the commit.

    Args:
        request: whose idempotency key counts.
        d3: what the service works with.
        form: with ``threshold`` and ``views``.
        uploads: one or more.
        body: makes the answer of the outcomes and of the ids of those that were judged.
        lane: who goes first; in the interactive one, one bad image fails the request.
    """
    telemetry = RequestTelemetry.of(request.scope)
    within = d3.settings.request_seconds * len(uploads)
    threshold, views = form.threshold(), form.views()
    user_id = caller_of(request).user_id
    reservation = None
    if (key := header_of(request, b"idempotency-key")) is not None:
        asked = f"{request.scope['path']}{'?explain' if form.explain() else ''}"
        digest = _request_hash(asked, uploads, threshold, views)
        reserved = await d3.wait(
            d3.writer.reserve(IdempotencyKey(user_id or ANONYMOUS, key, digest))
        )
        if isinstance(reserved, StoredAnswer):
            return Answer(reserved.body, [(b"idempotency-replayed", b"true")])
        reservation = reserved
    try:
        judging = d3.inference.judge(
            uploads,
            threshold=threshold,
            views=views,
            user_id=user_id,
            request_id=telemetry.request_id,
            lane=lane,
            within=_BEFORE_THE_WAY_BACK * within,
        )
        alone = lane is Lane.INTERACTIVE
        completion = partial(_completion, reservation, body) if reservation else None
        keeping = keep(judging, d3.writer, all_or_nothing=alone, completion=completion)
        kept = await wait_unless_disconnected(request, d3.wait(keeping), time.monotonic() + within)
        for outcome in kept.outcomes:
            telemetry.judged(outcome)
        if alone:
            kept.raise_first()
    except BaseException:
        _release(d3, reservation)
        raise
    return Answer(body(kept.outcomes, kept.ids))


def _completion(reservation: Reservation, body: Body, outcomes: Sequence[Outcome]) -> Completion:
    return Completion(reservation, lambda ids: body(outcomes, ids))


def _release(d3: Services, reservation: Reservation | None) -> None:
    """Let the same request be sent again; should that fail, the lease ends by itself."""
    if reservation is not None:
        try:
            d3.writer.release(reservation)
        except D3Error:
            return


def _request_hash(path: str, uploads: Sequence[Upload], threshold: float | None, views: int) -> str:
    digest = hashlib.sha256(repr((path, threshold, views)).encode())
    for upload in uploads:
        digest.update(repr((upload.name, len(upload.data))).encode())
        digest.update(upload.data)
    return digest.hexdigest()
