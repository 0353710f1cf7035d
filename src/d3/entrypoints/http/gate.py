"""The door of the service: whose request this is, whether it may come, and how often.

A plain ASGI wrapper before the framework, so that whatever is refused costs no reading and no
parsing, and a handler that forgets to ask is closed all the same.
"""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from d3.domain import access
from d3.domain.access import ANYBODY, KEYLESS, Caller, Network
from d3.domain.errors import (
    AccessRefused,
    D3Error,
    HostRefused,
    KeyMissing,
    Overloaded,
    RateLimited,
)
from d3.domain.ports_limits import Allowance
from d3.entrypoints.http.errors import answer_d3_error
from d3.entrypoints.http.observing import Observation
from d3.entrypoints.http.services import Services

_LOG = logging.getLogger("d3.http")
_OPEN = ("/health", "/health/live", "/health/ready", "/schema")
_STATE = "caller"
_NO_RATE = "none"
_BEARER = b"bearer "
_FORWARDED = (b"x-forwarded-for", b"forwarded", b"x-real-ip")


def caller_of(request: ASGIConnection[Any, Any, Any, Any]) -> Caller:
    """Who asks, as the gate found."""
    caller: Caller = request.scope["state"][_STATE]
    return caller


class Gate:
    """Wraps an ASGI application.

    Args:
        application: what answers whoever may come in.
        d3: what the service works with.
    """

    def __init__(self, application: ASGIApp, d3: Services) -> None:
        self._application = application
        self._d3 = d3
        settings = d3.settings
        self._auth = settings.auth
        self._hosts = frozenset(map(access.host_of, settings.allowed_hosts))
        self._proxies: tuple[Network, ...] = tuple(
            map(ipaddress.ip_network, settings.trusted_proxies)
        )
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request in, or answer why not."""
        if str(scope["type"]) != "http":
            await self._application(scope, receive, send)
            return
        path: Any = scope["path"]
        if _is_open(path):
            await self._enter(scope, receive, send, Caller(frozenset()))
            return
        if self._in_flight >= self._d3.settings.max_requests:
            busy = Overloaded("Too many requests are being answered.", "Try again in a moment.")
            await self._refuse(scope, receive, send, busy)
            return
        self._in_flight += 1
        try:
            headers: list[tuple[bytes, bytes]] = []
            caller = await self._admit(scope, headers)
            await self._enter(scope, receive, send, caller, headers)
        except _Refused as refused:
            await self._refuse(scope, receive, send, refused.error, refused.headers)
        finally:
            self._in_flight -= 1

    async def _admit(self, scope: Any, headers: list[tuple[bytes, bytes]]) -> Caller:
        """Who asks; the headers of their rate are added to those of the answer."""
        said = _said(scope)
        host, origin, key, forwarded = said.host, said.origin, said.key, said.forwarded
        named = host.decode("latin-1")
        if self._hosts and access.host_of(named) not in self._hosts:
            raise _Refused(
                HostRefused("The service does not go by this name.", "See D3_ALLOWED_HOSTS.")
            )
        client = scope.get("client")
        peer: str | None = client[0] if client else None
        address = self._address(peer, forwarded)
        Observation.of(scope).address = address
        if _is_preflight(scope):
            return Caller(frozenset())
        if self._auth == "off":
            caller = ANYBODY
        elif key is not None:
            caller = await self._by_key(key.decode("latin-1"), address)
        elif self._needs_none(scope, peer, named, origin, forwarded):
            caller = KEYLESS
        else:
            raise _Refused(KeyMissing())
        if address is not None and not access.is_loopback(address):
            rate = self._d3.settings.rate_per_address
            await self._count(rate, f"address:{address}", headers)
        if caller.key_id is not None:
            await self._count(self._d3.settings.rate_per_key, f"key:{caller.key_id}", headers)
        Observation.of(scope).user_id = caller.user_id
        return caller

    def _needs_none(
        self,
        scope: Any,
        peer: str | None,
        host: str,
        origin: bytes | None,
        forwarded: list[tuple[bytes, bytes]],
    ) -> bool:
        """Whether somebody on this machine asks this machine, and no web page does for them."""
        server = scope.get("server")
        return (
            self._auth == "auto"
            and not forwarded
            and access.is_local_name(host)
            and access.is_loopback(peer)
            and access.is_loopback(server[0] if server else None)
            and (
                origin is None
                or access.is_own_origin(
                    origin.decode("latin-1"), host, self._d3.settings.cors_origins
                )
            )
        )

    def _address(self, peer: str | None, forwarded: list[tuple[bytes, bytes]]) -> str | None:
        if not self._proxies or not forwarded or peer is None:
            return peer
        chain = b",".join(value for name, value in forwarded if name == b"x-forwarded-for")
        return access.client_behind(self._proxies, peer, chain.decode("latin-1"))

    async def _by_key(self, key: str, address: str | None) -> Caller:
        """Whose key it is; guesses from one address are counted, and good keys never shut out."""
        doorkeeper = self._d3.doorkeeper
        known = doorkeeper.known(key)
        if known is not None:
            return known
        rate, who = self._d3.settings.rate_failed_keys, f"failed:{address}"
        guess = rate != _NO_RATE and not doorkeeper.was_good(key)
        if guess and not (stands := await self._limit("look", rate, who)).allowed:
            raise _Refused(_too_often("API keys were refused", stands), _headers(stands))
        try:
            return await self._d3.query(lambda: doorkeeper.look_up(key))
        except AccessRefused as error:
            _LOG.warning("an API key was refused: %s", error.reason)
            if rate != _NO_RATE:
                await self._limit("hit", rate, who)
            raise _Refused(error) from error
        except D3Error as error:
            raise _Refused(error) from error

    async def _count(self, rate: str, who: str, headers: list[tuple[bytes, bytes]]) -> None:
        if rate == _NO_RATE:
            return
        stands = await self._limit("hit", rate, who)
        headers[:] = _headers(stands)
        if not stands.allowed:
            raise _Refused(_too_often("requests came", stands), headers)

    async def _limit(self, question: str, rate: str, who: str) -> Allowance:
        limiter = self._d3.limiter
        ask = limiter.hit if question == "hit" else limiter.look
        if limiter.waits:
            return await self._d3.query(lambda: ask(rate, who))
        return ask(rate, who)

    async def _enter(
        self,
        scope: Any,
        receive: Receive,
        send: Send,
        caller: Caller,
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        scope["state"][_STATE] = caller
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
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        answer = answer_d3_error(Request(scope), error)
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            answer.headers["WWW-Authenticate"] = 'Bearer realm="d3"'
        response: Any = answer.to_asgi_response(None, Request(scope))
        await response(scope, receive, _with(headers or [], send))


@dataclass(slots=True)
class _Said:
    """What a request's headers say that matters here."""

    host: bytes = b""
    origin: bytes | None = None
    key: bytes | None = None
    forwarded: list[tuple[bytes, bytes]] = field(default_factory=list)


def _said(scope: Any) -> _Said:
    said = _Said()
    for name, value in scope["headers"]:
        if name == b"host":
            said.host = value
        elif name == b"origin":
            said.origin = value
        elif name == b"authorization" and value[:7].lower() == _BEARER:
            said.key = value[7:].strip()
        elif name == b"x-api-key":
            said.key = value.strip()
        elif name in _FORWARDED:
            said.forwarded.append((name, value))
    return said


class _Refused(Exception):
    """Somebody stays outside."""

    def __init__(self, error: D3Error, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.headers = headers


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith(("/schema/", "/console/"))


def _is_preflight(scope: Any) -> bool:
    """A browser asks whether a page may ask; such a request carries no key and does nothing."""
    return scope["method"] == "OPTIONS" and any(
        name == b"access-control-request-method" for name, _ in scope["headers"]
    )


def _too_often(what: str, stands: Allowance) -> RateLimited:
    return RateLimited(
        f"Too many {what}.", "Try again when Retry-After says.", stands.reset_seconds, stands.limit
    )


def _headers(stands: Allowance) -> list[tuple[bytes, bytes]]:
    return [
        (b"ratelimit-limit", b"%d" % stands.limit),
        (b"ratelimit-remaining", b"%d" % stands.remaining),
        (b"ratelimit-reset", b"%d" % stands.reset_seconds),
    ]


def _with(headers: list[tuple[bytes, bytes]], send: Send) -> Send:
    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *headers]
        await send(message)

    return send_more
