"""``/api/jobs``: many images judged in the background, each with a result in the history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, BinaryIO
from urllib.parse import unquote, urlsplit

import msgspec
from litestar import Controller, Request, delete, get, post
from litestar.params import Parameter
from multipart import parse_options_header

from d3.domain.accounts import Scope
from d3.domain.errors import (
    FormInvalid,
    LinkInvalid,
    LinksOff,
    RequestInvalid,
    SourceRefused,
)
from d3.domain.history import LARGEST_ID, MAX_PAGE
from d3.domain.jobs import ID_PATTERN, ItemPlace, Job, NewItem, checked_external_id
from d3.domain.panels import panel_named
from d3.domain.scans import S3_SCHEME
from d3.domain.services.jobs.receiving import Receiving
from d3.domain.services.jobs.service import JobRequest, Started
from d3.domain.text import display_name
from d3.entrypoints.http.api import openapi
from d3.entrypoints.http.api.answers import Answer
from d3.entrypoints.http.api.forms import (
    Form,
    FormLimits,
    header_of,
    read_body,
    read_form,
    refuse_encoded,
    unknown_name,
)
from d3.entrypoints.http.api.history import sees
from d3.entrypoints.http.api.job_schemas import (
    FetchedJobRequest,
    JobItemRequest,
    JobPage,
    JobResults,
    OneJob,
    job_body,
    job_results,
)
from d3.entrypoints.http.callers import caller_of, requires
from d3.entrypoints.http.middleware.request_limits import streams_body
from d3.entrypoints.http.middleware.telemetry import RequestTelemetry
from d3.entrypoints.http.services import D3, Services
from d3.settings import Settings

_PATH = "/api/jobs"
_encode = msgspec.json.Encoder().encode
_COPIED_BYTES = 2**20
_QUESTION = ("threshold", "views", "panel", "panel_rule", "stability")
_FIELDS = ("files", "external_id", *_QUESTION, "callback", "every", "most")
_PART_OVERHEAD = 512
_FORM_OVERHEAD = 64 * 1024
_JSON_BYTES_PER_ITEM = 12 * 1024
_MOST_JSON_BYTES = 64 * 2**20
_REFUSALS = (400, 401, 403, 408, 409, 413, 415, 422, 429, 503)

Name = Annotated[
    str,
    Parameter(description="The `id` of the job.", schema_extra={"pattern": f"^{ID_PATTERN}$"}),
]
Limit = Annotated[int, Parameter(ge=1, le=MAX_PAGE, description="Number of items per page.")]
Offset = Annotated[int, Parameter(ge=0, le=LARGEST_ID, description="Number of jobs to skip.")]


class JobController(Controller):
    """Jobs."""

    path = _PATH
    tags = ("jobs",)

    @post(
        "/",
        operation_id="startJob",
        operation_class=openapi.JobOperation,
        guards=[requires(Scope.PREDICT)],
        status_code=202,
        summary="Judge many images in the background",
        responses=openapi.responses(OneJob, *_REFUSALS, success_status=202),
        request_max_body_size=None,
    )
    async def start(self, request: Request[Any, Any, Any], d3: D3) -> Answer:
        """Take many images and judge them in the background, each with a result in the history.

        Send the files as a form, or links and `s3://` objects as JSON. Answers as soon as all files
        are stored. Ask for `GET /api/jobs/{id}` now and then, or name a `callback` that is told.

        With an ``Idempotency-Key``, a repeated request gets the same answer and no second job.
        """
        refuse_encoded(request)
        kind, _ = parse_options_header(header_of(request, b"content-type") or "")
        begin = _start_fetched if kind == "application/json" else _start_received
        return await _answer(request, d3, await begin(request, d3))

    @get(
        "/",
        operation_id="listJobs",
        operation_class=openapi.DescribedOperation,
        guards=[requires(Scope.READ)],
        summary="List jobs",
        responses=openapi.problems(400, 401, 403, 429, 503),
    )
    async def jobs(
        self, request: Request[Any, Any, Any], d3: D3, limit: Limit = 50, offset: Offset = 0
    ) -> JobPage:
        """The caller's jobs, newest first; an administrator sees all."""
        found = await d3.query(d3.jobs.newest, limit, offset, sees(request))
        return JobPage(count=len(found), jobs=[job_body(one) for one in found])

    @get(
        "/{job_id:str}",
        operation_id="getJob",
        operation_class=openapi.DescribedOperation,
        guards=[requires(Scope.READ)],
        summary="Show a job and its results",
        responses=openapi.problems(400, 401, 403, 404, 429, 503),
    )
    async def job(
        self,
        request: Request[Any, Any, Any],
        d3: D3,
        job_id: Name,
        limit: Limit = 50,
        cursor: Annotated[
            str | None,
            Parameter(pattern="^[0-9]{1,9}$", description="`next_cursor` of the previous page."),
        ] = None,
    ) -> JobResults:
        """How far the job is, and a page of its images in the order sent, with their results."""
        after = int(cursor or 0)
        job, items = await d3.query(d3.jobs.page, job_id, after, limit, sees(request))
        return job_results(job, items, limit)

    @delete(
        "/{job_id:str}",
        operation_id="cancelJob",
        operation_class=openapi.DescribedOperation,
        guards=[requires(Scope.PREDICT)],
        status_code=200,
        summary="Cancel a job",
        responses=openapi.problems(400, 401, 403, 404, 429, 503),
    )
    async def cancel(self, request: Request[Any, Any, Any], d3: D3, job_id: Name) -> OneJob:
        """Cancel what has not begun. Results are kept, and a job that is done stays done."""
        whose = sees(request, Scope.PREDICT)
        return OneJob(job=job_body(await d3.query(d3.jobs.cancel, job_id, whose)))


class _SpoolSink:
    """Takes the files of a job into the spool."""

    def __init__(self, d3: Services, receiving: Receiving) -> None:
        self._d3 = d3
        self._receiving = receiving

    def begin(self, field: str, filename: str) -> bool:
        if field != "files":
            raise unknown_name("field", field, _FIELDS)
        self._receiving.begin(filename)
        return True

    def add(self, piece: bytes | bytearray) -> None:
        self._receiving.add(piece)

    def end(self) -> None:
        self._receiving.end()

    async def settle(self) -> None:
        if self._receiving.due:
            await self._d3.run_slowly(self._receiving.flush)


async def _start_received(request: Request[Any, Any, Any], d3: Services) -> Started:
    """Begin a job with the files of a form."""
    streams_body(request.scope)
    settings = d3.settings
    overhead = _FORM_OVERHEAD + _PART_OVERHEAD * settings.max_job_items
    limits = FormLimits(settings.max_job_bytes + overhead, 2 * settings.max_job_items + 16)
    announced = header_of(request, b"content-length") or "0"
    room = int(announced) if announced.isdecimal() and int(announced) <= limits.bytes else 0
    receiving = await d3.run_slowly(d3.jobs.receive, room)
    try:
        form = await read_form(request, limits, _SpoolSink(d3, receiving))
        form.only(*_FIELDS)
        form.all_files("files")  # says what is missing where there is none
        external_ids = _external_ids(form, receiving.count)
        asked = _asked_by_form(request, form)
        d3.clips.sampling(asked.every, asked.most)  # says at once what no clip could be judged by
    except BaseException:
        await asyncio.shield(d3.run_slowly(receiving.discard))
        raise
    body = _body_of
    work = d3.run_slowly(d3.jobs.start_received, receiving, asked, external_ids, body)
    return await asyncio.shield(work)


async def start_job_of_one(
    request: Request[Any, Any, Any], d3: Services, file: BinaryIO, name: str, asked: dict[str, Any]
) -> Answer:
    """Begin a job with one file that was received already; the answer to the request.

    Args:
        request: whose job it is.
        d3: the services.
        file: read from its start.
        name: for display.
        asked: how it is judged, see :class:`JobRequest`.
    """

    def start() -> Started:
        receiving = d3.jobs.receive()
        try:
            receiving.begin(name)
            file.seek(0)
            while piece := file.read(_COPIED_BYTES):
                receiving.add(piece)
                if receiving.due:
                    receiving.flush()
            receiving.end()
        except BaseException:
            receiving.discard()
            raise
        return d3.jobs.start_received(receiving, _asked(request, **asked), [], _body_of)

    return await _answer(request, d3, await asyncio.shield(d3.run_slowly(start)))


async def _answer(request: Request[Any, Any, Any], d3: Services, started: Started) -> Answer:
    await d3.query(d3.background.wake_jobs)
    name = msgspec.json.decode(started.body, type=OneJob).job.id
    root = str(request.scope.get("root_path") or "").rstrip("/")
    headers = [(b"location", f"{root}{_PATH}/{name}".encode())]
    headers += [(b"idempotency-replayed", b"true")] if started.replayed else []
    return Answer(started.body, headers, status=202)


async def _start_fetched(request: Request[Any, Any, Any], d3: Services) -> Started:
    """Begin a job whose items are named in JSON."""
    most = min(_MOST_JSON_BYTES, _FORM_OVERHEAD + _JSON_BYTES_PER_ITEM * d3.settings.max_job_items)
    try:
        sent = msgspec.json.decode(
            await read_body(request, FormLimits(most, 1)), type=FetchedJobRequest
        )
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormInvalid(
            f"The body is not a job in JSON: {error}.",
            'Send {"items": [{"url": "https://..."}]}.',
        ) from error
    items = [_fetched(n, one, d3.settings) for n, one in enumerate(sent.items, start=1)]
    asked = _asked(
        request,
        threshold=sent.threshold,
        views=sent.views or 1,
        panel=panel_named(sent.panel or ""),
        panel_rule=sent.panel_rule,
        stability=sent.stability,
        callback=sent.callback,
        every=sent.every,
        most=sent.most,
    )
    d3.clips.sampling(asked.every, asked.most)
    work = d3.run_slowly(d3.jobs.start_fetched, items, asked, _body_of)
    return await asyncio.shield(work)


def _body_of(job: Job) -> bytes:
    return _encode(OneJob(job=job_body(job, secret=True)))


def _fetched(number: int, sent: JobItemRequest, settings: Settings) -> tuple[ItemPlace, NewItem]:
    """An item that is named in JSON, and where it is.

    Raises:
        RequestInvalid: it names no source or several, or one that this service does not read.
    """
    if (sent.url is None) == (sent.s3 is None):
        raise RequestInvalid(
            f"Item {number} names no source, or two.", "Give each item either `url` or `s3`."
        )
    source = sent.url or sent.s3 or ""
    if sent.url is not None:
        if not settings.fetch_links:
            raise LinksOff(
                "This service does not fetch links.",
                "Send the images themselves, or set D3_FETCH_LINKS=True.",
            )
        path = _path_of(number, source)
    else:
        path = checked_object(source, settings)
    name = display_name(sent.name or path)
    item = NewItem(
        number=number, name=name, external_id=checked_external_id(sent.external_id), source=source
    )
    return (ItemPlace.S3 if sent.url is None else ItemPlace.LINK), item


def _path_of(number: int, url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise LinkInvalid(f"The link of item {number} is not one.", "Send one such as https://...")
    return unquote(parts.path.rstrip("/")) or parts.netloc


def checked_object(uri: str, settings: Settings) -> str:
    """The URI of an object that callers may have judged.

    Raises:
        RequestInvalid: the service has no S3 server.
        SourceRefused: it is not below one of ``D3_JOB_SOURCES``.
    """
    if settings.minio_endpoint is None:
        raise RequestInvalid("This service has no S3 server.", "Set MINIO_ENDPOINT.")
    below = any(uri.startswith(one) and len(uri) > len(one) for one in settings.job_sources)
    # What a proxy before the server might take for a way out of the prefix.
    if not below or "\0" in uri or {".", ".."} & set(uri.removeprefix(S3_SCHEME).split("/")):
        raise SourceRefused(
            "Callers may not have this object judged.",
            "Name objects below one of the prefixes in D3_JOB_SOURCES.",
        )
    return uri


def _external_ids(form: Form, count: int) -> list[str | None]:
    """An id for each file, in their order; or none at all."""
    sent = form.texts.get("external_id", [])
    if sent and len(sent) != count:
        raise RequestInvalid(
            f"There are {count} files and {len(sent)} fields `external_id`.",
            "Send one for each file, in the order of the files, or none.",
        )
    return [checked_external_id(one) for one in sent]


def _asked_by_form(request: Request[Any, Any, Any], form: Form) -> JobRequest:
    return _asked(
        request,
        threshold=form.threshold(),
        views=form.views(),
        panel=form.panel(),
        panel_rule=form.panel_rule(),
        stability=form.flag("stability"),
        callback=form.text("callback"),
        every=_number(form, "every", float, "Use seconds between 0 and 3600, such as 1."),
        most=_number(form, "most", int, "Use a whole number from 1 to 10000."),
    )


def _number(form: Form, name: str, kind: Callable[[str], Any], remedy: str) -> Any:
    text = form.text(name)
    if text is None:
        return None
    most = 3600 if kind is float else 10_000
    try:
        value = kind(text)
    except ValueError:
        value = 0
    if not 0 < value <= most:
        raise RequestInvalid(f"{name}={text[:40]!r} is not valid.", remedy)
    return value


def _asked(request: Request[Any, Any, Any], **values: Any) -> JobRequest:
    return JobRequest(
        **values,
        user_id=caller_of(request).user_id,
        request_id=RequestTelemetry.of(request.scope).request_id,
        idempotency_key=header_of(request, b"idempotency-key"),
    )
