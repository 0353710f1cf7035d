"""Linked files: fetched from public servers only, with limits of time and size.

The check sits where the connection is made. A name is resolved once, each of its addresses must
be public, and the connection goes to one of those, so a second answer of a name server does not
count. TLS still checks the name. Proxies, cookies and credentials are not used.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote

import httpcore
import httpx

from d3.domain.errors import ImageTooLarge, LinkInvalid, LinkUnavailable
from d3.domain.ports.images import LinkedImage
from d3.domain.ports.tracing import trace_headers
from d3.domain.text import display_name

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve: TypeAlias = Callable[[str, int], Sequence[str]]

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# Global by Python 3.11, but no servers: relays, tunnels, identifiers, documentation.
_RESERVED = [ipaddress.ip_network(one) for one in ("192.88.99.0/24", "2001::/23", "3fff::/20")]
_MOST_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_WEB_PORTS, _FREE_PORTS = {None, 80, 443}, range(1024, 65536)
_CONNECT_SECONDS = 5.0
_HEADERS = [("User-Agent", "d3"), ("Accept", "image/*"), ("Accept-Encoding", "identity")]


def is_public(address: Address) -> bool:
    """Whether an address is public; an address that carries another is judged by that one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(inner)
        if address not in _GLOBAL_UNICAST:
            return False
    return (
        address.is_global
        and not address.is_multicast
        and not any(address in network for network in _RESERVED)
    )


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


class AddressGuard:
    """Finds the addresses of hosts, and lets none through that is not public.

    Args:
        allowed: networks that may be asked though they are not public.
        resolve: looks up names.
    """

    def __init__(self, allowed: Iterable[str] = (), resolve: Resolve = resolve) -> None:
        self._allowed = [ipaddress.ip_network(one) for one in allowed]
        self._resolve = resolve

    def addresses(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a host.

        Raises:
            LinkUnavailable: there is none, or one of them may not be asked.
        """
        try:
            addresses = self._resolve(host, port)
            sound = all(self.may_ask(ipaddress.ip_address(one)) for one in addresses)
        except (OSError, ValueError) as error:
            raise _not_public() from error
        if not sound:
            raise _not_public()
        return addresses

    def may_ask(self, address: Address) -> bool:
        """Whether an address is public, or allowed though it is not."""
        return is_public(address) or any(address in network for network in self._allowed)


class GuardedLinks:
    """Fetches files that callers link to, from public servers only.

    Args:
        seconds: from resolving the name to the last byte.
        allowed: networks that may be asked though they are not public.
        ssl_context: for TLS; the system's certificates unless given.
    """

    def __init__(
        self,
        most_bytes: int,
        seconds: float,
        allowed: Iterable[str] = (),
        *,
        resolve: Resolve = resolve,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._most = most_bytes
        self._seconds = seconds
        self._guard = AddressGuard(allowed, resolve)
        self._given_ssl = ssl_context

    @cached_property
    def _ssl(self) -> ssl.SSLContext:
        return self._given_ssl or httpx.create_ssl_context(trust_env=False)

    def fetch(self, url: str) -> LinkedImage:
        """Fetch a file whole, within the limits of time and size.

        Raises:
            LinkInvalid: it is not the address of a web server, or holds a password.
            LinkUnavailable: the server is not public, does not answer in time, or has no such file.
            ImageTooLarge: the file is larger than an image may be.
        """
        guard = _GuardedBackend(self._guard, time.monotonic() + self._seconds)
        sent = [*_HEADERS, *trace_headers()]
        place = _checked(url)
        name = display_name(unquote(place.path.rstrip("/")) or place.raw_host.decode())
        try:
            with httpcore.ConnectionPool(ssl_context=self._ssl, network_backend=guard) as pool:
                for _ in range(_MOST_REDIRECTS + 1):
                    with pool.stream("GET", _in_parts(place), headers=sent) as response:
                        headers = httpx.Headers(response.headers)
                        if response.status in _REDIRECTS and "location" in headers:
                            place = _checked(headers["location"], place)
                            continue
                        if response.status != httpx.codes.OK:
                            raise LinkUnavailable(
                                f"The server of the link answered with status {response.status}.",
                                "Open the link in a browser and copy the address of the image "
                                "itself.",
                            )
                        return LinkedImage(name, self._body(response, headers))
        except httpcore.TimeoutException as error:
            raise LinkUnavailable(
                f"The server of the link did not send the whole image within {self._seconds:g} "
                "seconds.",
                "Try again, or save the image and send the file.",
            ) from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise LinkUnavailable(
                "The server of the link cannot be reached, or its certificate is not valid.",
                "Check the link, or save the image and send the file.",
            ) from error
        raise LinkUnavailable(
            "The link redirects too many times.",
            "Open the link in a browser and copy the address of the image itself.",
        )

    def _body(self, response: httpcore.Response, headers: httpx.Headers) -> bytes:
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self._most:
            raise self._too_large()
        pieces, size = [], 0
        for piece in response.iter_stream():
            size += len(piece)
            if size > self._most:
                raise self._too_large()
            pieces.append(piece)
        return b"".join(pieces)

    def _too_large(self) -> ImageTooLarge:
        return ImageTooLarge(
            f"The image of the link is larger than {self._most:,} bytes.", "Use a smaller image."
        )


def _checked(url: str, origin: httpx.URL | None = None) -> httpx.URL:
    """A link that may be followed.

    Args:
        url: the link.
        origin: the page that redirected to it, if any.
    """
    try:
        place = httpx.URL(url) if origin is None else origin.join(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise LinkInvalid("This is not a link.", _AS_IN) from error
    fault = fault_of(place)
    if fault == "scheme":
        raise LinkInvalid("D3 fetches only links that start with https:// or http://.", _AS_IN)
    if fault == "password":
        raise LinkInvalid(
            "D3 does not fetch links that contain a user name or a password.",
            "Save the image and send the file.",
        )
    if fault == "port":
        raise LinkInvalid(f"D3 does not fetch links with the port {place.port}.", _AS_IN)
    return place


def fault_of(place: httpx.URL) -> Literal["scheme", "password", "port"] | None:
    """What keeps D3 from asking a server at this address; None if nothing does."""
    if place.scheme not in ("http", "https") or not place.raw_host:
        return "scheme"
    if place.userinfo:
        return "password"
    return "port" if place.port not in _WEB_PORTS and place.port not in _FREE_PORTS else None


_AS_IN = "Use one such as https://example.org/photo.jpg."


def _in_parts(place: httpx.URL) -> httpcore.URL:
    return httpcore.URL(
        scheme=place.raw_scheme, host=place.raw_host, port=place.port, target=place.raw_path
    )


class _GuardedBackend(httpcore.NetworkBackend):
    """Connects to public addresses only, and not after the deadline (monotonic clock)."""

    def __init__(self, guard: AddressGuard, until: float) -> None:
        self._guard = guard
        self._until = until
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to one of the host's addresses, all of which must be allowed."""
        del timeout  # one for all that is done
        failure: Exception = _not_public()
        for address in self._guard.addresses(host, port):
            try:
                stream = self._plain.connect_tcp(
                    address,
                    port,
                    min(self.left(), _CONNECT_SECONDS),
                    local_address,
                    socket_options,
                )
                return _Timed(stream, self.left)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    def left(self) -> float:
        """Seconds until the deadline."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout
        return left


def _not_public() -> LinkUnavailable:
    """The same sentence for unknown names and for private addresses, so that it reveals nothing."""
    return LinkUnavailable(
        "The server of the link was not found, or has no public address.",
        "Check the link, or save the image and send the file.",
    )


class _Timed(httpcore.NetworkStream):
    """A connection that never waits beyond the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, left: Callable[[], float]) -> None:
        self._stream = stream
        self._left = left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        return self._stream.read(max_bytes, self._left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send."""
        del timeout
        self._stream.write(buffer, self._left())

    def close(self) -> None:
        """Hang up."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """The same, encrypted, with a server that proves to be this host."""
        del timeout
        stream = self._stream.start_tls(ssl_context, server_hostname, self._left())
        return _Timed(stream, self._left)

    def get_extra_info(self, info: str) -> Any:
        """Whatever the connection below tells of itself."""
        return self._stream.get_extra_info(info)
