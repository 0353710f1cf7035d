"""Signing in with an API key and out, by a session cookie that does not hold the key."""

from __future__ import annotations

import re
from typing import Annotated, Any

from litestar import Controller, Request, get, post
from litestar.datastructures import Cookie
from litestar.enums import RequestEncodingType
from litestar.params import Body
from litestar.response import Redirect, Template
from msgspec import Struct

from d3.domain.access import KEYLESS
from d3.domain.errors import AccessRefused, RateLimited, SessionEnded
from d3.entrypoints.http.callers import caller_of
from d3.entrypoints.http.console.problems import refusal
from d3.entrypoints.http.console.rendering import base_of, page
from d3.entrypoints.http.console.texts import TEXTS
from d3.entrypoints.http.middleware.access import SESSION_COOKIE
from d3.entrypoints.http.middleware.telemetry import RequestTelemetry
from d3.entrypoints.http.services import D3, Services

_MOST_BYTES = 16 * 1024
_PLACE = re.compile(r"[\w.~%-]+(?:/[\w.~%-]+)*(?:\?[\w.~%&=+:*!'(),;@$/?-]*)?", re.ASCII)
_REASONS = ("expired", "revoked", "disabled", "over")


class SignInForm(Struct):
    """The key that was typed, and the page to return to."""

    key: str = ""
    to: str = ""


Sent = Annotated[SignInForm, Body(media_type=RequestEncodingType.URL_ENCODED)]


class SignInPages(Controller):
    """Sign in and out."""

    path = "/"

    @get("/sign-in")
    async def form(self, request: Request[Any, Any, Any], d3: D3) -> Template:
        """The form for a key, with the reason if a session has ended."""
        why = str(request.query_params.get("why", ""))
        answer = _page(request, d3, str(request.query_params.get("to", "")), why=why)
        if why:
            answer.cookies.append(_forgotten())
        return answer

    @post("/sign-in", status_code=200, request_max_body_size=_MOST_BYTES)
    async def sign_in(
        self, request: Request[Any, Any, Any], d3: D3, data: Sent
    ) -> Template | Redirect:
        """Check a key and start a session."""
        headers: list[tuple[bytes, bytes]] = []
        address = RequestTelemetry.of(request.scope).address
        try:
            caller = await d3.authenticator.by_key(data.key.strip(), address, headers)
        except (AccessRefused, RateLimited) as error:
            how = refusal(request, error)
            how["headers"] |= {name.decode(): value.decode() for name, value in headers}
            refused = isinstance(error, AccessRefused)
            how["sentence"] = TEXTS.sign_in.refused if refused else TEXTS.sign_in.too_often
            return _page(request, d3, data.to, **how)
        token = await d3.authenticator.begin_session(str(caller.key_id))
        cookie = _cookie(token, secure=_by_https(request))
        return Redirect(f"{base_of(request)}{place_of(data.to)}", status_code=303, cookies=[cookie])

    @post("/sign-out", status_code=200)
    async def sign_out(self, request: Request[Any, Any, Any]) -> Redirect:
        """End the session."""
        return Redirect(f"{base_of(request)}sign-in", status_code=303, cookies=[_forgotten()])

    @get("/signed-in")
    async def signed_in(self, request: Request[Any, Any, Any], d3: D3) -> Template:
        """The page after signing in next to another page that waits for it."""
        return page(request, d3, "signed_in")


def place_of(text: str) -> str:
    """A path within the console; empty, which is its root, for anything else."""
    return text if _PLACE.fullmatch(text) and ".." not in text else ""


def _page(  # noqa: PLR0917
    request: Request[Any, Any, Any],
    d3: Services,
    to: str,
    status: int = 200,
    headers: dict[str, str] | None = None,
    sentence: str = "",
    why: str = "",
) -> Template:
    return page(
        request,
        d3,
        "sign_in",
        status=status,
        headers=headers,
        sentence=sentence,
        ended=str(SessionEnded(why)) if why in _REASONS else "",
        to=place_of(to),
        keyless=caller_of(request) is KEYLESS,
        hours=d3.settings.session_hours,
    )


def _by_https(request: Request[Any, Any, Any]) -> bool:
    """Whether the browser used HTTPS; behind a TLS proxy the Origin header shows it."""
    by_proxy = request.headers.get("origin", "").startswith("https://")
    return by_proxy or request.scope["scheme"] == "https"


def _cookie(value: str, *, secure: bool = False, max_age: int | None = None) -> Cookie:
    """The session cookie, which ends with the browser.

    It has no path, so the browser uses the folder of the sign-in page. That is the console's root
    under any prefix of a parent application.
    """
    return Cookie(
        SESSION_COOKIE,
        path="",
        value=value,
        max_age=max_age,
        secure=secure or None,
        httponly=True,
        samesite="strict",
    )


def _forgotten() -> Cookie:
    return _cookie("", max_age=0)
