"""The models of the service."""

from __future__ import annotations

from d3.client.calls.common import get, nothing, texts, whole
from d3.client.steps import Call, answer
from d3.client.uploads import File, Form
from d3.entrypoints.http.api.schemas import LoadedModelInfo, ModelInfo, ModelList, Uploaded

_PATH = "/api/model"


def models() -> Call[ModelList]:
    """All models."""
    return get(f"{_PATH}/list", ModelList, whole)


def model() -> Call[LoadedModelInfo]:
    """The model in use."""
    return get(f"{_PATH}/info", ModelInfo, lambda one: one.info)


def load_model(name: str | None = None) -> Call[None]:
    """Load a model; the active one unless given."""
    query = texts(name=name or None)
    return Call(method="POST", path=f"{_PATH}/load", read=nothing, query=query)


def unload_model() -> Call[None]:
    """Free the model's memory."""
    return Call(method="POST", path=f"{_PATH}/unload", read=nothing)


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
    fields = texts(name=name or None, architecture=architecture or None)
    form = Form(fields, [("file", None, head)])
    read = answer(Uploaded, whole)
    return Call(method="POST", path=f"{_PATH}/upload", read=read, body=form)
