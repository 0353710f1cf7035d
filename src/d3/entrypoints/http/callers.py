"""The caller of a request, found by the access middleware, and the guard for scopes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from litestar.connection import ASGIConnection

from d3.domain.access import Caller
from d3.domain.accounts import Scope

CALLER = "caller"
"""The key of the caller in the state of a request's ASGI scope."""


def caller_of(request: ASGIConnection[Any, Any, Any, Any]) -> Caller:
    """The caller of this request."""
    caller: Caller = request.scope["state"][CALLER]
    return caller


def requires(scope: Scope) -> Callable[[ASGIConnection[Any, Any, Any, Any], Any], Awaitable[None]]:
    """A guard of handlers: it refuses callers without the scope before any body is read.

    It is asynchronous, because the framework runs other guards on a thread.

    The guard raises:
        AccessForbidden: the caller's key does not have the scope.
    """

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: Any) -> None:
        scope_of: Any = connection.scope
        if scope_of["method"] != "OPTIONS":  # a preflight carries no key and does nothing
            caller_of(connection).check(scope)

    return guard
