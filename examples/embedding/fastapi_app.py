"""D3 as a part of a FastAPI application, whose own users may use it.

uvicorn fastapi_app:app
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from fastapi.requests import HTTPConnection

import d3
from d3.entrypoints.http import create_app

TOKENS = {"token-of-ada": "ada", "token-of-grace": "grace", "token-of-root": "root"}
ADMINS = {"root"}


def user_of(connection: HTTPConnection) -> str | None:
    """However your application knows its users: a token, a cookie, a session."""
    token = connection.headers.get("Authorization", "").removeprefix("Bearer ")
    return TOKENS.get(token)


def current_user(connection: HTTPConnection) -> str:
    if (user := user_of(connection)) is None:
        raise HTTPException(401, "Who are you?")
    return user


def authenticate(scope: Any) -> d3.HostUser | None:
    """The same for D3, which asks with each request."""
    if (user := user_of(HTTPConnection(scope))) is None:
        return None
    return d3.HostUser(user, {"admin"} if user in ADMINS else {"predict", "read"})


detector = create_app(authenticate=authenticate)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with detector.lifespan():  # the model is loaded before the first request
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/detector", detector)  # the API, the console and the health checks


@app.get("/me")
def me(user: Annotated[str, Depends(current_user)]) -> dict[str, str]:
    return {"user": user}
