"""Errors as pages, for people alone; and the way to the sign-in page for those it would help."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import msgspec
from litestar import Litestar, Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, NotFoundException
from litestar.handlers import BaseRouteHandler
from litestar.response import Redirect, Template
from litestar.types import ASGIApp

from d3.domain.errors import AccessRefused, D3Error, SessionEnded
from d3.entrypoints.http import errors
from d3.entrypoints.http.console.rendering import HEADERS, base_of, page
from d3.entrypoints.http.console.texts import PROBLEMS
from d3.entrypoints.http.errors import Problem


async def people_only(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """To a program that wants no page there is none: it hears what it always heard."""
    if not wants_page(connection):
        raise NotFoundException


def wants_page(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
    """Whether HTML is welcome: a browser says so, and who says nothing takes anything."""
    kinds = [
        one.partition(";")[0].strip() for one in connection.headers.get("accept", "*/*").split(",")
    ]
    return any(kind in ("text/html", "text/*", "*/*") for kind in kinds)


def problem_of(
    request: Request[Any, Any, Any], error: Exception
) -> tuple[Problem, Response[bytes]]:
    """What went wrong, as every face says it, and the answer that programs get."""
    handlers = errors.HANDLERS
    handler = next(handlers[kind] for kind in type(error).__mro__ if kind in handlers)
    response: Response[bytes] = handler(request, error)
    return msgspec.json.decode(response.content, type=Problem), response


def sentence_of(problem: Problem) -> str:
    """What people read: our own words for a page where there are some."""
    return PROBLEMS.get(problem.code, problem.error)


def refusal(request: Request[Any, Any, Any], error: D3Error) -> dict[str, Any]:
    """What :func:`page` takes to say on a page what went wrong there."""
    problem, response = problem_of(request, error)
    return {
        "status": problem.status,
        "headers": HEADERS | response.headers,
        "sentence": sentence_of(problem),
    }


def answer_refused(application: Litestar, scope: Any, error: D3Error) -> ASGIApp | None:
    """What the gate answers people whom it refuses; None where a program asks, or no text helps.

    Args:
        application: whose pages these are.
        scope: of the request, which the application has not seen.
        error: why it was refused.
    """
    seen: Any = {**scope, "app": application, "litestar_app": application}
    request: Request[Any, Any, Any] = Request(seen)
    if "text/html" not in request.headers.get("accept", "") and not _by_htmx(request):
        return None
    if isinstance(error, AccessRefused):
        return _to_sign_in(request, error).to_asgi_response(None, request)
    answer = _answer(request, error)
    return answer.to_asgi_response(None, request)


def _to_sign_in(request: Request[Any, Any, Any], error: AccessRefused) -> Response[Any]:
    """The way to the sign-in page, and from there back to where somebody wanted to go."""
    path = request.scope["path"].lstrip("/")
    if request.method in ("GET", "HEAD"):  # the page itself; after anything else, its section's
        query = request.scope["query_string"].decode("latin-1")
        path = f"{path}?{query}" if query else path
    else:
        path = path.partition("/")[0]
    why = error.reason if isinstance(error, SessionEnded) else ""
    wanted = urlencode({name: text for name, text in (("to", path), ("why", why)) if text})
    place = f"{base_of(request)}sign-in{'?' if wanted else ''}{wanted}"
    if _by_htmx(request):  # it would follow a redirect and look for its part of the page there
        return Response(b"", status_code=401, headers=HEADERS | {"HX-Redirect": place})
    return Redirect(place, status_code=303, headers=HEADERS)


def _by_htmx(request: Request[Any, Any, Any]) -> bool:
    return "hx-request" in request.headers


def _answer(request: Request[Any, Any, Any], error: Exception) -> Response[bytes] | Template:
    problem, response = problem_of(request, error)
    if not wants_page(request):
        return response
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
