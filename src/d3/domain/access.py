"""Who may call, and what is kept of a caller's address: the rules, independent of HTTP."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from d3.domain.accounts import Scope
from d3.domain.errors import AccessForbidden

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_OWN_SITES = ("same-origin", "none")
_IPV4_BITS, _IPV6_BITS = 24, 48
_IPV6_HOUSEHOLD_BITS = 64
_ANY_NAME = "*"
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*(?:"([^"\\]*)"|([^\s;"]*))\s*(?:;|$)', re.IGNORECASE)
_NODE = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<four>[0-9.]+))(?::[0-9]{1,5})?")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, after authentication.

    Attributes:
        user_id: whose key was sent, or who the host application says it is; None for nobody known.
        key_id: of the key that was sent; None without one.
        sees_all: whether everybody's results are visible.
        username: the user's; empty for nobody known.
    """

    scopes: frozenset[Scope]
    user_id: int | None = None
    key_id: str | None = None
    sees_all: bool = False
    username: str = ""

    @property
    def sees(self) -> int | None:
        """The one user whose results are visible; None: all users'."""
        return None if self.sees_all else self.user_id

    def may(self, scope: Scope) -> bool:
        """Whether this is allowed; ``admin`` allows everything."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def check(self, scope: Scope) -> None:
        """Require a scope.

        Raises:
            AccessForbidden: it is missing.
        """
        if self.may(scope):
            return
        if self.key_id is None and self.user_id is not None:
            raise AccessForbidden(
                f"This user does not have the scope {scope.value!r}.",
                "The application that D3 is part of says what users may do.",
            )
        raise AccessForbidden(
            f"This API key does not have the scope {scope.value!r}."
            if self.key_id is not None
            else f"This request needs an API key with the scope {scope.value!r}.",
            f"An administrator can create one: `d3 keys create USERNAME --scope {scope.value}`.",
        )


UNAUTHENTICATED = Caller(frozenset())
"""Somebody who was not let in, or need not be."""

KEYLESS = Caller(frozenset({Scope.PREDICT, Scope.READ, Scope.MODELS}), sees_all=True)
"""Somebody on this machine: every call of the original, and all rows."""

UNRESTRICTED = Caller(frozenset({Scope.ADMIN}), sees_all=True)
"""Everybody, where access control was switched off."""


@lru_cache(maxsize=4096)
def is_local_name(host: str) -> bool:
    """Whether a Host header, with or without a port, names this machine by a loopback name.

    A web page elsewhere can make its own name lead here (DNS rebinding), but not one of these.
    """
    return host_of(host) in _LOCAL_NAMES


def host_of(host: str) -> str:
    """The name in a Host header, in lower case and without its port."""
    host = host.strip().lower()
    if host.startswith("["):
        return "".join(host.partition("]")[:2])
    return host.partition(":")[0].removesuffix(".")


def is_named(host: str, names: Collection[str]) -> bool:
    """Whether a Host header holds one of these names; ``*.example.net`` is any name below it."""
    name = host_of(host)
    return any(
        one in (name, _ANY_NAME)
        or (one.startswith("*.") and name.endswith(one[1:]) and name[0] != ".")
        for one in names
    )


def is_own_origin(origin: str, host: str, allowed: Collection[str]) -> bool:
    """Whether the page that asks is this service's, or one of the allowed origins."""
    if origin in allowed or "*" in allowed:
        return True
    try:
        return urlsplit(origin).netloc.lower() == host.strip().lower() != ""
    except ValueError:
        return False


def comes_from_elsewhere(
    origin: str | None, site: str | None, host: str, allowed: Collection[str], *, changes: bool
) -> bool:
    """Whether a page of another site has a browser send this.

    Then what the browser adds by itself, a cookie or its place on this machine, says nothing of who
    wants it. To follow a link from elsewhere is no such thing: that changes nothing, and the other
    page reads nothing of the answer.

    Args:
        origin: the header of that name; None: not sent.
        site: ``Sec-Fetch-Site``, which no page can write; None: no browser, or none of today.
        host: the header of that name.
        allowed: origins of other pages that may.
        changes: whether the request may change something.
    """
    if site in _OWN_SITES:
        return False
    if origin is not None:
        return not is_own_origin(origin, host, allowed)
    return changes and site is not None


@lru_cache(maxsize=4096)
def is_loopback(address: str | None) -> bool:
    """Whether this is a loopback address; False for what is no address."""
    try:
        return address is not None and _plain(address).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=4096)
def truncated(address: str) -> str | None:
    """The address without the part that tells households apart; None for what is no address."""
    try:
        plain = _plain(address)
    except ValueError:
        return None
    bits = _IPV4_BITS if plain.version == 4 else _IPV6_BITS  # noqa: PLR2004
    return str(ipaddress.ip_network((plain, bits), strict=False).network_address)


def is_among(address: str, networks: Collection[Network]) -> bool:
    """Whether an address belongs to one of the networks; False for what is no address."""
    try:
        plain = _plain(address)
    except ValueError:
        return False
    return any(plain in network for network in networks)


@lru_cache(maxsize=4096)
def counted_address(address: str) -> str:
    """What an address is counted as: an IPv6 caller can use all of a /64."""
    try:
        plain = _plain(address)
    except ValueError:
        return address
    if plain.version == 4:  # noqa: PLR2004
        return str(plain)
    return str(ipaddress.ip_network((plain, _IPV6_HOUSEHOLD_BITS), strict=False).network_address)


def forwarded_for(header: str) -> str:
    """The addresses in a ``Forwarded`` (RFC 7239), in the form of ``X-Forwarded-For``.

    Separated by commas, in order; empty where an element names none.
    """
    found = (_FOR.search(element) for element in _ELEMENT.findall(header))
    return ",".join((one[1] or one[2] or "") if one else "" for one in found)


def client_behind(proxies: Collection[Network], peer: str | None, forwarded: str) -> str | None:
    """The caller's address behind trusted proxies.

    Read from the right: each proxy adds the address that it was called from, and what stands left
    of the first untrusted address was written by the caller.

    Args:
        proxies: the trusted networks.
        peer: the connection's other end; None behind a Unix socket, which is trusted: it is open
            to a proxy alone.
        forwarded: the values of ``X-Forwarded-For``, separated by commas, in order; each an
            address, with a port or without.
    """
    client = peer
    for said in reversed(forwarded.split(",")):
        try:
            if client is not None and not any(_plain(client) in one for one in proxies):
                return client
            client = str(_plain(_without_port(said.strip())))
        except ValueError:
            return client
    return client


def _without_port(node: str) -> str:
    """The address in ``203.0.113.8:51234``, ``[2001:db8::1]:4711`` and ``[2001:db8::1]``."""
    found = _NODE.fullmatch(node)
    return found["six"] or found["four"] if found else node


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address; an IPv4 address mapped to IPv6 as IPv4."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found
