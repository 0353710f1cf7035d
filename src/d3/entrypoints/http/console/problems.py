"""Errors as pages, for browsers only, and redirects to the sign-in page."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.response import Redirect, Template
from litestar.types import ASGIApp

from d3.domain.errors import AccessRefused, D3Error, SessionEnded
from d3.entrypoints.http import errors
from d3.entrypoints.http.console.rendering import HEADERS, base_of, page
from d3.entrypoints.http.console.texts import PROBLEMS
from d3.entrypoints.http.errors import Problem

_PAGE_OF_A_FORM = re.compile(r"(?:history|scans)/[^/]+(?=/)|[^/]+")
"""Of the path that a form is sent to, the page to return to: a result's, a scan's or a section."""


def wants_page(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
    """Whether the client accepts HTML. A client without an Accept header accepts everything."""
    kinds = [
        one.partition(";")[0].strip() for one in connection.headers.get("accept", "*/*").split(",")
    ]
    return any(kind in ("text/html", "text/*", "*/*") for kind in kinds)


def problem_of(
    request: Request[Any, Any, Any], error: Exception
) -> tuple[Problem, Response[bytes]]:
    """The problem, and the response that programs get."""
    handlers = errors.HANDLERS
    handler = next(handlers[kind] for kind in type(error).__mro__ if kind in handlers)
    response: Response[bytes] = handler(request, error)
    return msgspec.json.decode(response.content, type=Problem), response


def sentence_of(problem: Problem) -> str:
    """The sentence for people: the console's own if it has one for this code."""
    return PROBLEMS.get(problem.code, problem.error)


def refusal(request: Request[Any, Any, Any], error: D3Error) -> dict[str, Any]:
    """The arguments of :func:`page` that show an error on a page."""
    problem, response = problem_of(request, error)
    return {
        "status": problem.status,
        "headers": HEADERS | response.headers,
        "sentence": sentence_of(problem),
    }


def answer_refused(application: Any, scope: Any, error: D3Error) -> ASGIApp | None:
    """The response of the access middleware to a refused browser; None for a program.

    Args:
        application: the Litestar application.
        scope: of the request, which has not reached the application.
        error: why it was refused.
    """
    seen: Any = {**scope, "app": application, "litestar_app": application}
    request: Request[Any, Any, Any] = Request(seen)
    if not _is_browser(request) and not _by_htmx(request):
        return None
    if isinstance(error, AccessRefused) and not application.d3.authenticator.by_host:
        return _to_sign_in(request, error).to_asgi_response(None, request)
    answer = _answer(request, error)
    return answer.to_asgi_response(None, request)


def _to_sign_in(request: Request[Any, Any, Any], error: AccessRefused) -> Response[Any]:
    """A redirect to the sign-in page, which leads back to the page that was asked for."""
    path = request.scope["path"].lstrip("/")
    if request.method in ("GET", "HEAD"):
        query = request.scope["query_string"].decode("latin-1")
        path = f"{path}?{query}" if query else path
    elif page_of_form := _PAGE_OF_A_FORM.match(path):
        path = page_of_form[0]
    why = error.reason if isinstance(error, SessionEnded) else ""
    wanted = urlencode({name: text for name, text in (("to", path), ("why", why)) if text})
    place = f"{base_of(request)}sign-in{'?' if wanted else ''}{wanted}"
    if _by_htmx(request):  # htmx would follow a redirect and look for a part of the page in it
        return Response(b"", status_code=401, headers=HEADERS | {"HX-Redirect": place})
    return Redirect(place, status_code=303, headers=HEADERS)


def _is_browser(request: Request[Any, Any, Any]) -> bool:
    """Whether somebody opened the address in a browser: programs do not name HTML."""
    return "text/html" in request.headers.get("accept", "")


def _by_htmx(request: Request[Any, Any, Any]) -> bool:
    return "hx-request" in request.headers


def _answer(request: Request[Any, Any, Any], error: Exception) -> Response[bytes] | Template:
    problem, response = problem_of(request, error)
    if not wants_page(request):
        return response
    return _as_page(request, problem, response)


def _answer_elsewhere(
    request: Request[Any, Any, Any], error: Exception
) -> Response[bytes] | Template:
    """Beside the console's pages, under ``/api`` too, only a browser gets a page."""
    problem, response = problem_of(request, error)
    if _is_browser(request):
        return _as_page(request, problem, response)
    response.headers.setdefault("Vary", "Accept")
    return response


def _as_page(
    request: Request[Any, Any, Any], problem: Problem, response: Response[bytes]
) -> Template:
    return page(
        request,
        request.app.d3,  # type: ignore[attr-defined]
        "problem",
        status=problem.status,
        headers=HEADERS | response.headers,
        sentence=sentence_of(problem),
        code=problem.code,
        request_id=problem.request_id,
    )


HANDLERS: Any = {D3Error: _answer, HTTPException: _answer, Exception: _answer}
"""Of the console's pages."""

HANDLERS_ELSEWHERE: Any = errors.HANDLERS | dict.fromkeys(HANDLERS, _answer_elsewhere)
"""Of all other addresses, known and unknown."""
