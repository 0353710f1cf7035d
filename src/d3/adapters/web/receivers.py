"""Webhooks' receivers: signed requests to public servers, with limits of time and size."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import resource
import ssl
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import httpcore
import httpx
from standardwebhooks import Webhook

from d3.adapters.web.links import AddressGuard, Resolve, fault_of, resolve
from d3.domain.backoff import seconds_asked
from d3.domain.errors import LinkUnavailable, WebhookInvalid
from d3.domain.ports.tracing import trace_headers
from d3.domain.text import without_secrets
from d3.domain.webhooks import LONGEST_URL, Answer, Due

_CONNECT_SECONDS = 5.0
_MOST_ANSWER_BYTES = 16 * 1024
_ANSWER_SECONDS = 1.0
_LOOKUPS = 512
_PLACES = 2048
_KEPT_CONNECTIONS, _KEPT_SECONDS = 64, 3.0
_BROKEN = "It cannot be reached, or closes the connection."
_AS_IN = "Use one such as https://app.example.org/d3."
_REASONS: Sequence[tuple[type[Exception], str]] = (
    (
        LinkUnavailable,  # names that are unknown too: else one could ask which are internal
        (
            "Its name was not found, or it has no public address. D3 sends nothing to internal "
            "addresses unless D3_WEBHOOK_ALLOW names them."
        ),
    ),
    (httpcore.TimeoutException, "It cannot be reached: connecting took too long."),
    (ssl.SSLError, "Its certificate is not valid, or it does not speak TLS."),
    (ConnectionRefusedError, "It refuses connections."),
    (httpcore.ProtocolError, "It does not answer as HTTP demands."),
    (httpcore.NetworkError, _BROKEN),
    (OSError, _BROKEN),
)
"""Why a receiver cannot be asked, the first that is true."""

# Part of a server's name; underscores are in use though no standard has them.
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_FAULTS = {
    "scheme": "The address of a webhook begins with https:// or http://.",
    "password": "The address of a webhook may not contain a user name or a password.",
    "port": "The address of a webhook may not have this port.",
}


def check_receiver(url: str, allowed: Iterable[str] = ()) -> str:
    """The address of a receiver, if events may be sent there.

    Names are looked up when something is sent, and then must be public.

    Args:
        url: the address.
        allowed: networks that may be asked though they are not public.

    Raises:
        WebhookInvalid: it is no web address, holds a password, or an address that is not public.
    """
    if len(url) > LONGEST_URL:
        raise WebhookInvalid(f"The address is longer than {LONGEST_URL:,} characters.", _AS_IN)
    try:
        place = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise WebhookInvalid("This is not a web address.", _AS_IN) from error
    if (fault := fault_of(place)) is not None:
        raise WebhookInvalid(_FAULTS[fault], _AS_IN)
    host = place.raw_host.decode()
    if ":" not in host and not all(map(_LABEL.fullmatch, host.removesuffix(".").split("."))):
        raise WebhookInvalid("The address does not hold the name of a server.", _AS_IN)
    with suppress(ValueError):  # a name
        if not AddressGuard(allowed).may_ask(ipaddress.ip_address(place.host)):
            raise WebhookInvalid(
                "This address is not public, and D3 sends nothing to internal addresses.",
                "An administrator can allow it: D3_WEBHOOK_ALLOW.",
            )
    return str(place.copy_with(fragment=None))


class WebhookReceivers:
    """Implements ``WebhookSender`` over HTTP; to be entered in the event loop that sends.

    Redirects are not followed, and proxies, cookies and credentials not used.

    Args:
        seconds: from looking up the name to the answer's first lines.
        version: of D3.
        allowed: networks that may be asked though they are not public.
        resolve: looks up names.
        ssl_context: for TLS; the system's certificates unless given.
    """

    def __init__(
        self,
        seconds: float,
        version: str,
        allowed: Iterable[str] = (),
        *,
        resolve: Resolve = resolve,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._seconds = seconds
        self._agent = f"d3/{version}"
        self._places = 1
        guard = AddressGuard(allowed, resolve)
        # Names that do not resolve keep threads; those of receivers that answer have their own.
        self._lookups = {proven: _Lookups(guard, _LOOKUPS) for proven in (True, False)}
        self._given_ssl = ssl_context
        self._pool: httpcore.AsyncConnectionPool | None = None  # made late: most send nothing

    @cached_property
    def _ssl(self) -> ssl.SSLContext:
        return self._given_ssl or httpx.create_ssl_context(trust_env=False)

    def _new_pool(self, *, proven: bool) -> httpcore.AsyncConnectionPool:
        return httpcore.AsyncConnectionPool(
            ssl_context=self._ssl,
            max_connections=None,
            max_keepalive_connections=_KEPT_CONNECTIONS,
            keepalive_expiry=_KEPT_SECONDS,
            network_backend=_GuardedBackend(self._lookups[proven]),
        )

    @property
    def places(self) -> int:
        return self._places

    async def __aenter__(self) -> Self:
        self._places = _room()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            await self._pool.aclose()

    async def send(self, due: Due, *, proven: bool = False) -> Answer:
        try:
            async with asyncio.timeout(self._seconds):
                if not proven:  # a pool looks through its connections each time: too many here
                    async with self._new_pool(proven=False) as own:
                        return await self._send(due, own)
                self._pool = self._pool or self._new_pool(proven=True)
                return await self._send(due, self._pool)
        except TimeoutError:
            return Answer(trouble=f"It did not answer within {self._seconds:g} seconds.")
        except Exception as error:  # noqa: BLE001  one receiver must not stop the others
            return Answer(trouble=_reason(error))

    async def _send(self, due: Due, pool: httpcore.AsyncConnectionPool) -> Answer:
        place = httpx.URL(due.url)
        url = httpcore.URL(
            scheme=place.raw_scheme, host=place.raw_host, port=place.port, target=place.raw_path
        )
        headers: list[tuple[bytes | str, bytes | str]] = [("Host", place.netloc)]
        headers += self._headers(due)
        async with pool.stream("POST", url, headers=headers, content=due.body.encode()) as response:
            status, said = response.status, httpx.Headers(response.headers)
            # What it says beside the status is of no matter; read whole, the connection is kept.
            with suppress(TimeoutError, httpcore.NetworkError, httpcore.ProtocolError):
                async with asyncio.timeout(_ANSWER_SECONDS):
                    size = 0
                    async for piece in response.aiter_stream():
                        size += len(piece)
                        if size > _MOST_ANSWER_BYTES:
                            break
        if httpx.codes.is_success(status):
            return Answer(status)
        if httpx.codes.is_redirect(status):
            target = without_secrets(said.get("location", ""))[:200]
            trouble = f"It redirects to {target!r}, which D3 does not follow."
        else:
            trouble = f"It answered with status {status}."
        return Answer(status, trouble, seconds_asked(said.get("retry-after", "")))

    def _headers(self, due: Due) -> Sequence[tuple[str, str]]:
        now = datetime.now(UTC)
        signatures = [Webhook(one).sign(due.event_id, now, due.body) for one in due.secrets]
        return [
            ("User-Agent", self._agent),
            ("Content-Type", "application/json"),
            ("Accept-Encoding", "identity"),
            ("webhook-id", due.event_id),
            ("webhook-timestamp", str(int(now.timestamp()))),
            ("webhook-signature", " ".join(signatures)),
            *trace_headers(),
        ]


class _Lookups:
    """Looks names up in threads of their own, so many at once.

    The system's lookup cannot be broken off. The threads of those that hang are left behind when
    the process ends.

    Args:
        guard: refuses addresses.
        most: threads at most.
    """

    def __init__(self, guard: AddressGuard, most: int) -> None:
        self._guard = guard
        self._free = asyncio.Semaphore(most)

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a host, all of which may be asked.

        Raises:
            LinkUnavailable: one may not, or there is none.
        """
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Sequence[str]] = loop.create_future()
        await self._free.acquire()

        def settle(addresses: Sequence[str], error: Exception | None) -> None:
            self._free.release()
            if found.done():  # nobody waits any more
                return
            if error is None:
                found.set_result(addresses)
            else:
                found.set_exception(error)

        def look() -> None:
            addresses: Sequence[str] = ()
            error: Exception | None = None
            try:
                addresses = self._guard.addresses(host, port)
            except Exception as trouble:  # noqa: BLE001  it is raised where it is waited for
                error = trouble
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, addresses, error)

        try:
            threading.Thread(target=look, name="d3-lookup", daemon=True).start()
        except RuntimeError:  # there are too many threads
            self._free.release()
            raise
        return await found


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that may be asked, and to no others."""

    def __init__(self, lookups: _Lookups) -> None:
        self._lookups = lookups
        self._plain = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  the backend's own interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to one of the host's addresses, all of which must be allowed."""
        del timeout  # one for all that is done
        failure: Exception = httpcore.ConnectError()
        for address in await self._lookups.addresses(host, port):
            try:
                return await self._plain.connect_tcp(
                    address, port, _CONNECT_SECONDS, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


def _room() -> int:
    """How many receivers can be sent to at once: each takes up to two file descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * _PLACES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _PLACES if soft == resource.RLIM_INFINITY else max(1, min(_PLACES, soft // 4))


def _reason(error: Exception) -> str:
    """Why a receiver could not be asked."""
    causes: list[BaseException] = []
    inner: BaseException | None = error
    while inner is not None:
        causes.append(inner)
        inner = inner.__cause__ or inner.__context__
    for kind, words in _REASONS:
        if any(isinstance(one, kind) for one in causes):
            return words
    return f"It could not be asked: {type(error).__name__}."
