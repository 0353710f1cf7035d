"""Limits on open connections, in total and for each address, and on file descriptors."""

from __future__ import annotations

import ipaddress
import resource
from collections import Counter
from contextlib import suppress

from d3.domain import access
from d3.domain.access import Network
from d3.settings import Settings

_FEWEST = 16
_OTHER_DESCRIPTORS = 512
"""Descriptors for everything but connections: database, decoding, models."""
_ANSWERED = 100


class Connections:
    """Counts open connections. Used on one event loop only.

    Args:
        settings: hold the limits.
        most: connections at once; the settings' limit unless given.
    """

    def __init__(self, settings: Settings, most: int | None = None) -> None:
        self._most = settings.max_connections if most is None else most
        self._most_of_one = settings.max_connections_per_address
        self._proxies: tuple[Network, ...] = tuple(
            map(ipaddress.ip_network, settings.trusted_proxies)
        )
        self._open = 0
        self._of_one: Counter[str] = Counter()

    def opened(self, address: str | None) -> bool:
        """Count a new connection from this address; says whether it may stay."""
        who = _counter_key(address)
        self._open += 1
        self._of_one[who] += 1
        return self._open <= self._most and (
            self._of_one[who] <= self._most_of_one or self._has_no_limit(address)
        )

    def closed(self, address: str | None) -> None:
        """Count a connection as closed."""
        who = _counter_key(address)
        self._open -= 1
        self._of_one[who] -= 1
        if not self._of_one[who]:
            del self._of_one[who]

    @property
    def too_many_to_answer(self) -> bool:
        """Whether there are too many refused connections to answer each of them."""
        return self._open > self._most + _ANSWERED

    def _has_no_limit(self, address: str | None) -> bool:
        """Whether the address has no limit of its own: this machine, or a trusted proxy."""
        return (
            address is None
            or access.is_loopback(address)
            or access.is_among(address, self._proxies)
        )


def _counter_key(address: str | None) -> str:
    return "" if address is None else access.counted_address(address)


def descriptors_for(connections: int) -> int:
    """Raise the limit on file descriptors for so many connections; gives how many are possible."""
    wanted = connections + _OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    return max(_FEWEST, soft - _OTHER_DESCRIPTORS, soft // 4)
