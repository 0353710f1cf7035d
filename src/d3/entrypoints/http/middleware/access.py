"""Access control: who the caller is, whether they may call, and how often.

A key in a header is checked first. Credentials that a browser adds by itself, which are the session
cookie and access from this machine without a key, count only if no page of another site made the
request (:func:`d3.domain.access.comes_from_elsewhere`). Where D3 is part of an application that
authenticates its users itself, that application alone is asked, and by the same rule.

This is ASGI middleware in front of the framework: a refused request is neither read nor parsed, and
a handler without a guard is still not public.
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
from d3.domain.errors import CrossSite, D3Error, HostInvalid, HostRefused, KeyMissing, NotSignedIn
from d3.entrypoints.http.authentication import Headers
from d3.entrypoints.http.callers import CALLER
from d3.entrypoints.http.errors import BEARER, answer_d3_error
from d3.entrypoints.http.middleware.request_limits import RequestLimits
from d3.entrypoints.http.middleware.telemetry import RequestTelemetry
from d3.entrypoints.http.mounting import host_scope_of
from d3.entrypoints.http.services import Services

SESSION_COOKIE = "d3_session"
SIGN_IN_PATHS = ("/sign-in", "/sign-out")
"""Pages that need no key."""

_HEALTH = ("/health", "/health/live", "/health/ready")
_PUBLIC = ("/schema", "/docs", "/openapi.json", "/problems", "/api/evidence/key")
_OPEN = ("/schema/", "/console/")
_BEARER = b"bearer "
_SAFE = ("GET", "HEAD", "OPTIONS")
_TO_THE_HOST = "Send it from a page of the application, or of an origin in D3_CORS_ORIGINS."
_FORWARDED = (b"x-forwarded-for", b"forwarded", b"x-real-ip")


class AccessMiddleware:
    """Wraps an ASGI application.

    Args:
        application: answers the requests that are let through.
        d3: the services.
        page: makes the page for a refused browser; gives None for a program.
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
        self._limits = limits = RequestLimits(settings)
        d3.metrics.watch(
            "d3_http_body_bytes",
            "Bytes held by request bodies.",
            lambda: limits.body_bytes,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or answer why not."""
        if str(scope["type"]) != "http":
            await self._application(scope, receive, send)
            return
        headers: Headers = []
        sent, limited = _access_headers(scope), None
        try:
            _check_host(scope, sent)
            if _is_open(scope["path"]):
                await self._count_address(scope, sent, headers)
            else:
                limited = self._limits.begin(scope, receive, send)
        except D3Error as error:
            await self._refuse(scope, receive, send, error, headers)
            return
        if limited is None:
            await self._pass_on(scope, receive, send, UNAUTHENTICATED, headers)
            return
        try:
            try:
                caller = await self._authorise(scope, sent, headers)
                limited.check_body()
            except D3Error as error:
                await self._refuse(scope, limited.receive, limited.send, error, headers)
            else:
                await self._pass_on(scope, limited.receive, limited.send, caller, headers)
        finally:
            limited.close()

    async def _authorise(self, scope: Any, sent: _AccessHeaders, headers: Headers) -> Caller:
        """The caller. The headers of their rate limit are added to ``headers``."""
        if self._hosts and not access.is_named(sent.host, self._hosts):
            raise HostRefused(
                "The service does not accept this host name.",
                "Use a host name listed in D3_ALLOWED_HOSTS.",
            )
        address = await self._count_address(scope, sent, headers)
        if _is_preflight(scope):
            return UNAUTHENTICATED
        if self._d3.authenticator.by_host:
            caller = await self._user(scope, sent)
        else:
            caller = await self._caller(scope, sent, address, headers)
        whose = f"key:{caller.key_id}" if caller.key_id is not None else f"user:{caller.user_id}"
        if caller.user_id is not None:
            rate = self._d3.settings.rate_per_key
            await self._d3.authenticator.count(rate, whose, headers)
        RequestTelemetry.of(scope).user_id = caller.user_id
        return caller

    async def _count_address(
        self, scope: Any, sent: _AccessHeaders, headers: Headers
    ) -> str | None:
        """The client's address. The request counts for the address before its key is checked."""
        address = self._address(scope, sent)
        RequestTelemetry.of(scope).address = address
        counts = scope["path"] not in _HEALTH and not access.is_loopback(address)
        if address is not None and counts:
            rate, who = self._d3.settings.rate_per_address, access.counted_address(address)
            await self._d3.authenticator.count(rate, f"address:{who}", headers)
        return address

    async def _caller(
        self, scope: Any, sent: _AccessHeaders, address: str | None, headers: Headers
    ) -> Caller:
        """The caller, by key, by session, or by being on this machine."""
        if sent.key is not None:
            if self._auth == "off":
                return UNRESTRICTED
            return await self._d3.authenticator.by_key(sent.key, address, headers)
        changes = scope["method"] not in _SAFE
        cross_site = sent.comes_from_elsewhere(self._d3.settings.cors_origins, changes=changes)
        if cross_site and changes:
            raise CrossSite
        if self._auth == "off":
            return UNRESTRICTED
        signing_in = scope["path"] in SIGN_IN_PATHS
        if sent.session is not None and not signing_in:
            # Pages of other origins need a key; they may not use the session.
            foreign = sent.comes_from_elsewhere((), changes=changes)
            caller = None if foreign else await self._d3.authenticator.by_session(sent.session)
            if caller is not None:
                return caller
        if not cross_site and self._is_local(scope, sent):
            return KEYLESS
        if signing_in:
            return UNAUTHENTICATED
        raise KeyMissing

    async def _user(self, scope: Any, sent: _AccessHeaders) -> Caller:
        """The caller whom the host application names, perhaps by a cookie: so no foreign page's."""
        changes = scope["method"] not in _SAFE
        named = [one for one in self._d3.settings.cors_origins if one != "*"]  # any page is foreign
        if sent.comes_from_elsewhere(named, changes=changes):
            raise CrossSite(_TO_THE_HOST) if changes else NotSignedIn
        return await self._d3.authenticator.user_of(host_scope_of(scope))

    def _is_local(self, scope: Any, sent: _AccessHeaders) -> bool:
        """Whether the request comes from this machine and needs no key."""
        return (
            self._auth == "auto"
            and not sent.forwarded
            and access.is_local_name(sent.host)
            and access.is_loopback(_address_of(scope, "client"))
            and access.is_loopback(_address_of(scope, "server"))
        )

    def _address(self, scope: Any, sent: _AccessHeaders) -> str | None:
        peer = _address_of(scope, "client")
        if not sent.forwarded or not (self._proxies if peer else _on_unix_socket(scope)):
            return peer
        found = {
            access.client_behind(self._proxies, peer, chain)
            for chain in (
                sent.chain(b"x-forwarded-for"),
                access.forwarded_for(sent.chain(b"forwarded")),
            )
            if chain
        }
        # A proxy sets one of the two headers and passes the other on as the client sent it. If they
        # disagree, neither is trusted.
        return found.pop() if len(found) == 1 else peer

    async def _pass_on(
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
                answer.headers["WWW-Authenticate"] = BEARER
            page = answer.to_asgi_response(None, Request(scope))
        await page(scope, receive, _with(headers or [], send))


@dataclass(slots=True)
class _AccessHeaders:
    """The headers of a request that matter for access."""

    host: str = ""
    hosts: int = 0
    origin: str | None = None
    site: str | None = None
    key: str | None = None
    session: str | None = None
    forwarded: Headers = field(default_factory=list)

    def chain(self, header: bytes) -> str:
        """The values of a proxy header, joined by commas; empty if it was not sent."""
        return ",".join(value.decode("latin-1") for name, value in self.forwarded if name == header)

    def comes_from_elsewhere(self, allowed: Collection[str], *, changes: bool) -> bool:
        return access.comes_from_elsewhere(
            self.origin, self.site, self.host, allowed, changes=changes
        )


def _access_headers(scope: Any) -> _AccessHeaders:
    sent = _AccessHeaders()
    for name, value in scope["headers"]:
        if name == b"host":
            sent.host = value.decode("latin-1")
            sent.hosts += 1
        elif name == b"origin":
            sent.origin = value.decode("latin-1")
        elif name == b"sec-fetch-site":
            sent.site = value.decode("latin-1")
        elif name == b"cookie":
            sent.session = sent.session or _session(value.decode("latin-1"))
        elif name == b"authorization" and value[:7].lower() == _BEARER:
            sent.key = value[7:].strip().decode("latin-1")
        elif name == b"x-api-key":
            sent.key = value.strip().decode("latin-1")
        elif name in _FORWARDED:
            sent.forwarded.append((name, value))
    return sent


def _on_unix_socket(scope: Any) -> bool:
    """Whether the connection is one; the other end of a broken one is not known either."""
    server = scope.get("server")
    return bool(server) and server[1] is None


def _address_of(scope: Any, which: str) -> str | None:
    """The address of the connection's ``client`` or ``server`` end."""
    end = scope.get(which)
    return end[0] if end else None


def _session(cookies: str) -> str | None:
    for cookie in cookies.split(";"):
        name, _, value = cookie.strip().partition("=")
        if name == SESSION_COOKIE:
            return value
    return None


def _check_host(scope: Any, sent: _AccessHeaders) -> None:
    """Check that there is exactly one Host header (RFC 9112); HTTP/1.0 needs none."""
    if sent.hosts != 1 and not (sent.hosts == 0 and scope.get("http_version") == "1.0"):
        raise HostInvalid(
            "The request has no Host header, or several.", "Send exactly one Host header."
        )


def _is_open(path: str) -> bool:
    return path in _HEALTH or path in _PUBLIC or path.startswith(_OPEN)


def _is_preflight(scope: Any) -> bool:
    """Whether this is a CORS preflight, which carries no key and does nothing."""
    return scope["method"] == "OPTIONS" and any(
        name == b"access-control-request-method" for name, _ in scope["headers"]
    )


def _with(headers: Headers, send: Send) -> Send:
    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *headers]
        await send(message)

    return send_more
