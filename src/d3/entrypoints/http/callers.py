"""Who sends a request, as the access middleware found, and what they may do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litestar.connection import ASGIConnection

from d3.domain.access import Caller
from d3.domain.accounts import Scope

CALLER = "caller"
"""The caller's place in the state of a request's scope."""


def caller_of(request: ASGIConnection[Any, Any, Any, Any]) -> Caller:
    """Who sends this request."""
    caller: Caller = request.scope["state"][CALLER]
    return caller


def requires(scope: Scope) -> Callable[[ASGIConnection[Any, Any, Any, Any], Any], None]:
    """A guard of handlers: it refuses callers without the scope before any body is read.

    The guard raises:
        AccessForbidden: the caller's key does not have the scope.
    """

    def guard(connection: ASGIConnection[Any, Any, Any, Any], _: Any) -> None:
        if connection.scope["method"] != "OPTIONS":  # asks what is allowed, and does nothing
            caller_of(connection).check(scope)

    return guard
