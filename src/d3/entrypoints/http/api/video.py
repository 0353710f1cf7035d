"""``/api/inference/predict-video``: one verdict on a video, at once or, if long, as a job."""

from __future__ import annotations

import tempfile
from typing import Any

from litestar import Controller, Request, post

from d3.domain.accounts import Scope
from d3.domain.errors import RequestInvalid
from d3.domain.formats import ANIMATED
from d3.domain.ports.clips import OpenedClip
from d3.domain.ports.queue import Lane
from d3.domain.services.prediction import Upload
from d3.domain.text import display_name
from d3.entrypoints.http.api import openapi
from d3.entrypoints.http.api.answers import Answer
from d3.entrypoints.http.api.forms import Form, FormLimits, StreamSink, read_form
from d3.entrypoints.http.api.inference import (
    IMAGE_NAME,
    QUESTION,
    REFUSALS,
    answer_of,
    body_of_one,
    check_capacity,
    predict_uploads,
)
from d3.entrypoints.http.api.job_requests import start_job_of_one
from d3.entrypoints.http.api.job_schemas import OneJob
from d3.entrypoints.http.api.schemas import Prediction
from d3.entrypoints.http.callers import requires
from d3.entrypoints.http.middleware.request_limits import streams_body
from d3.entrypoints.http.services import D3

_AT_ONCE = 60
"""Frames of a clip, with as many for cuts as for moments, that is judged while its sender waits."""

_FORM_OVERHEAD = 64 * 1024


class VideoController(Controller):
    """Judging videos."""

    path = "/api/inference"
    tags = ("inference",)
    guards = (requires(Scope.PREDICT),)

    @post(
        "/predict-video",
        operation_id="predictVideo",
        operation_class=openapi.PredictVideoOperation,
        status_code=200,
        summary="Judge one video",
        responses=openapi.responses(Prediction, *REFUSALS)
        | openapi.responses(OneJob, success_status=202),
        request_max_body_size=None,
    )
    async def predict_video(self, request: Request[Any, Any, Any], d3: D3) -> Answer:
        """Judge the video in the field ``file`` by its frames, which gives one verdict.

        A clip with up to 30 moments to judge, by default half a minute, is answered at once. A
        longer one, and any with a `callback`, becomes a job of one item: the answer is 202, as that
        of `POST /api/jobs`. Needs the extra `video`. An animated image is always judged at once, by
        every frame.

        With an ``Idempotency-Key``, a repeated request gets the same answer and no second result.
        """
        check_capacity(request, d3, Lane.BULK)
        limits = FormLimits(d3.settings.max_video_bytes + _FORM_OVERHEAD, 16)
        streams_body(request.scope)
        with tempfile.TemporaryFile(prefix="d3-clip-") as stream:
            form = await read_form(request, limits, StreamSink("file", stream))
            name = display_name(form.file("file").name)
            request.scope["state"][IMAGE_NAME] = name
            form.only("file", "every", "most", "callback", *QUESTION)
            asked = _question(form)
            sampling = d3.clips.sampling(form.every(), form.most())
            with d3.one_more_clip():
                clip: OpenedClip = await d3.run_slowly(d3.clips.reader.open, stream, sampling)
                try:
                    is_animation = clip.facts.format in ANIMATED  # jobs take those as stills
                    if is_animation and asked["callback"] is not None:
                        raise RequestInvalid(
                            "An animated image is judged at once, so nobody is called back.",
                            "Leave `callback` out.",
                        )
                    if is_animation or (clip.planned <= _AT_ONCE and asked["callback"] is None):
                        upload = Upload(name, b"", sampling, clip)
                        return answer_of(
                            await predict_uploads(
                                request, d3, form, [upload], body_of_one, lane=Lane.INTERACTIVE
                            )
                        )
                finally:
                    clip.close()
            asked |= {"every": form.every(), "most": sampling.most}
            return await start_job_of_one(request, d3, stream, name, asked)


def _question(form: Form) -> dict[str, Any]:
    """How a job judges its items, and whom it tells."""
    return {
        "threshold": form.threshold(),
        "views": form.views(),
        "panel": form.panel(),
        "panel_rule": form.panel_rule(),
        "stability": form.flag("stability"),
        "callback": form.text("callback"),
    }
