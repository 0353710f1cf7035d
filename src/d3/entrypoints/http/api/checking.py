"""Checks of every API request before its handler runs."""

from __future__ import annotations

from functools import cache
from typing import Any

from litestar import Request
from litestar.handlers import HTTPRouteHandler

from d3.entrypoints.http.api.forms import refuse_encoded, unknown_name

_NOT_IN_THE_ADDRESS = {"request", "d3", "data"}


async def check_request(request: Request[Any, Any, Any]) -> None:
    """Check that every query parameter is known and the body is not compressed.

    Raises:
        FormInvalid: a query parameter is unknown, which would otherwise be ignored.
        EncodingUnsupported: the body is compressed.
    """
    if not request.scope["path"].startswith("/api/"):
        return
    refuse_encoded(request)
    if request.scope["query_string"]:
        known = _parameters(request.scope["route_handler"])
        for name in request.query_params:
            if name not in known:
                raise unknown_name("parameter", name, known)


@cache
def _parameters(handler: HTTPRouteHandler) -> tuple[str, ...]:
    """The query parameters that a handler and its dependencies take, or that it reads by itself."""
    taken = set(handler.parsed_fn_signature.parameters) | set(handler.opt.get("parameters", ()))
    for name, provider in handler.resolve_dependencies().items():
        if name in taken:
            taken = (taken - {name}) | set(provider.parsed_fn_signature.parameters)
    taken -= _NOT_IN_THE_ADDRESS
    in_path = {name for path in handler.paths for name in taken if f"{{{name}:" in path}
    return tuple(sorted(taken - in_path))
