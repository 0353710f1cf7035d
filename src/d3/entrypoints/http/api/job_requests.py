"""Reads requests for jobs: forms whose files go into the spool as they arrive, or JSON."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated, Any, BinaryIO
from urllib.parse import unquote, urlsplit

import msgspec
from litestar import Request
from multipart import parse_options_header

from d3.domain.errors import (
    D3Error,
    FormNotMultipart,
    LinkInvalid,
    LinksOff,
    RequestInvalid,
    SourceRefused,
)
from d3.domain.jobs import MAX_EXTERNAL_ID, Job, NewItem, checked_external_id
from d3.domain.panels import PanelRule, panel_named
from d3.domain.scans import S3_SCHEME
from d3.domain.services.jobs.receiving import Receiving, too_many
from d3.domain.services.jobs.service import JobRequest, Started
from d3.domain.text import display_name
from d3.domain.webhooks import LONGEST_URL
from d3.entrypoints.http.api.answers import Answer
from d3.entrypoints.http.api.bodies import JSON_ERRORS, what_is_wrong
from d3.entrypoints.http.api.forms import (
    Form,
    FormLimits,
    header_of,
    read_body,
    read_form,
    refuse_encoded,
    unknown_name,
)
from d3.entrypoints.http.api.job_schemas import (
    FetchedJobRequest,
    JobItemRequest,
    OneJob,
    job_body,
)
from d3.entrypoints.http.callers import caller_of
from d3.entrypoints.http.middleware.request_limits import streams_body
from d3.entrypoints.http.middleware.telemetry import RequestTelemetry
from d3.entrypoints.http.mounting import api_address
from d3.entrypoints.http.services import Services
from d3.settings import Settings

JOBS = "/api/jobs"
"""Where jobs are."""

_encode = msgspec.json.Encoder().encode
_EXAMPLE = '{"items": [{"url": "https://..."}]}'
_MEANT = {
    "items": "a list of one item or more",
    "threshold": "a number between 0 and 1",
    "views": "a whole number from 1 to 16",
    "panel": "a text of names, separated by commas",
    "panel_rule": f"one of {', '.join(PanelRule)}",
    "stability": "true or false",
    "callback": f"an address of at most {LONGEST_URL} characters",
    "every": "a number of seconds between 0 and 3600",
    "most": "a whole number from 1 to 10000",
}
_MEANT_OF_ITEM = {
    "url": "a link of at most 8192 characters",
    "s3": "an s3:// URI of at most 2048 characters",
    "name": "a text of at most 1024 characters",
    "external_id": f"a text of at most {MAX_EXTERNAL_ID} characters",
}
_COPIED_BYTES = 2**20
_QUESTION = ("threshold", "views", "panel", "panel_rule", "stability")
_FIELDS = ("files", "external_id", *_QUESTION, "callback", "every", "most")
_PART_OVERHEAD = 512
_FORM_OVERHEAD = 64 * 1024
_JSON_BYTES_PER_ITEM = 12 * 1024
_MOST_JSON_BYTES = 64 * 2**20


class _Sent(FetchedJobRequest, kw_only=True, forbid_unknown_fields=True):
    """Its items are decoded one by one: what is wrong with one says nothing of the others."""

    items: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)]  # type: ignore[assignment]


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


async def start_job(request: Request[Any, Any, Any], d3: Services) -> Answer:
    """Begin the job that a request asks for; the answer to it.

    Raises:
        D3Error: it asks for none, it cannot be judged so, or not be kept.
    """
    refuse_encoded(request)
    kind, _ = parse_options_header(header_of(request, b"content-type") or "")
    if kind == "application/json":
        return await _answer(request, d3, await _start_fetched(request, d3))
    if kind == "multipart/form-data":
        return await _answer(request, d3, await _start_received(request, d3))
    raise FormNotMultipart(
        "The body is neither a form nor JSON.",
        f"Send a form with `files`, as `curl -F files=@image.jpg` does, or JSON: {_EXAMPLE}.",
    )


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
    headers = [(b"location", api_address(request, f"jobs/{name}").encode("latin-1"))]
    headers += [(b"idempotency-replayed", b"true")] if started.replayed else []
    return Answer(started.body, headers, status=202)


async def _start_fetched(request: Request[Any, Any, Any], d3: Services) -> Started:
    """Begin a job whose items are named in JSON."""
    most = min(_MOST_JSON_BYTES, _FORM_OVERHEAD + _JSON_BYTES_PER_ITEM * d3.settings.max_job_items)
    body = await read_body(request, FormLimits(most, 1))
    try:
        sent = msgspec.json.decode(body, type=_Sent)
    except JSON_ERRORS as error:
        raise what_is_wrong(error, _MEANT, _EXAMPLE) from error
    if len(sent.items) > d3.settings.max_job_items:
        raise too_many(d3.settings.max_job_items)
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
    digest = hashlib.sha256(b",".join(map(bytes, sent.items))).hexdigest()
    work = d3.run_slowly(d3.jobs.start_fetched, items, asked, digest, _body_of)
    return await asyncio.shield(work)


def _body_of(job: Job) -> bytes:
    return _encode(OneJob(job=job_body(job, secret=True)))


def _fetched(number: int, raw: msgspec.Raw, settings: Settings) -> NewItem:
    """An item that is named in JSON; what is wrong with it is its own error."""
    sent, path = JobItemRequest(), ""
    external_id: str | None = None
    refused: D3Error | None = None
    try:
        sent = msgspec.json.decode(raw, type=JobItemRequest)
        external_id = checked_external_id(sent.external_id)
        path = _path_of(sent, settings)
    except JSON_ERRORS as error:
        refused = what_is_wrong(error, _MEANT_OF_ITEM, '{"url": "https://..."}')
    except D3Error as error:
        refused = error
    return NewItem(
        number=number,
        name=display_name(sent.name or path or sent.url or sent.s3 or ""),
        external_id=external_id,
        source=sent.url or sent.s3 or "",
        error=refused,
    )


def _path_of(sent: JobItemRequest, settings: Settings) -> str:
    """Where an item is, without the rest of its address.

    Raises:
        RequestInvalid: it names no source or several, or one that this service does not read.
    """
    if (sent.url is None) == (sent.s3 is None):
        raise RequestInvalid("The item has no source, or two.", "Give it either `url` or `s3`.")
    if sent.url is not None:
        if not settings.fetch_links:
            raise LinksOff(
                "This service does not fetch links.",
                "Send the images themselves. Its operator can set D3_FETCH_LINKS=True.",
            )
        return _path_of_link(sent.url)
    return checked_object(sent.s3 or "", settings)


def _path_of_link(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise LinkInvalid("The item's link is not one.", "Send one such as https://...")
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
            f"The number of fields `external_id` is {len(sent)}, that of files {count}.",
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
        every=form.every(),
        most=form.most(),
    )


def _asked(request: Request[Any, Any, Any], **values: Any) -> JobRequest:
    return JobRequest(
        **values,
        user_id=caller_of(request).user_id,
        request_id=RequestTelemetry.of(request.scope).request_id,
        idempotency_key=header_of(request, b"idempotency-key"),
    )
