"""Error responses: one body for all, ``application/problem+json`` (RFC 9457).

The message says what was wrong and what to do. It never holds a path, a traceback or a library's
own text.
"""

from __future__ import annotations

import errno
import logging
import math
import re
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, SerializationException, ValidationException

from d3.domain import errors as d3
from d3.entrypoints.http.choices import choices
from d3.entrypoints.http.mounting import prefix_of
from d3.entrypoints.http.waiting import ClientLeft, empty_response

_LOG = logging.getLogger("d3.http")
PROBLEM = "application/problem+json"

# The first class in an error's MRO that is listed here decides.
STATUS: dict[type[d3.D3Error], HTTPStatus] = {
    d3.IdempotencyKeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    d3.FormTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    d3.FormTooSlow: HTTPStatus.REQUEST_TIMEOUT,
    d3.FormNotMultipart: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    d3.EncodingUnsupported: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    d3.LinkUnavailable: HTTPStatus.UNPROCESSABLE_ENTITY,
    d3.LinksOff: HTTPStatus.FORBIDDEN,
    d3.ScanMismatch: HTTPStatus.CONFLICT,
    d3.ScanNotFound: HTTPStatus.NOT_FOUND,
    d3.ScanRunning: HTTPStatus.CONFLICT,
    d3.JobNotFound: HTTPStatus.NOT_FOUND,
    d3.SpoolFull: HTTPStatus.SERVICE_UNAVAILABLE,
    d3.SourceRefused: HTTPStatus.FORBIDDEN,
    d3.RequestInvalid: HTTPStatus.BAD_REQUEST,
    d3.RequestInFlight: HTTPStatus.CONFLICT,
    d3.ReservationLost: HTTPStatus.CONFLICT,
    d3.ResultNotFound: HTTPStatus.NOT_FOUND,
    d3.AccessRefused: HTTPStatus.UNAUTHORIZED,
    d3.AccessForbidden: HTTPStatus.FORBIDDEN,
    d3.RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    d3.UserNotFound: HTTPStatus.NOT_FOUND,
    d3.KeyNotFound: HTTPStatus.NOT_FOUND,
    d3.UserExists: HTTPStatus.CONFLICT,
    d3.UserBusy: HTTPStatus.CONFLICT,
    d3.KeyNotLive: HTTPStatus.CONFLICT,
    d3.KeyLimitReached: HTTPStatus.CONFLICT,
    d3.ImageEmpty: HTTPStatus.BAD_REQUEST,
    d3.ImageUnsupported: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    d3.DecodingInterrupted: HTTPStatus.SERVICE_UNAVAILABLE,
    d3.DecoderUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    d3.ImageTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    d3.ImageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    d3.ModelNotFound: HTTPStatus.NOT_FOUND,
    d3.ModelNotLoaded: HTTPStatus.SERVICE_UNAVAILABLE,
    d3.ModelNotServed: HTTPStatus.UNPROCESSABLE_ENTITY,
    d3.LoadInProgress: HTTPStatus.CONFLICT,
    d3.ModelNameInvalid: HTTPStatus.BAD_REQUEST,
    d3.ModelProtected: HTTPStatus.CONFLICT,
    d3.CheckpointInvalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    d3.ArchitectureUnavailable: HTTPStatus.UNPROCESSABLE_ENTITY,
    d3.ArchitectureUnsuitable: HTTPStatus.UNPROCESSABLE_ENTITY,
    d3.ModelDamaged: HTTPStatus.SERVICE_UNAVAILABLE,
    d3.ExplanationUnavailable: HTTPStatus.UNPROCESSABLE_ENTITY,
    d3.UserGone: HTTPStatus.UNAUTHORIZED,
    d3.EntryRefused: HTTPStatus.INTERNAL_SERVER_ERROR,
    d3.StorageFailed: HTTPStatus.SERVICE_UNAVAILABLE,
    d3.WebhookNotFound: HTTPStatus.NOT_FOUND,
    d3.DeliveryNotFound: HTTPStatus.NOT_FOUND,
    d3.WebhookLimitReached: HTTPStatus.CONFLICT,
    d3.SigningKeyMissing: HTTPStatus.CONFLICT,
    d3.SigningKeyInvalid: HTTPStatus.SERVICE_UNAVAILABLE,
    d3.CrossSite: HTTPStatus.FORBIDDEN,
    d3.DeviceOutOfMemory: HTTPStatus.SERVICE_UNAVAILABLE,
    d3.Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
    d3.D3Error: HTTPStatus.INTERNAL_SERVER_ERROR,
}

BEARER = 'Bearer realm="d3"'
"""What WWW-Authenticate says where a key is not accepted."""
_RETRY_AFTER_SECONDS = 5
_BROKE_OFF = "client disconnected prematurely"  # the framework reports it as a server error
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


class Problem(msgspec.Struct, kw_only=True):
    """The body of every error response.

    Attributes:
        success: always false.
        error: what was wrong and what to do about it, for people.
        code: a stable word for programs.
        type: a URI reference of the kind of problem: what it means stands there.
        title: the kind of problem, for people.
        status: the HTTP status.
        detail: the same sentence as ``error``.
        request_id: to find the request in the logs.
    """

    success: bool
    error: str
    code: str
    type: str
    title: str
    status: int
    detail: str
    request_id: str


def status_of(error: d3.D3Error) -> HTTPStatus:
    """The HTTP status of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def answer_d3_error(request: Request[Any, Any, Any], error: d3.D3Error) -> Response[bytes]:
    """The response to one of D3's errors, with its message and code."""
    status = status_of(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR and _is_exhausted(error):
        error, status = _exhausted(error), HTTPStatus.SERVICE_UNAVAILABLE
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, d3.Overloaded):
        _LOG.error("%s: %s", error.code, error, exc_info=error.__cause__)
    headers = {}
    if isinstance(error, d3.EncodingUnsupported):
        headers["Accept-Encoding"] = "identity"  # RFC 9110, section 12.5.3
    if isinstance(error, d3.UserGone):
        headers["WWW-Authenticate"] = BEARER
    if status is HTTPStatus.SERVICE_UNAVAILABLE or hasattr(error, "retry_after"):
        seconds = getattr(error, "retry_after", _RETRY_AFTER_SECONDS)
        headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    sentence = str(error)
    if error.code in _FOR_CALLERS:
        sentence = f"{error.problem} {_FOR_CALLERS[error.code]}"
    return problem(request, status, error.code, sentence, headers)


def answer_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """The response to one of the framework's errors, in D3's words."""
    status = HTTPStatus(error.status_code)
    if error.detail == _BROKE_OFF:
        return answer_d3_error(
            request, d3.FormInvalid("The upload was interrupted.", "Send it again.")
        )
    allow = {}
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        allow["Allow"] = ", ".join(_methods_of(request))
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        keys = {str(one["key"]) for one in error.extra if isinstance(one, dict) and "key" in one}
        fields = _fields_named(error.extra)
        named = ", ".join(sorted(fields or keys)) or "of the request"
        sentence = f"The parameter {named} is not valid. /schema describes it."
        if len(error.extra) == 1 and (words := choices(request, error.extra[0])):
            sentence = f"The parameter {named} is not valid. Choose from {', '.join(words)}."
        elif len(error.extra) == 1 and (limit := _limit_named(error.extra[0])):
            sentence = f"The parameter {named} must be {limit}. /schema describes it."
        if missing := _fields_named(error.extra, "missing required"):
            sentence = f"The field {', '.join(sorted(missing))} is missing. /schema describes it."
        return problem(request, HTTPStatus.BAD_REQUEST, "invalid_parameter", sentence, allow)
    code, sentence = _SENTENCES.get(status, ("invalid_request", "The request is not valid."))
    if status is HTTPStatus.BAD_REQUEST and isinstance(error.__cause__, SerializationException):
        sentence = f"The body is not valid JSON. {_ACCEPTED}"
    return problem(request, status, code, sentence, allow)


def _limit_named(said: Any) -> str:
    """The limit that a number does not keep, in words, taken from msgspec's message."""
    message = str(said.get("message", "")) if isinstance(said, dict) else ""
    found = re.search(r"Expected `(?:int|float)` (>=|<=|>|<) (-?[\d.]+\d|-?\d)", message)
    return f"{_LIMITS[found[1]]} {found[2]}" if found else ""


def _fields_named(said: list[Any], what: str = "unknown") -> set[str]:
    """Unknown or missing fields of a JSON body, taken from msgspec's message."""
    messages = (str(one.get("message", "")) for one in said if isinstance(one, dict))
    return {found[1] for one in messages if (found := re.search(rf"{what} field `(.*?)`", one))}


def _methods_of(request: Request[Any, Any, Any]) -> list[str]:
    """The methods allowed at the request's path; RFC 9110 requires them with every 405."""
    path = request.scope["path"].rstrip("/")
    routes = [
        route
        for route in request.app.routes
        if re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", route.path.rstrip("/")), path)
    ]
    if routes:  # for metrics and traces, to which the framework names only routes with a handler
        request.scope["path_template"] = routes[0].path
    known = {method for route in routes for method in getattr(route, "methods", ())}
    return sorted(known | {"HEAD"} if "GET" in known else known)


def answer_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The response to a bug: details go to the log only."""
    if _is_exhausted(error):
        return answer_d3_error(request, _exhausted(error))
    if isinstance(error, RecursionError) and "deserializing" in str(error):  # msgspec's words
        nested = d3.FormInvalid("The body is nested too deeply.", "/schema describes what to send.")
        return answer_d3_error(request, nested)
    _LOG.error("unexpected error", exc_info=error)
    sentence = (
        "An unexpected error occurred. Try again. If it happens again, report the request_id."
    )
    return problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", sentence)


def _is_exhausted(error: BaseException | None) -> bool:
    """Whether the cause, however deep, is a lack of file descriptors, processes or memory."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _EXHAUSTED:
            return True
        error = error.__cause__ or error.__context__
    return False


def _exhausted(error: Exception) -> d3.ResourcesExhausted:
    _LOG.error("the system is out of files, processes or memory", exc_info=error)
    return d3.ResourcesExhausted(
        "The service may open no more files or processes at the moment.",
        "Try again in a moment.",
        retry_after=_RETRY_AFTER_SECONDS,
    )


def problem(
    request: Request[Any, Any, Any],
    status: HTTPStatus,
    code: str,
    sentence: str,
    headers: dict[str, str] | None = None,
) -> Response[bytes]:
    """The response to a request that failed."""
    state = request.scope.get("state", {})
    state["error_code"] = code  # for the request's span
    request_id = state.get("request_id", "")
    return Response(
        problem_body(status, code, sentence, request_id, prefix_of(request.scope)),
        status_code=status.value,
        media_type=PROBLEM,
        headers=headers,
    )


def problem_body(
    status: HTTPStatus, code: str, sentence: str, request_id: str, prefix: str = ""
) -> bytes:
    """The encoded body of an error response; the prefix is the one D3 is mounted beneath."""
    return msgspec.json.encode(
        Problem(
            success=False,
            error=sentence,
            code=code,
            type=f"{prefix}/problems#{code}",
            title=status.phrase,
            status=status.value,
            detail=sentence,
            request_id=request_id,
        )
    )


_ACCEPTED = "/schema describes what this address accepts."
_LIMITS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_FOR_CALLERS = {
    "job_not_found": "`GET /api/jobs` shows all jobs.",
    "model_not_found": "`GET /api/model/list` shows all models.",
}
"""Remedies for those who call over HTTP, where the error's own names a command."""
_SENTENCES = {
    HTTPStatus.NOT_FOUND: (
        "not_found",
        "There is nothing at this address. /schema lists all addresses.",
    ),
    HTTPStatus.METHOD_NOT_ALLOWED: (
        "method_not_allowed",
        "This address does not support the method. /schema lists the supported ones.",
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
        "body_too_large",
        "The request's body is too large for this address. Send less at once.",
    ),
    HTTPStatus.BAD_REQUEST: (
        "invalid_request",
        f"The request is not valid. {_ACCEPTED}",
    ),
}

HANDLERS: Any = {
    d3.D3Error: answer_d3_error,
    ClientLeft: empty_response,
    HTTPException: answer_http_error,
    Exception: answer_unexpected,
}
