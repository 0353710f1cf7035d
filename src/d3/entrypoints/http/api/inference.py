"""``/api/inference``: judge images, once per idempotency key, and answer when the row is kept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeAlias

import msgspec
from litestar import Controller, Request, post
from msgspec import UNSET

from d3.domain.accounts import Scope
from d3.domain.errors import FormInvalid, ModelNotLoaded
from d3.domain.idempotency import ANONYMOUS, IdempotencyKey
from d3.domain.ports.queue import Lane
from d3.domain.services.detection import Judged
from d3.domain.services.prediction import Outcome, Predicted, PredictionRequest, Upload
from d3.domain.text import display_name
from d3.entrypoints.http.api import openapi
from d3.entrypoints.http.api.answers import Answer
from d3.entrypoints.http.api.bodies import read_image
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
from d3.entrypoints.http.callers import caller_of, requires
from d3.entrypoints.http.middleware.telemetry import RequestTelemetry
from d3.entrypoints.http.services import D3, Services
from d3.entrypoints.http.waiting import wait_unless_disconnected

Body: TypeAlias = Callable[[Sequence[Outcome], Sequence[int]], bytes]
_encode = msgspec.json.Encoder().encode
_FORM_OVERHEAD = 64 * 1024
REFUSALS = (400, 401, 403, 408, 409, 413, 415, 422, 429, 503)
QUESTION = ("threshold", "views", "panel", "panel_rule", "stability")
"""The fields that say how images are judged."""
_ASKED = (*QUESTION, "explain", "frames")
_EXPLAINED = ("views",)
IMAGE_NAME = "image_name"
"""The key of the image's name in the state of a request's ASGI scope."""
_TO_BE_JUDGED = 0.9
"""Share of a request's time for judging; the rest is for storing and sending the result."""


class InferenceController(Controller):
    """Judging images."""

    path = "/api/inference"
    tags = ("inference",)
    guards = (requires(Scope.PREDICT),)

    @post(
        "/predict",
        operation_id="predict",
        operation_class=openapi.PredictOperation,
        status_code=200,
        summary="Judge one image",
        responses=openapi.responses(Prediction, *REFUSALS),
        request_max_body_size=None,
        opt={"parameters": ("name", *_ASKED)},
    )
    async def predict(self, request: Request[Any, Any, Any], d3: D3) -> Answer:
        """Tell whether an image was made or altered by a generator.

        The body is a form with the image in the field ``file``, or the file itself, with its type
        and with parameters in the address, or JSON with the file in base64. If the service fetches
        links (`D3_FETCH_LINKS`), ``url`` can replace the file in a form and in JSON.

        ``frames=all`` judges every frame of an animated image, which gives one verdict too.

        With an ``Idempotency-Key``, a repeated request gets the same answer and no second result.
        """
        return answer_of(await predict(request, d3))

    @post(
        "/explain",
        operation_id="explain",
        operation_class=openapi.ExplainOperation,
        status_code=200,
        summary="Draw the heat map of one image",
        responses=openapi.problems(*REFUSALS),
        request_max_body_size=None,
        opt={"parameters": ("name", *_EXPLAINED)},
    )
    async def explain(self, request: Request[Any, Any, Any], d3: D3) -> Explained:
        """Show where the score of an image comes from. Stores nothing.

        The image is sent as for `predict`.
        """
        form = await read_image(request, _limits_of_one(d3), *_EXPLAINED)
        image = await _image(request, d3, form)
        form.only("file", "url", *_EXPLAINED)
        until = time.monotonic() + d3.settings.request_seconds
        drawing = _drawing(d3, form, image)
        return Explained(explanation=await wait_unless_disconnected(request, drawing, until))

    @post(
        "/predict-batch",
        operation_id="predictBatch",
        operation_class=openapi.PredictBatchOperation,
        status_code=200,
        summary="Judge several images",
        responses=openapi.responses(BatchPrediction, *REFUSALS),
        request_max_body_size=None,
    )
    async def predict_batch(self, request: Request[Any, Any, Any], d3: D3) -> Answer:
        """Judge the images in the fields ``files``. A bad file does not affect the others."""
        check_capacity(request, d3, Lane.BULK)
        limits = FormLimits(d3.settings.max_batch_bytes, d3.settings.max_batch_files + 8)
        form = await read_form(request, limits)
        uploads = form.all_files("files")
        form.only("files", *QUESTION)
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

        return answer_of(await predict_uploads(request, d3, form, uploads, body, lane=Lane.BULK))


async def predict(request: Request[Any, Any, Any], d3: Services) -> Predicted:
    """Judge the form's one image and keep the result."""
    within = _TO_BE_JUDGED * d3.settings.request_seconds
    check_capacity(request, d3, Lane.INTERACTIVE, within)
    form = await read_image(request, _limits_of_one(d3), *_ASKED)
    image = await _image(request, d3, form)
    request.scope["state"][IMAGE_NAME] = display_name(image.name)
    form.only("file", "url", *_ASKED)
    if form.all_frames() and await d3.run_slowly(d3.clips.is_clip, image.data, animations=True):
        image = replace(image, sampling=d3.clips.sampling(all_frames=True))
    drawings: list[Future[Explanation]] = []

    def draw() -> Future[Explanation]:
        drawings.append(_drawing(d3, form, image))
        return drawings[0]

    def body(outcomes: Sequence[Outcome], ids: Sequence[int]) -> bytes:
        return body_of_one(outcomes, ids, drawings[0].result() if drawings else UNSET)

    prepare = draw if form.flag("explain") else None
    return await predict_uploads(
        request, d3, form, [image], body, lane=Lane.INTERACTIVE, prepare=prepare
    )


def body_of_one(
    outcomes: Sequence[Outcome],
    ids: Sequence[int],
    explanation: Explanation | msgspec.UnsetType = UNSET,
) -> bytes:
    """The answer to one image or clip that was judged."""
    (outcome,) = outcomes
    assert isinstance(outcome, Judged)
    result = result_of(outcome.detection, cached=outcome.cached)
    return _encode(Prediction(result=result, inference_id=ids[0], explanation=explanation))


def check_capacity(
    request: Request[Any, Any, Any], d3: Services, lane: Lane, within: float | None = None
) -> None:
    """Refuse what could not be judged now, before its body is read."""
    try:
        d3.prediction.check_capacity(lane, within)
    except ModelNotLoaded:
        if header_of(request, b"idempotency-key") is None:
            raise  # with a key there may be a stored response


def _limits_of_one(d3: Services) -> FormLimits:
    return FormLimits(d3.settings.max_image_bytes + _FORM_OVERHEAD, 16)


async def _image(request: Request[Any, Any, Any], d3: Services, form: Form) -> Upload:
    """The form's image: the field ``file``, or what the link in ``url`` leads to."""
    if (url := form.text("url")) is None:
        return form.file("file")
    if "file" in form.files:
        raise FormInvalid("Both an image and a link were sent.", "Send one of them.")
    until = time.monotonic() + d3.settings.fetch_seconds + d3.settings.request_seconds
    found = await wait_unless_disconnected(request, d3.fetch(url), until)
    return Upload(found.name, found.data)


def _drawing(d3: Services, form: Form, image: Upload) -> Future[Explanation]:
    """The heat map of the model whose verdict leads, within the time that a request has."""
    within, panel = _TO_BE_JUDGED * d3.settings.request_seconds, form.panel()
    return d3.explaining.begin(
        image.data,
        form.views(),
        explanation_of,
        within=within,
        model=None if panel is None else panel[0],
    )


async def predict_uploads(
    request: Request[Any, Any, Any],
    d3: Services,
    form: Form,
    uploads: Sequence[Upload],
    body: Body,
    *,
    lane: Lane,
    prepare: Callable[[], Future[Any]] | None = None,
) -> Predicted:
    """Judge the uploads and store the results within the request's time.

    Args:
        request: its Idempotency-Key header is used.
        d3: the services.
        form: says how to judge.
        uploads: one or more.
        body: makes the response's body of the outcomes and the ids of the stored results.
        lane: the queue's lane. In the interactive one a bad image fails the whole request.
        prepare: see :class:`PredictionRequest`; it has as much time again.
    """
    telemetry = RequestTelemetry.of(request.scope)
    frames = max(1 if one.sampling is None else one.sampling.most for one in uploads)
    within = d3.settings.request_seconds * max(frames, len(uploads))
    question: dict[str, Any] = {
        "threshold": form.threshold(),
        "views": form.views(),
        "panel": form.panel(),
        "panel_rule": form.panel_rule(),
        "stability": form.flag("stability"),
    }
    user_id, key = caller_of(request).user_id, None
    if (name := header_of(request, b"idempotency-key")) is not None:
        path = f"{request.scope['path']}{'?explain' if form.flag('explain') else ''}"
        digest = _request_hash(path, uploads, question)
        key = IdempotencyKey(user_id or ANONYMOUS, name, digest)
    predicting = d3.prediction.predict(
        PredictionRequest(
            uploads=uploads,
            answer=body,
            **question,
            lane=lane,
            within=_TO_BE_JUDGED * within,
            all_or_nothing=lane is Lane.INTERACTIVE,
            user_id=user_id,
            request_id=telemetry.request_id,
            key=key,
            judged=telemetry.judged,
            prepare=prepare,
        )
    )
    until = time.monotonic() + (within if prepare is None else 2 * within)
    return await wait_unless_disconnected(request, predicting, until)


def answer_of(predicted: Predicted) -> Answer:
    """The response to a request that was judged, now or before."""
    headers = [(b"idempotency-replayed", b"true")] if predicted.replayed is not None else []
    return Answer(predicted.body, headers)


def _request_hash(path: str, uploads: Sequence[Upload], question: Mapping[str, Any]) -> str:
    """Of all that decides the answer; what is asked in the plain way hashes as it always did."""
    plain = path, question["threshold"], question["views"]
    more = [repr(question[one]) for one in QUESTION[2:] if question[one]]
    digest = hashlib.sha256(repr((*plain, *more)).encode())
    for upload in uploads:
        digest.update(repr((upload.name, len(upload.data))).encode())
        digest.update(upload.data)
        if upload.sampling is not None:
            digest.update(repr(upload.sampling).encode())
        if upload.clip is not None:
            digest.update(upload.clip.facts.sha256.encode())
    return digest.hexdigest()
