"""Errors as pages, for people alone; and who may send the console's forms."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, NotFoundException
from litestar.handlers import BaseRouteHandler
from litestar.response import Template

from d3.domain.errors import CrossSite, D3Error
from d3.entrypoints.http import errors
from d3.entrypoints.http.errors import Problem
from d3.entrypoints.http.web.rendering import HEADERS, page
from d3.entrypoints.http.web.texts import PROBLEMS

_SAFE = {"GET", "HEAD", "OPTIONS"}


def people_only(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """To a program that wants no page there is none: it hears what it always heard."""
    if not wants_page(connection):
        raise NotFoundException


def same_site(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Forms are taken from the console's own pages only.

    Raises:
        CrossSite: the browser says that another site sent this one.
    """
    if connection.scope["method"] in _SAFE:  # type: ignore[typeddict-item]
        return
    site = connection.headers.get("sec-fetch-site")
    origin = connection.headers.get("origin")
    if site is not None:
        ours = site in ("same-origin", "none")
    else:
        ours = origin is None or urlsplit(origin).netloc == connection.headers.get("host")
    if not ours:
        raise CrossSite(PROBLEMS["cross_site"])


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
