"""The door of the service: whose request this is, whether it may come, and how often.

A key in a header comes first. What a browser adds by itself, a session's cookie or its place on
this machine, counts only where no page of another site has it ask: that rule, for forms and for
calls, is :func:`d3.domain.access.comes_from_elsewhere`.

A plain ASGI wrapper before the framework, so that whatever is refused costs no reading and no
parsing, and a handler that forgets to ask is closed all the same.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from litestar import Request
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from d3.domain import access
from d3.domain.access import KEYLESS, UNAUTHENTICATED, UNRESTRICTED, Caller, Network
from d3.domain.errors import CrossSite, D3Error, HostInvalid, HostRefused, KeyMissing
from d3.entrypoints.http.authentication import Headers
from d3.entrypoints.http.callers import CALLER
from d3.entrypoints.http.errors import answer_d3_error
from d3.entrypoints.http.middleware.request_limits import RequestBounds
from d3.entrypoints.http.middleware.telemetry import RequestTelemetry
from d3.entrypoints.http.services import Services

SESSION_COOKIE = "d3_session"
SIGN_IN_PATHS = ("/sign-in", "/sign-out")
"""Where people come who have no key yet, or one no longer."""

_HEALTH = ("/health", "/health/live", "/health/ready")
_OPEN = ("/schema/", "/console/")
_BEARER = b"bearer "
_SAFE = ("GET", "HEAD", "OPTIONS")
_FORWARDED = (b"x-forwarded-for", b"forwarded", b"x-real-ip")


class AccessMiddleware:
    """Wraps an ASGI application.

    Args:
        application: what answers whoever may come in.
        d3: what the service works with.
        page: what to answer people who are refused; None where a program asks.
    """

    def __init__(
        self,
        application: ASGIApp,
        d3: Services,
        page: Callable[[Any, D3Error], Any] = lambda _scope, _error: None,
    ) -> None:
        self._application = application
        self._page = page
        self._d3 = d3
        settings = d3.settings
        self._auth = settings.auth
        self._hosts = tuple(map(access.host_of, settings.allowed_hosts))
        self._proxies: tuple[Network, ...] = tuple(
            map(ipaddress.ip_network, settings.trusted_proxies)
        )
        self._bounds = bounds = RequestBounds(settings)
        d3.metrics.watch(
            "d3_http_body_bytes",
            "Bytes held by request bodies.",
            lambda: bounds.body_bytes,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request in, or answer why not."""
        if str(scope["type"]) != "http":
            await self._application(scope, receive, send)
            return
        headers: Headers = []
        said, admitted = _said(scope), None
        try:
            _check_host(scope, said)
            if _is_open(scope["path"]):
                await self._greet(scope, said, headers)
            else:
                admitted = self._bounds.admit(scope, receive, send)
        except D3Error as error:
            await self._refuse(scope, receive, send, error, headers)
            return
        if admitted is None:
            await self._enter(scope, receive, send, UNAUTHENTICATED, headers)
            return
        try:
            try:
                caller = await self._admit(scope, said, headers)
                admitted.check_body()
            except D3Error as error:
                await self._refuse(scope, admitted.receive, admitted.send, error, headers)
            else:
                await self._enter(scope, admitted.receive, admitted.send, caller, headers)
        finally:
            admitted.close()

    async def _admit(self, scope: Any, said: _Said, headers: Headers) -> Caller:
        """Who asks; the headers of their rate are added to those of the answer."""
        if self._hosts and not access.goes_by(said.host, self._hosts):
            raise HostRefused(
                "The service does not accept this host name.",
                "Use a host name listed in D3_ALLOWED_HOSTS.",
            )
        address = await self._greet(scope, said, headers)
        if _is_preflight(scope):
            return UNAUTHENTICATED
        caller = await self._caller(scope, said, address, headers)
        if caller.key_id is not None:
            rate = self._d3.settings.rate_per_key
            await self._d3.authenticator.count(rate, f"key:{caller.key_id}", headers)
        RequestTelemetry.of(scope).user_id = caller.user_id
        return caller

    async def _greet(self, scope: Any, said: _Said, headers: Headers) -> str | None:
        """Where the request comes from; it counts there before anybody looks who it is."""
        address = self._address(scope, said)
        RequestTelemetry.of(scope).address = address
        counts = scope["path"] not in _HEALTH and not access.is_loopback(address)
        if address is not None and counts:
            rate, who = self._d3.settings.rate_per_address, access.household(address)
            await self._d3.authenticator.count(rate, f"address:{who}", headers)
        return address

    async def _caller(
        self, scope: Any, said: _Said, address: str | None, headers: Headers
    ) -> Caller:
        """Whose request it is: by its key, by its session, or by where it comes from."""
        if said.key is not None:
            if self._auth == "off":
                return UNRESTRICTED
            return await self._d3.authenticator.by_key(said.key, address, headers)
        changes = scope["method"] not in _SAFE
        elsewhere = said.comes_from_elsewhere(self._d3.settings.cors_origins, changes=changes)
        if elsewhere and changes:
            raise CrossSite
        if self._auth == "off":
            return UNRESTRICTED
        signing_in = scope["path"] in SIGN_IN_PATHS
        if said.session is not None and not signing_in:
            # What other pages may do, they do with keys of their own.
            foreign = said.comes_from_elsewhere((), changes=changes)
            caller = None if foreign else await self._d3.authenticator.by_session(said.session)
            if caller is not None:
                return caller
        if not elsewhere and self._needs_none(scope, said):
            return KEYLESS
        if signing_in:
            return UNAUTHENTICATED
        raise KeyMissing

    def _needs_none(self, scope: Any, said: _Said) -> bool:
        """Whether somebody on this machine asks this machine."""
        return (
            self._auth == "auto"
            and not said.forwarded
            and access.is_local_name(said.host)
            and access.is_loopback(_end(scope, "client"))
            and access.is_loopback(_end(scope, "server"))
        )

    def _address(self, scope: Any, said: _Said) -> str | None:
        peer = _end(scope, "client")
        if not self._proxies or not said.forwarded or peer is None:
            return peer
        found = {
            access.client_behind(self._proxies, peer, chain)
            for chain in (
                said.chain(b"x-forwarded-for"),
                access.forwarded_for(said.chain(b"forwarded")),
            )
            if chain
        }
        # A proxy writes one of the two, and passes the other on as its caller made it up: where
        # they disagree nobody is believed.
        return found.pop() if len(found) == 1 else peer

    async def _enter(
        self,
        scope: Any,
        receive: Receive,
        send: Send,
        caller: Caller,
        headers: Headers | None = None,
    ) -> None:
        scope["state"][CALLER] = caller
        if headers:
            await self._application(scope, receive, _with(headers, send))
        else:
            await self._application(scope, receive, send)

    async def _refuse(
        self,
        scope: Any,
        receive: Receive,
        send: Send,
        error: D3Error,
        headers: Headers | None = None,
    ) -> None:
        page = self._page(scope, error)
        if page is None:
            answer = answer_d3_error(Request(scope), error)
            if answer.status_code == HTTPStatus.UNAUTHORIZED:
                answer.headers["WWW-Authenticate"] = 'Bearer realm="d3"'
            page = answer.to_asgi_response(None, Request(scope))
        await page(scope, receive, _with(headers or [], send))


@dataclass(slots=True)
class _Said:
    """What a request's headers say that matters here."""

    host: str = ""
    hosts: int = 0
    origin: str | None = None
    site: str | None = None
    key: str | None = None
    session: str | None = None
    forwarded: Headers = field(default_factory=list)

    def chain(self, header: bytes) -> str:
        """The values of a proxies' header, by commas; empty where it was not sent."""
        return ",".join(value.decode("latin-1") for name, value in self.forwarded if name == header)

    def comes_from_elsewhere(self, allowed: Collection[str], *, changes: bool) -> bool:
        return access.comes_from_elsewhere(
            self.origin, self.site, self.host, allowed, changes=changes
        )


def _said(scope: Any) -> _Said:
    said = _Said()
    for name, value in scope["headers"]:
        if name == b"host":
            said.host = value.decode("latin-1")
            said.hosts += 1
        elif name == b"origin":
            said.origin = value.decode("latin-1")
        elif name == b"sec-fetch-site":
            said.site = value.decode("latin-1")
        elif name == b"cookie":
            said.session = said.session or _session(value.decode("latin-1"))
        elif name == b"authorization" and value[:7].lower() == _BEARER:
            said.key = value[7:].strip().decode("latin-1")
        elif name == b"x-api-key":
            said.key = value.strip().decode("latin-1")
        elif name in _FORWARDED:
            said.forwarded.append((name, value))
    return said


def _end(scope: Any, which: str) -> str | None:
    """The address of one end of the connection."""
    end = scope.get(which)
    return end[0] if end else None


def _session(cookies: str) -> str | None:
    for cookie in cookies.split(";"):
        name, _, value = cookie.strip().partition("=")
        if name == SESSION_COOKIE:
            return value
    return None


def _check_host(scope: Any, said: _Said) -> None:
    """One host and no more, as RFC 9112 wants; HTTP/1.0 had none yet."""
    if said.hosts != 1 and not (said.hosts == 0 and scope.get("http_version") == "1.0"):
        raise HostInvalid(
            "The request has no Host header, or several.", "Send exactly one Host header."
        )


def _is_open(path: str) -> bool:
    return path in _HEALTH or path == "/schema" or path.startswith(_OPEN)


def _is_preflight(scope: Any) -> bool:
    """A browser asks whether a page may ask; such a request carries no key and does nothing."""
    return scope["method"] == "OPTIONS" and any(
        name == b"access-control-request-method" for name, _ in scope["headers"]
    )


def _with(headers: Headers, send: Send) -> Send:
    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *headers]
        await send(message)

    return send_more
