"""D3 as a part of a Litestar application, whose own users may use it.

uvicorn litestar_app:app
"""

from typing import Any

from litestar import Litestar, Request, asgi, get
from litestar.connection import ASGIConnection
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.types import Receive, Scope, Send

import d3
from d3.entrypoints.http import create_app

TOKENS = {"token-of-ada": "ada", "token-of-grace": "grace", "token-of-root": "root"}
ADMINS = {"root"}


class TokenAuthentication(AbstractAuthenticationMiddleware):
    """However your application knows its users: a token, a cookie, a session."""

    async def authenticate_request(
        self, connection: ASGIConnection[Any, Any, Any, Any]
    ) -> AuthenticationResult:
        token = connection.headers.get("Authorization", "").removeprefix("Bearer ")
        return AuthenticationResult(user=TOKENS.get(token), auth=token)


def authenticate(scope: Any) -> d3.HostUser | None:
    """Tells D3 what the middleware found."""
    if (user := scope["user"]) is None:
        return None
    return d3.HostUser(user, {"admin"} if user in ADMINS else {"predict", "read"})


detector = create_app(authenticate=authenticate)


@asgi("/detector", is_mount=True, copy_scope=True)
async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
    await detector(scope, receive, send)


@get("/me")
async def me(request: Request[str | None, str, Any]) -> dict[str, str | None]:
    return {"user": request.user}


app = Litestar(
    [mounted, me],
    middleware=[TokenAuthentication],
    lifespan=[lambda _: detector.lifespan()],  # the model is loaded before the first request
)
