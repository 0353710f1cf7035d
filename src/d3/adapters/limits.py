"""Requests counted over a sliding window."""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from collections.abc import Callable
from functools import cache

from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter

from d3.adapters.circuit_breaker import CircuitBreaker
from d3.domain.errors import SettingsInvalid
from d3.domain.ports.accounts import Allowance

_SECONDS = 0.25
_RETRY_SECONDS = 2.0


class CountingLimiter:
    """Implements ``RateLimiter``.

    Redis never holds an address or a key: names are hashed with a secret.

    Args:
        secret: shared by all replicas that count together.
        url: of a Redis; None counts in this process.

    Raises:
        SettingsInvalid: the URL is not valid.
    """

    def __init__(
        self,
        secret: bytes,
        url: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._secret = secret
        self.waits = url is not None
        options: dict[str, float | str | bool] = {"wrap_exceptions": True}
        if url is not None:
            waiting = {"socket_timeout": _SECONDS, "socket_connect_timeout": _SECONDS}
            options |= waiting | {"key_prefix": "d3:rates:1"}
        try:
            storage = storage_from_string(_address(url), **options)
        except Exception:  # noqa: BLE001  the foreign error may show the password
            raise SettingsInvalid(
                "D3_REDIS_URL cannot be used.",
                "Set it to redis://USER:PASSWORD@HOST:PORT/NUMBER, or rediss:// for TLS.",
            ) from None
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._breaker = CircuitBreaker(
            "The Redis of the rate limits",
            "Rate limits are off until it is available again.",
            _RETRY_SECONDS,
            monotonic,
        )
        self._item = cache(parse)

    @property
    def trouble(self) -> str | None:
        return self._breaker.reason

    def hit(self, rate: str, who: str) -> Allowance:
        return self._ask(rate, who, self._limiter.hit)

    def look(self, rate: str, who: str) -> Allowance:
        return self._ask(rate, who, self._limiter.test)

    def close(self) -> None:
        """Nothing is kept open that the end of the process does not close."""

    def _ask(self, rate: str, who: str, question: Callable[..., bool]) -> Allowance:
        item: RateLimitItem = self._item(rate)
        if not self._breaker.attempt():
            return Allowance(
                allowed=True, limit=item.amount, remaining=item.amount, reset_seconds=0
            )
        name = self._name(who)
        try:
            allowed = question(item, name)
            stats = self._limiter.get_window_stats(item, name)
        except (StorageError, OSError):
            self._breaker.failed("it does not respond. Check D3_REDIS_URL.")
            return Allowance(
                allowed=True, limit=item.amount, remaining=item.amount, reset_seconds=0
            )
        self._breaker.worked()
        seconds = max(1, math.ceil(stats.reset_time - time.time()))
        return Allowance(allowed, item.amount, max(0, stats.remaining), seconds)

    def _name(self, who: str) -> str:
        if not self.waits:
            return who
        return hmac.new(self._secret, who.encode(), hashlib.sha256).hexdigest()[:32]


def _address(url: str | None) -> str:
    """The URL in the form that ``limits`` takes."""
    if url is None:
        return "memory://"
    return f"redis+{url}" if url.startswith("unix://") else url
