"""Models: load, unload, choose the default, verify, upload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from litestar import Controller, Request, get, post
from litestar.enums import RequestEncodingType
from litestar.params import Body
from litestar.response import Redirect, Template
from msgspec import Struct

from d3.domain.accounts import Scope
from d3.domain.errors import D3Error
from d3.domain.models import ModelSummary, checked_name
from d3.domain.services.models import ModelService
from d3.entrypoints.http.api.model import ModelController
from d3.entrypoints.http.api.schemas import architecture_of
from d3.entrypoints.http.console.guards import allows
from d3.entrypoints.http.console.problems import refusal
from d3.entrypoints.http.console.rendering import base_of, confirm, page
from d3.entrypoints.http.services import D3, Services


class ModelForm(Struct):
    """The form of a button: the name of its model."""

    name: str = ""


Sent = Annotated[ModelForm, Body(media_type=RequestEncodingType.URL_ENCODED)]


class ModelPages(Controller):
    """Models."""

    path = "/models"
    guards = (allows(Scope.MODELS),)

    @get("/")
    async def models(self, request: Request[Any, Any, Any], d3: D3) -> Template:
        """The list of models, and the one that is loaded."""
        return await _page(request, d3, done=str(request.query_params.get("done", "")))

    @post("/load", status_code=200)
    async def load(
        self, request: Request[Any, Any, Any], d3: D3, data: Sent
    ) -> Template | Redirect:
        """Load a model beside the old one."""
        name = data.name
        return await _do(request, d3, "load", lambda: d3.host.load(checked_name(name)))

    @get("/unload")
    async def ask_unload(self, request: Request[Any, Any, Any], d3: D3) -> Template:
        """Ask whether to unload the model."""
        model = d3.host.loaded()
        name = model.manifest.name if model else ""
        return confirm(request, d3, "unload", name=name, back="models")

    @post("/unload", status_code=200)
    async def unload(self, request: Request[Any, Any, Any], d3: D3) -> Template | Redirect:
        """Free the model's memory."""
        return await _do(request, d3, "unload", d3.host.unload)

    @post("/use", status_code=200)
    async def use(self, request: Request[Any, Any, Any], d3: D3, data: Sent) -> Template | Redirect:
        """Make a model the default."""
        name = data.name
        return await _do(request, d3, "use", lambda: d3.models.use(checked_name(name)))

    @get("/remove", guards=[allows(Scope.ADMIN)])
    async def ask_remove(self, request: Request[Any, Any, Any], d3: D3) -> Template:
        """Ask whether to remove a model."""
        name = str(request.query_params.get("name", ""))
        return confirm(request, d3, "remove", name=name, back="models", fields=[("name", name)])

    @post("/remove", status_code=200, guards=[allows(Scope.ADMIN)])
    async def remove(
        self, request: Request[Any, Any, Any], d3: D3, data: Sent
    ) -> Template | Redirect:
        """Remove a model and its files."""
        name = data.name
        return await _do(request, d3, "remove", lambda: d3.models.remove(checked_name(name)))

    @post("/verify", status_code=200)
    async def verify(
        self, request: Request[Any, Any, Any], d3: D3, data: Sent
    ) -> Template | Redirect:
        """Check a model's files against their hashes."""
        name = data.name
        return await _do(request, d3, "verify", lambda: d3.models.verify(checked_name(name)))

    @post("/upload", status_code=200, request_max_body_size=None)
    async def upload(self, request: Request[Any, Any, Any], d3: D3) -> Template | Redirect:
        """Store an uploaded head as a model. Scripts use the API instead and show progress."""
        try:
            await ModelController.upload.fn(self, request, d3)
        except D3Error as error:
            return await _page(request, d3, **refusal(request, error))
        return _done(request, "upload")


async def model_names(d3: Services, asked: str = "") -> list[str]:
    """The models' names for a form, with the one asked for; no others if the store is away."""
    try:
        names = [one.manifest.name for one in await d3.run_slowly(d3.models.list)]
    except D3Error:
        names = []
    return names if asked in ("", *names) else [*names, asked]


async def _do(
    request: Request[Any, Any, Any], d3: Services, action: str, work: Callable[[], object]
) -> Template | Redirect:
    try:
        await d3.run_slowly(work)
    except D3Error as error:
        return await _page(request, d3, **refusal(request, error))
    return _done(request, action)


def _done(request: Request[Any, Any, Any], action: str) -> Redirect:
    return Redirect(f"{base_of(request)}models?done={action}", status_code=303)


async def _page(
    request: Request[Any, Any, Any],
    d3: Services,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    sentence: str = "",
    done: str = "",
) -> Template:
    try:
        summaries, trouble = await d3.run_slowly(_summaries, d3.models)
    except D3Error as error:
        summaries, trouble, sentence = [], {}, sentence or str(error)
    return page(
        request,
        d3,
        "models",
        status=status,
        headers=headers,
        sentence=sentence,
        done=done,
        panel=d3.host.panel_in_use(),
        summaries=summaries,
        trouble=trouble,
        architecture_of=architecture_of,
        fixed=d3.settings.chief is not None,
    )


def _summaries(models: ModelService) -> tuple[list[ModelSummary], dict[str, D3Error | None]]:
    """The models, and by name why one cannot be used here."""
    found = models.list()
    return found, {one.manifest.name: models.trouble(one.manifest) for one in found}
