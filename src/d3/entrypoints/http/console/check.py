"""The first page, where images are checked: by a script over the API, or by a plain form."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Controller, Request, get, post
from litestar.response import Redirect, Template

from d3.domain.accounts import Scope
from d3.domain.errors import D3Error, ImageError
from d3.entrypoints.http.api.inference import IMAGE_NAME, predict
from d3.entrypoints.http.api.schemas import Prediction
from d3.entrypoints.http.callers import caller_of
from d3.entrypoints.http.console.guards import check_allowed
from d3.entrypoints.http.console.problems import refusal
from d3.entrypoints.http.console.rendering import PLACES, base_of, explains, page
from d3.entrypoints.http.console.texts import TEXTS
from d3.entrypoints.http.services import D3, Services

_VIEWS = (1, 4, 8, 16)


class CheckPages(Controller):
    """Check images."""

    path = "/"

    @get("/")
    async def check(self, request: Request[Any, Any, Any], d3: D3) -> Template | Redirect:
        """The page. A caller who may not check images is redirected to a page that they may see."""
        caller = caller_of(request)
        if not caller.may(Scope.PREDICT):
            for _, address, scope in PLACES:
                if caller.may(scope):
                    return Redirect(f"{base_of(request)}{address}", status_code=303)
        await check_allowed(request, Scope.PREDICT)
        return _page(request, d3)

    @post("/", status_code=200, request_max_body_size=None)
    async def upload(self, request: Request[Any, Any, Any], d3: D3) -> Template | Redirect:
        """Judge the form's image and redirect to its result, for browsers without scripts."""
        try:
            await check_allowed(request, Scope.PREDICT)
            predicted = await predict(request, d3)
        except D3Error as error:
            how = refusal(request, error)
            if isinstance(error, ImageError) and (name := request.scope["state"].get(IMAGE_NAME)):
                how["sentence"] = TEXTS.check.of_file.format(name=name, sentence=how["sentence"])
            return _page(request, d3, **how)
        # The id is in the body; a replayed response has nothing else.
        found = msgspec.json.decode(predicted.body, type=Prediction)
        return Redirect(f"{base_of(request)}history/{found.inference_id}", status_code=303)


def _page(
    request: Request[Any, Any, Any],
    d3: Services,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    sentence: str = "",
) -> Template:
    model = d3.host.loaded()
    most = model.manifest.views if model else 1
    return page(
        request,
        d3,
        "check",
        status=status,
        headers=headers,
        sentence=sentence,
        explains=explains(d3),
        max_bytes=d3.settings.max_image_bytes,
        max_video_bytes=d3.settings.max_video_bytes,
        fetches_links=d3.settings.fetch_links,
        views=[number for number in _VIEWS if number <= most],
    )
