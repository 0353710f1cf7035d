"""``/api/model``: the loaded model, the registry's models, and uploads."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from litestar import Controller, Request, get, post
from litestar.params import Parameter

from d3.domain.accounts import Scope
from d3.domain.errors import RequestInvalid, StorageFailed
from d3.domain.models import D3 as D3_ARCHITECTURE
from d3.domain.models import checked_name
from d3.domain.services.models import ModelService
from d3.domain.text import display_name
from d3.entrypoints.http.api import openapi
from d3.entrypoints.http.api.forms import FormLimits, StreamSink, read_form, read_texts
from d3.entrypoints.http.api.schemas import (
    Done,
    LoadedModelInfo,
    ModelDetails,
    ModelInfo,
    ModelList,
    ModelLoaded,
    Uploaded,
    architecture_of,
    details_of,
    members_of,
)
from d3.entrypoints.http.callers import requires
from d3.entrypoints.http.services import D3

_FORM_OVERHEAD = 64 * 1024


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Turn errors of the disk into errors of D3."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(
            f"The upload cannot be stored ({error.strerror or type(error).__name__}).",
            "Check the free space of the server's disk.",
        ) from error


class ModelController(Controller):
    """The model in use and those it could be."""

    path = "/api/model"
    tags = ("model",)

    @get(
        "/info",
        operation_id="getModelInfo",
        operation_class=openapi.DescribedOperation,
        summary="Describe the model in use",
        responses=openapi.problems(401, 403, 429),
    )
    async def info(self, d3: D3) -> ModelInfo:
        """The loaded model, its device and its precision, and the panel that it heads."""
        panel = d3.host.panel_in_use()
        if panel is None:
            return ModelInfo(
                info=LoadedModelInfo(
                    loaded=False, model_name=None, architecture="CLIP:ViT-L/14", device="none"
                )
            )
        manifest, detector = panel.chief.manifest, panel.chief.queue.detector
        members = members_of(panel)
        return ModelInfo(
            info=LoadedModelInfo(
                loaded=True,
                model_name=manifest.name,
                architecture=architecture_of(manifest),
                device=detector.device,
                precision=detector.precision,
                version=manifest.version,
                sha256=manifest.sha256,
                threshold=manifest.threshold,
                engine=detector.engine,
                notice=manifest.notice,
                panel=members,
                panel_rule=panel.rule if members else None,
            )
        )

    @post(
        "/load",
        operation_id="loadModel",
        guards=[requires(Scope.MODELS)],
        operation_class=openapi.DescribedOperation,
        status_code=200,
        summary="Load a model",
        responses=openapi.problems(400, 401, 403, 404, 409, 422, 429, 503),
    )
    async def load(
        self,
        request: Request[Any, Any, Any],
        d3: D3,
        name: Annotated[
            str | None,
            Parameter(max_length=100, description="Name of the model. Default: the default model."),
        ] = None,
    ) -> ModelLoaded:
        """Load a model. The old model keeps serving until the new one is ready.

        Send the name in the URL, as JSON (``{"name": "mine"}``) or as a form field.
        """
        sent = (await read_texts(request, "name")).get("name")
        if sent and name and sent != name:
            raise RequestInvalid(
                "The request names two models.", "Send one name, either in the URL or in the body."
            )
        given = sent or name
        wanted = checked_name(given) if given else None
        model = await d3.run_slowly(d3.host.load, wanted)
        return ModelLoaded(
            message="Model loaded successfully",
            model_name=model.manifest.name,
            version=model.manifest.version,
        )

    @post(
        "/unload",
        operation_id="unloadModel",
        guards=[requires(Scope.MODELS)],
        operation_class=openapi.DescribedOperation,
        status_code=200,
        summary="Unload the model",
        responses=openapi.problems(401, 403, 429),
    )
    async def unload(self, request: Request[Any, Any, Any], d3: D3) -> Done:
        """Free the model's memory. Predictions answer 503 until a model is loaded again."""
        await read_texts(request)
        was_there = await d3.run_slowly(d3.host.unload)
        return Done(message="Model unloaded successfully" if was_there else "No model was loaded")

    @get(
        "/list",
        operation_id="listModels",
        guards=[requires(Scope.MODELS)],
        operation_class=openapi.DescribedOperation,
        summary="List the registry's models",
        responses=openapi.problems(401, 403, 429, 503),
    )
    async def models(self, d3: D3) -> ModelList:
        """All models by name, each in its newest version."""
        details = await d3.run_slowly(_details, d3.models)
        names = [one.name for one in details]
        return ModelList(count=len(names), models=names, details=details)

    @post(
        "/upload",
        operation_id="uploadModel",
        guards=[requires(Scope.MODELS)],
        operation_class=openapi.UploadOperation,
        status_code=200,
        summary="Upload a model's file",
        responses=openapi.problems(400, 401, 403, 408, 409, 413, 415, 422, 429, 503),
        request_max_body_size=None,
    )
    async def upload(self, request: Request[Any, Any, Any], d3: D3) -> Uploaded:
        """Store a head such as ``classifier.pth``, or the only file of an architecture, as a model.

        The file is checked and never runs code. A head is combined with an encoder of its width.
        Uploading a name again creates a new version. Load the model to use it.
        """
        limits = FormLimits(d3.settings.max_model_bytes + _FORM_OVERHEAD, 8)
        with _disk_errors(), tempfile.NamedTemporaryFile(prefix="d3-upload-") as stream:
            form = await read_form(request, limits, StreamSink("file", stream))
            stream.flush()
            file = Path(stream.name)
            filename = display_name(form.file("file").name)
            form.only("file", "name", "architecture")
            name = checked_name(form.text("name") or filename)
            manifest = await d3.run_slowly(
                d3.models.import_file,
                name,
                file,
                architecture=form.text("architecture") or D3_ARCHITECTURE,
                provenance=f"uploaded as {filename}",
                called=filename,
            )
        return Uploaded(
            message="Model uploaded successfully",
            model_name=manifest.name,
            sha256=manifest.sha256,
            version=manifest.version,
        )


def _details(models: ModelService) -> list[ModelDetails]:
    return [details_of(one, models.trouble(one.manifest)) for one in models.list()]
