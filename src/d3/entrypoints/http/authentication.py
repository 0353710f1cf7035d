"""Who a caller is, by key, by session or by the host application, and how often they may call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from inspect import isawaitable
from typing import Any, TypeAlias

from litestar.utils import is_async_callable

from d3.domain.access import Caller
from d3.domain.accounts import HostUser, Scope
from d3.domain.errors import (
    AccessRefused,
    HostFailed,
    NotSignedIn,
    RateLimited,
    SessionEnded,
    shown,
)
from d3.domain.ports.accounts import Allowance, RateLimiter, Sessions
from d3.domain.services.key_cache import KeyCache

Headers = list[tuple[bytes, bytes]]
Authenticate: TypeAlias = Callable[[Any], HostUser | Awaitable[HostUser | None] | None]
"""Gives the user of an ASGI scope, or None for nobody: what a host application hands to D3."""

_LOG = logging.getLogger("d3.http")
_NO_RATE = "none"


class Authenticator:
    """Checks keys, sessions and users for the access middleware and the sign-in page.

    Args:
        key_cache: looks up keys.
        sessions: makes the reader of session cookies, when the first one arrives.
        limiter: counts requests and refused keys.
        query: runs blocking calls on the threads for queries.
        rate_failed_keys: refused keys allowed for one address, such as ``"10/minute"``.
        host: the host application's own authentication; None where D3 stands alone.
    """

    def __init__(
        self,
        key_cache: KeyCache,
        sessions: Callable[[], Sessions],
        limiter: RateLimiter,
        query: Callable[[Callable[[], Any]], Awaitable[Any]],
        rate_failed_keys: str,
        *,
        host: Authenticate | None = None,
    ) -> None:
        self._host = host
        self._key_cache = key_cache
        self._make_sessions = sessions
        self._sessions: Sessions | None = None
        self._limiter = limiter
        self._query = query
        self._rate_failed_keys = rate_failed_keys

    @property
    def by_host(self) -> bool:
        """Whether the host application, and nothing else, says who calls."""
        return self._host is not None

    async def user_of(self, scope: Any) -> Caller:
        """The caller whom the host application has authenticated.

        Raises:
            NotSignedIn: it knows of none.
            HostFailed: it raised something, or gave no :class:`d3.HostUser`; the log says what.
            Exception: its framework's own answer, such as an ``HTTPException``.
            AccessForbidden: the account is disabled in D3.
            StorageFailed: the accounts cannot be used.
        """
        try:
            user = await self._ask_host(scope)
        except Exception as error:
            if isinstance(getattr(error, "status_code", None), int):
                raise
            _LOG.exception("`authenticate`, which the application gave to D3, failed: %s", error)
            raise HostFailed from error
        if user is None:
            raise NotSignedIn
        caller = self._key_cache.known_user(user.username)
        if caller is None:
            caller = await self._query(lambda: self._key_cache.look_up_user(user.username))
        scopes = frozenset(map(Scope, user.scopes))
        return replace(caller, scopes=scopes, sees_all=Scope.ADMIN in scopes)

    async def _ask_host(self, scope: Any) -> HostUser | None:
        """The host's user. A function that is not asynchronous may block: it runs on a thread."""
        host: Any = self._host
        found = host(scope) if is_async_callable(host) else await asyncio.to_thread(host, scope)
        user: object = await found if isawaitable(found) else found
        if user is None or isinstance(user, HostUser):
            return user
        raise TypeError(f"It has to give a d3.HostUser or None, not {shown(user)}.")

    async def by_key(self, key: str, address: str | None, headers: Headers) -> Caller:
        """The caller with this key.

        Refused keys are counted for each address. A key that was valid before is never blocked
        by the refusals of others at its address.

        Args:
            key: as sent.
            address: the caller's.
            headers: gets the rate's headers if the key is refused because of the rate.

        Raises:
            AccessRefused: the key is unknown, revoked or expired, or its user disabled.
            RateLimited: too many keys from this address were refused.
            StorageFailed: the accounts cannot be read.
        """
        key_cache = self._key_cache
        known = key_cache.known(key)
        if known is not None:
            return known
        rate, who = self._rate_failed_keys, f"failed:{address}"
        guess = rate != _NO_RATE and not key_cache.was_valid(key)
        if guess and not (stands := await self._limit("look", rate, who)).allowed:
            headers[:] = _headers(stands)
            raise _too_often("refused API keys", stands)
        try:
            caller: Caller = await self._query(lambda: key_cache.look_up(key))
        except AccessRefused as error:
            _LOG.warning("an API key was refused: %s", error.reason)
            if rate != _NO_RATE:
                await self._limit("hit", rate, who)
            raise
        return caller

    async def by_session(self, token: str) -> Caller | None:
        """The caller with this session; None if the token is not one of this service.

        Raises:
            SessionEnded: the session is over, or its key is no longer valid.
            StorageFailed: the accounts cannot be read.
        """
        key_id = (await self._reader()).key_of(token)
        if key_id is None:
            return None
        caller: Caller | None = self._key_cache.known_by_id(key_id)
        if caller is None:
            try:
                caller = await self._query(lambda: self._key_cache.look_up_by_id(key_id))
            except AccessRefused as error:
                raise SessionEnded(error.reason) from error
        return caller

    async def begin_session(self, key_id: str) -> str:
        """A session token for a key that was just checked."""
        return (await self._reader()).begin(key_id)

    async def count(self, rate: str, who: str, headers: Headers) -> None:
        """Count one request against a rate.

        Args:
            rate: such as ``"100/minute"``, or ``"none"``.
            who: whom the request counts for.
            headers: gets the rate's headers.

        Raises:
            RateLimited: the request exceeds the rate.
        """
        if rate == _NO_RATE:
            return
        stands = await self._limit("hit", rate, who)
        headers[:] = _headers(stands)
        if not stands.allowed:
            raise _too_often("requests", stands)

    async def _reader(self) -> Sessions:
        if self._sessions is None:
            self._sessions = await self._query(self._make_sessions)
        return self._sessions

    async def _limit(self, question: str, rate: str, who: str) -> Allowance:
        ask = self._limiter.hit if question == "hit" else self._limiter.look
        if not self._limiter.waits:
            return ask(rate, who)
        stands: Allowance = await self._query(lambda: ask(rate, who))
        return stands


def _too_often(what: str, stands: Allowance) -> RateLimited:
    return RateLimited(
        f"Too many {what}.",
        "Wait for the time in Retry-After, then try again.",
        stands.reset_seconds,
        stands.limit,
    )


def _headers(stands: Allowance) -> Headers:
    return [
        (b"ratelimit-limit", b"%d" % stands.limit),
        (b"ratelimit-remaining", b"%d" % stands.remaining),
        (b"ratelimit-reset", b"%d" % stands.reset_seconds),
    ]
