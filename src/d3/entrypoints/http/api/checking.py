"""What every call of the API is checked for before it is worked on."""

from __future__ import annotations

from functools import cache
from typing import Any

from litestar import Request
from litestar.handlers import HTTPRouteHandler

from d3.entrypoints.http.api.forms import refuse_encoded, unknown_name

_NOT_IN_THE_ADDRESS = {"request", "d3", "data"}


def check_request(request: Request[Any, Any, Any]) -> None:
    """See that every parameter in the address means something, and that the body is plain.

    Raises:
        FormInvalid: a parameter is not known; it would be ignored without a word.
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
    """What a handler, and what is provided to it, take from behind the address's question mark."""
    taken = set(handler.parsed_fn_signature.parameters)
    for name, provider in handler.resolve_dependencies().items():
        if name in taken:
            taken = (taken - {name}) | set(provider.parsed_fn_signature.parameters)
    taken -= _NOT_IN_THE_ADDRESS
    in_path = {name for path in handler.paths for name in taken if f"{{{name}:" in path}
    return tuple(sorted(taken - in_path))
