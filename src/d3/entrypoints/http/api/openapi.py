"""The OpenAPI document: what the handlers' types do not say, and the interactive page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from http import HTTPStatus
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec
import msgspec.structs
from litestar import Request, Router, get
from litestar.enums import OpenAPIMediaType as MediaType
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import (
    Components,
    Contact,
    Encoding,
    Example,
    License,
    OpenAPI,
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    RequestBody,
    Schema,
    SecurityScheme,
    Tag,
)
from litestar.response import Redirect
from litestar.static_files import create_static_files_router

from d3.domain.clips import MOST_FRAMES
from d3.domain.jobs import MAX_EXTERNAL_ID
from d3.domain.panels import PanelRule
from d3.domain.webhooks import LONGEST_URL
from d3.entrypoints.http.api.examples import ANSWERS, ERRORS
from d3.entrypoints.http.errors import PROBLEM, Problem
from d3.entrypoints.http.mounting import address_of

_FILE = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
_URL = Schema(
    type=OpenAPIType.STRING,
    format=OpenAPIFormat.URI,
    description="A link to the image, instead of the file. Answers 403 unless the service has "
    "`D3_FETCH_LINKS` on. Fetches only from public web servers and answers 422 if that fails.",
)
_BASE64 = Schema(
    type=OpenAPIType.STRING,
    content_encoding="base64",
    description="The image's file in base64, instead of `url`.",
)
_NAME = Schema(
    type=OpenAPIType.STRING,
    description="Name of the image. In a form, the file has its name.",
    examples=["photo.jpg"],
)
_THRESHOLD = Schema(
    type=OpenAPIType.NUMBER,
    minimum=0,
    maximum=1,
    description="Threshold of the verdict. Default: the model's threshold.",
    examples=[0.5],
)
_VIEWS = Schema(
    type=OpenAPIType.INTEGER,
    minimum=1,
    maximum=16,
    default=1,
    description="Number of permutations to average. More take longer and show how certain the "
    "score is.",
)
_EXPLAIN = Schema(
    type=OpenAPIType.BOOLEAN,
    default=False,
    description="Adds a heat map of where the score comes from. This takes many times as long. "
    "Answers 422 if the engine in use cannot explain scores.",
)
_PANEL = {
    "panel": Schema(
        type=OpenAPIType.STRING,
        description="Names of models that judge together, separated by commas, the chief first. "
        "They must be loaded. Default: the panel of the service (`D3_PANEL`), if it has one. One "
        "name: that model alone.",
        examples=["d3-vit-l14,ferretnet-s"],
    ),
    "panel_rule": Schema(
        type=OpenAPIType.STRING,
        enum=list(PanelRule),
        description="How the opinions become one verdict. Default: `D3_PANEL_RULE`.",
    ),
    "stability": Schema(
        type=OpenAPIType.BOOLEAN,
        default=False,
        description="Judges the image again after harmless changes (JPEG, scaled, cropped, "
        "mirrored). The verdict is `uncertain` if one of them turns it. This takes about five "
        "times as long.",
    ),
}
_IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    param_in="header",
    description="For 24 hours, the same key with the same request gets the same answer and stores "
    "no second result. Answers 422 if the key was used for another request, and 409 while the "
    "first request is being answered.",
    schema=Schema(
        type=OpenAPIType.STRING,
        pattern=r"^[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?$",
    ),
)


_FRAMES = Schema(
    type=OpenAPIType.STRING,
    enum=["first", "all"],
    default="first",
    description="Which frames of an animated GIF, WebP, PNG or AVIF are judged. `all` gives one "
    "verdict and each frame in `clip`.",
)
_EXTERNAL_IDS = Schema(
    type=OpenAPIType.ARRAY,
    items=Schema(type=OpenAPIType.STRING, max_length=MAX_EXTERNAL_ID),
    description="Your own id of each file, in the order of the files. None, or as many as files.",
)
_ASKED = {
    "threshold": _THRESHOLD,
    "views": _VIEWS,
    "callback": Schema(
        type=OpenAPIType.STRING,
        max_length=LONGEST_URL,
        description="Address that is told when the job is over, as a webhook `job.finished`.",
        examples=["https://example.net/hooks/d3"],
    ),
    "every": Schema(
        type=OpenAPIType.NUMBER,
        exclusive_minimum=0,
        maximum=3600,
        description="Of a clip: seconds between the frames that are judged.",
    ),
    "most": Schema(
        type=OpenAPIType.INTEGER,
        minimum=1,
        maximum=MOST_FRAMES,
        description="Of a clip: the most frames that are judged.",
    ),
}


def _problem(status: int) -> dict[str, Any]:
    code, sentence = ERRORS[status]
    return {
        "success": False,
        "error": sentence,
        "code": code,
        "type": f"/problems#{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": sentence,
        "request_id": "0c1c6f1e5f3b4f7c9d3a2b1e8f7a6b5c",
    }


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """The error responses of a handler."""
    return {
        status: ResponseSpec(
            Problem,
            description=HTTPStatus(status).phrase,
            media_type=PROBLEM,
            generate_examples=False,
            examples=[Example(value=_problem(status))],
        )
        for status in statuses
    }


def responses(
    success: type[msgspec.Struct], *statuses: int, success_status: int = 200
) -> dict[int, ResponseSpec]:
    """The response that a handler encodes itself, and its error responses."""
    spec = ResponseSpec(
        success, description=HTTPStatus(success_status).description, generate_examples=False
    )
    return {success_status: spec} | problems(*statuses)


def _form(
    properties: dict[str, Schema],
    file: str,
    kind: str,
    example: dict[str, Any],
    *,
    required: bool = True,
) -> RequestBody:
    """The body of a call that takes a form.

    Args:
        properties: the form's fields.
        file: the field that holds files.
        kind: of these files.
        example: of the form.
        required: whether no other field can replace the files. Schemas could say which one does,
            but generators make a client of them that sends no body at all.
    """
    media = OpenAPIMediaType(
        schema=Schema(
            type=OpenAPIType.OBJECT,
            properties=dict(properties),
            required=[file] if required else None,
        ),
        examples={"form": Example(value=example)},
        encoding={file: Encoding(content_type=kind)},
    )
    return RequestBody(required=True, content={"multipart/form-data": media})


def _one_image(
    fields: dict[str, Schema], example: dict[str, Any]
) -> tuple[RequestBody, list[Parameter]]:
    """The ways in which a call takes one image: the body, and what the address may hold."""
    form = {"file": _FILE, "url": _URL} | fields
    body = _form(form, "file", "image/*", {"file": "photo.jpg"} | example, required=False)
    object_fields = {"image_base64": _BASE64, "url": _URL, "name": _NAME} | fields
    body.content["application/json"] = OpenAPIMediaType(
        schema=Schema(
            type=OpenAPIType.OBJECT,
            properties={name: _or_null(one) for name, one in object_fields.items()},
        ),
        examples={"link": Example(value={"url": "https://example.com/photo.jpg"} | example)},
    )
    for kind in ("image/*", "application/octet-stream"):
        body.content[kind] = OpenAPIMediaType(schema=_FILE)
    # A default would be sent by clients that are generated, beside the same field of a form.
    in_address = {"name": _NAME} | fields
    return body, [
        Parameter(
            name=name,
            param_in="query",
            description=one.description,
            schema=replace(one, description=None, default=None),
        )
        for name, one in in_address.items()
    ]


def _or_null(schema: Schema) -> Schema:
    """The schema of a field of JSON that may also be null."""
    assert isinstance(schema.type, OpenAPIType)
    values = None if schema.enum is None else [*schema.enum, None]
    return replace(schema, type=[schema.type, OpenAPIType.NULL], enum=values)


@dataclass
class DescribedOperation(Operation):
    """An operation that needs no key if it has no answer 401."""

    def __post_init__(self) -> None:
        """Say whether a key is needed."""
        if "401" not in (self.responses or {}):
            self.security = []


@dataclass
class PredictOperation(DescribedOperation):
    """One image, as a form, as JSON or as it is."""

    def __post_init__(self) -> None:
        """Describe the body and the parameters that the handler reads by itself."""
        super().__post_init__()
        fields = {"threshold": _THRESHOLD, "views": _VIEWS, "explain": _EXPLAIN} | _PANEL
        fields["frames"] = _FRAMES
        self.request_body, asked = _one_image(fields, {"threshold": 0.5, "views": 4})
        self.parameters = [*(self.parameters or []), *asked, _IDEMPOTENCY_KEY]


@dataclass
class ExplainOperation(DescribedOperation):
    """One image to be explained, as a form, as JSON or as it is."""

    def __post_init__(self) -> None:
        """Describe the body and the parameters that the handler reads by itself."""
        super().__post_init__()
        self.request_body, asked = _one_image({"views": _VIEWS}, {"views": 4})
        self.parameters = [*(self.parameters or []), *asked]


@dataclass
class PredictBatchOperation(DescribedOperation):
    """Several images, as a multipart form."""

    def __post_init__(self) -> None:
        """Describe the form and the header that the handler reads by itself."""
        super().__post_init__()
        files = Schema(type=OpenAPIType.ARRAY, items=_FILE, min_items=1)
        properties = {"files": files, "threshold": _THRESHOLD, "views": _VIEWS} | _PANEL
        example = {"files": ["photo.jpg", "drawing.png"], "threshold": 0.5}
        self.request_body = _form(properties, "files", "image/*", example)
        self.parameters = [*(self.parameters or []), _IDEMPOTENCY_KEY]


@dataclass
class PredictVideoOperation(DescribedOperation):
    """One video, as a multipart form."""

    def __post_init__(self) -> None:
        """Describe the form and the header that the handler reads by itself."""
        super().__post_init__()
        asked = {name: _ASKED[name] for name in ("threshold", "views", "every", "most", "callback")}
        properties = {"file": _FILE} | asked | _PANEL
        example = {"file": "clip.mp4", "every": 1, "most": 30}
        self.request_body = _form(properties, "file", "video/*", example)
        self.parameters = [*(self.parameters or []), _IDEMPOTENCY_KEY]


@dataclass
class JobOperation(DescribedOperation):
    """Many images, as a multipart form, or named in JSON."""

    def __post_init__(self) -> None:
        """Describe the form and the header that the handler reads by itself."""
        super().__post_init__()
        files = Schema(type=OpenAPIType.ARRAY, items=_FILE, min_items=1)
        properties = {"files": files, "external_id": _EXTERNAL_IDS} | _ASKED | _PANEL
        example = {"files": ["photo.jpg", "drawing.png"], "external_id": ["17/1", "17/2"]}
        self.request_body = _form(properties, "files", "*/*", example)
        listed = {
            "url": _URL,
            "s3": Schema(
                type=OpenAPIType.STRING,
                description="`s3://BUCKET/KEY`, below one of `D3_JOB_SOURCES`.",
            ),
            "name": Schema(type=OpenAPIType.STRING, description="Name for display."),
            "external_id": Schema(type=OpenAPIType.STRING, description="Your own id of it."),
        }
        items = Schema(
            type=OpenAPIType.ARRAY,
            items=Schema(type=OpenAPIType.OBJECT, properties=dict(listed)),
            min_items=1,
            description="Each with either `url` or `s3`.",
        )
        body = OpenAPIMediaType(
            schema=Schema(
                type=OpenAPIType.OBJECT,
                properties={"items": items, **_ASKED, **_PANEL},
                required=["items"],
            ),
            examples={
                "links": Example(value={"items": [{"url": "https://example.net/photo.jpg"}]})
            },
        )
        self.request_body.content["application/json"] = body
        self.parameters = [*(self.parameters or []), _IDEMPOTENCY_KEY]


@dataclass
class UploadOperation(DescribedOperation):
    """A model's file, as a multipart form."""

    def __post_init__(self) -> None:
        """Describe the form that the handler reads by itself."""
        super().__post_init__()
        name = Schema(
            type=OpenAPIType.STRING,
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
            description="Name of the model. Default: the name of the file.",
            examples=["classifier.pth"],
        )
        architecture = Schema(
            type=OpenAPIType.STRING,
            description="What the file is of: a head of d3 or ufd, or the only file of another "
            "architecture, such as ferretnet. Default: d3.",
            examples=["ferretnet"],
        )
        example = {"file": "classifier.pth", "name": "classifier.pth", "architecture": "d3"}
        properties = {"file": _FILE, "name": name, "architecture": architecture}
        self.request_body = _form(properties, "file", "application/octet-stream", example)


@dataclass
class ScanOperation(DescribedOperation):
    """A scan to begin, as JSON."""

    def __post_init__(self) -> None:
        """Put an example beside the body."""
        super().__post_init__()
        if isinstance(self.request_body, RequestBody):
            example = {"source": "s3://archive/2026/", "id": "archive-2026", "views": 2}
            for media in self.request_body.content.values():
                media.examples = {"scan": Example(value=example)}


@dataclass
class LabelOperation(DescribedOperation):
    """A label for one or many results, as JSON."""

    def __post_init__(self) -> None:
        """Put an example beside the body."""
        super().__post_init__()
        if isinstance(self.request_body, RequestBody):
            example = {"label": "real", "source": "photographer", "note": "Has the raw file."}
            many = {"ids": [17, 18]} if self.operation_id == "labelResults" else {}
            for media in self.request_body.content.values():
                media.examples = {"label": Example(value=many | example)}


@dataclass
class WebhookOperation(DescribedOperation):
    """A webhook to create or to change, as JSON."""

    def __post_init__(self) -> None:
        """Put an example beside the body."""
        super().__post_init__()
        if isinstance(self.request_body, RequestBody):
            new = {"url": "https://app.example.org/d3", "events": ["job.finished"]}
            example = new if self.operation_id == "createWebhook" else {"enabled": False}
            for media in self.request_body.content.values():
                media.examples = {"webhook": Example(value=example)}


@dataclass
class TextOperation(DescribedOperation):
    """An answer that is text, not JSON."""

    def __post_init__(self) -> None:
        """Describe the text."""
        super().__post_init__()
        for response in (self.responses or {}).values():
            if isinstance(response, OpenAPIResponse) and response.content:
                for kind, media in response.content.items():
                    if kind.startswith("text/") or kind == "application/jsonl":
                        media.schema = Schema(type=OpenAPIType.STRING)


@dataclass
class FileOperation(DescribedOperation):
    """An answer that is a file, not JSON."""

    def __post_init__(self) -> None:
        """Describe the file."""
        super().__post_init__()
        success = (self.responses or {}).get("200")
        if isinstance(success, OpenAPIResponse) and success.content:
            for media in success.content.values():
                media.schema = _FILE


_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)
"""Swagger UI writes inline styles; nothing else is allowed that is not a file of the page's own."""


class InteractivePage(OpenAPIRenderPlugin):
    """Swagger UI from the installed package; nothing is loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def receive_router(self, router: Router) -> None:
        """Serve the page's scripts and styles."""
        spec = find_spec("swagger_ui")
        assert spec is not None
        assert spec.origin is not None
        folders: list[Path | PathLike[Any] | str] = [
            Path(__file__).with_name("static"),
            Path(spec.origin).parent / "static",
        ]
        router.register(
            create_static_files_router(path="/assets", directories=folders, name="schema-assets")
        )

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page, which loads the document."""
        # Relative to the page: not every parent application passes on the prefix of its mount.
        below = address_of(request).endswith("/")
        base, root = (".", "..") if below else ("schema", ".")
        title = f"{openapi_schema['info']['title']} API"
        return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{title}</title>
<link rel="stylesheet" href="{base}/assets/swagger-ui.css">
<link rel="stylesheet" href="{base}/assets/schema.css">
<link rel="icon" type="image/png" href="{base}/assets/favicon-32x32.png">
<script src="{base}/assets/swagger-ui-bundle.js" defer></script>
<script src="{base}/assets/schema.js" defer></script>
</head>
<body>
<header><h1>{title}</h1>
<a href="{root}/">Console</a> <a href="{base}/openapi.json">OpenAPI</a></header>
<main id="page" data-document="{base}/openapi.json"></main>
</body>
</html>""".encode()


class Document(JsonRenderPlugin):
    """The document, with a server URL that is right under any prefix."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The document. Its server URL is relative to its own URL."""
        return super().render(request, openapi_schema | {"servers": [{"url": ".."}]})


def elsewhere() -> Router:
    """The router of the addresses where people and programs look first: /docs, /openapi.json."""

    @get("/docs")
    async def page(request: Request[Any, Any, Any]) -> Redirect:
        # Relative, as the page's own links.
        return Redirect("../schema" if address_of(request).endswith("/") else "schema")

    @get("/openapi.json", media_type=MediaType.OPENAPI_JSON)
    async def document(request: Request[Any, Any, Any]) -> bytes:
        # Not sent on to the other address: generators of clients do not follow.
        found = request.app.openapi_schema.to_schema()
        return Document.render_json(request, found | {"servers": [{"url": "."}]})

    return Router("/", route_handlers=[page, document], include_in_schema=False)


_SECURITY = {
    "bearer": SecurityScheme(
        type="http",
        scheme="bearer",
        description="A key of `d3 keys create`. By default, callers on the service's own machine "
        "need none.",
    ),
    "apiKey": SecurityScheme(
        type="apiKey", name="X-API-Key", security_scheme_in="header", description="The same key."
    ),
}


@dataclass
class _Described(OpenAPI):
    """The document; a field that may be absent is not described as a choice among one type.

    Answers have all other fields, also those that an object in Python need not be given.
    """

    @cached_property
    def _schema(self) -> dict[str, Any]:
        found = super().to_schema()
        # An example that Litestar writes has lost what is null.
        for path in found["paths"].values():
            for operation in path.values():
                if (example := ANSWERS.get(operation["operationId"])) is not None:
                    answers = operation["responses"]
                    success = answers.get("200") or answers["202"]
                    shown = {"answer": {"value": example}}
                    success["content"]["application/json"]["examples"] = shown
        structs = {struct.__name__: struct for struct in _subclasses(msgspec.Struct)}
        for name, kind in found["components"]["schemas"].items():
            fields = kind.get("properties", {})
            for field in fields.values():
                if len(field.get("oneOf", ())) == 1:
                    field.update(field.pop("oneOf")[0])
            struct = structs.get(name)
            if struct is not None and struct.__struct_config__.forbid_unknown_fields:
                continue  # what callers send
            if fields:
                kind["required"] = sorted(fields.keys() - _may_be_absent(struct))
        return found

    def to_schema(self) -> dict[str, Any]:
        return self._schema


def _subclasses(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for one in kind.__subclasses__():
        yield one
        yield from _subclasses(one)


def _may_be_absent(struct: type[msgspec.Struct] | None) -> set[str]:
    """Fields that an answer may leave out; one made of a dataclass leaves out none."""
    if struct is None:
        return set()
    every = msgspec.structs.fields(struct)
    if struct.__struct_config__.omit_defaults:
        return {one.name for one in every if not one.required}
    return {one.name for one in every if one.default is msgspec.UNSET}


class _Configuration(OpenAPIConfig):
    def to_openapi_schema(self) -> OpenAPI:
        return _Described(**vars(super().to_openapi_schema()))


def configuration(version: str) -> OpenAPIConfig:
    """The configuration of the document and its page."""
    return _Configuration(
        title="D3",
        version=version,
        description="Was this image made or altered by a generator? Every address below `/api/` is "
        "also there below `/api/v1/`, as the version that this document describes. Every error has "
        "the same body, `application/problem+json`, with a sentence in `error` and a stable code "
        "in `code`. "
        "Every answer has an `X-Request-Id`.",
        contact=Contact(name="The D3 maintainers"),
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        tags=[
            Tag(name="inference", description="Judge images."),
            Tag(name="jobs", description="Judge many images in the background."),
            Tag(name="history", description="Past results."),
            Tag(name="model", description="The model in use and all other models."),
            Tag(name="scans", description="Judge whole buckets in the background."),
            Tag(name="webhooks", description="Be told of what happens."),
            Tag(name="health", description="Health and metrics of the service."),
        ],
        components=Components(security_schemes=dict(_SECURITY)),
        security=[{name: []} for name in _SECURITY],
        use_handler_docstrings=True,
        path="/schema",
        render_plugins=[InteractivePage(), Document(path="/openapi.json")],
    )
