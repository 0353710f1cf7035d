"""Who may see a page: people only, and of them those whose key allows it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from litestar.connection import ASGIConnection
from litestar.exceptions import NotFoundException
from litestar.handlers import BaseRouteHandler

from d3.domain.accounts import Scope
from d3.domain.errors import AccessForbidden
from d3.entrypoints.http.callers import caller_of
from d3.entrypoints.http.console.problems import wants_page
from d3.entrypoints.http.console.texts import PROBLEMS, TEXTS
from d3.entrypoints.http.services import Services

Connection = ASGIConnection[Any, Any, Any, Any]
_SHOWN_NAMES = 3


async def people_only(connection: Connection, _: BaseRouteHandler) -> None:
    """A guard: clients that do not accept HTML get 404, as if there were no console."""
    if not wants_page(connection):
        raise NotFoundException


def allows(scope: Scope) -> Callable[[Connection, BaseRouteHandler], Awaitable[None]]:
    """A guard: callers without the scope are refused, and told whom to ask for it."""

    async def guard(connection: Connection, _: BaseRouteHandler) -> None:
        await check_allowed(connection, scope)

    return guard


async def check_allowed(connection: Connection, scope: Scope) -> None:
    """Check that the caller's key has the scope.

    Raises:
        AccessForbidden: it does not. The error names the administrators, who can give such a key.
    """
    caller = caller_of(connection)
    if caller.may(scope):
        return
    if caller.user_id is None and scope is Scope.ADMIN:
        raise AccessForbidden(PROBLEMS["not_admin"])
    try:
        caller.check(scope)
    except AccessForbidden as error:
        services: Services = connection.app.d3  # type: ignore[attr-defined]
        names = await services.query(services.accounts.administrators)
        if caller.key_id is None or not names:
            raise
        asked = ", ".join(names[:_SHOWN_NAMES])
        raise AccessForbidden(error.problem, TEXTS.problem.ask.format(names=asked)) from error
