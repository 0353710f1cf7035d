"""A result cache in Redis, shared by all replicas."""

from __future__ import annotations

import hashlib
import math
import struct
import threading
import time
import zlib
from collections.abc import Callable, Sequence

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionBroke
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as TookTooLong
from redis.retry import Retry

from d3.adapters.circuit_breaker import CircuitBreaker
from d3.domain.errors import SettingsInvalid
from d3.domain.ports.history import CacheKey

_PREFIX = b"d3:logits:1:"
_CHECKSUM = struct.Struct("<I")
_RETRY_SECONDS = 2.0


class RedisResultCache:
    """Implements ``ResultCache``. Safe to use from many threads.

    A key takes 44 bytes and a value 4 + 8 per view. When Redis does not answer within ``timeout``
    it is left alone for two seconds at a time; one line is logged when that begins and one when it
    ends.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        seconds: after which a result expires; 0 keeps it until Redis evicts it.
        timeout: in seconds, for connecting and for each answer.

    Raises:
        SettingsInvalid: the URL is not valid.
    """

    def __init__(
        self,
        url: str,
        seconds: int = 7 * 24 * 3600,
        timeout: float = 0.25,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            self._redis = Redis.from_url(
                url,
                socket_connect_timeout=timeout,
                socket_timeout=timeout,
                # A kept connection may have died unnoticed; a second attempt opens a new one.
                retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionBroke,)),
                decode_responses=False,
                client_name="d3",
            )
        except (ValueError, TypeError):
            raise SettingsInvalid(
                "D3_REDIS_URL cannot be used.",
                "Set it to redis://USER:PASSWORD@HOST:PORT/NUMBER, or rediss:// for TLS.",
            ) from None  # the foreign error may show the password
        self._seconds = seconds
        self._failures = 0
        self._lock = threading.Lock()
        self._breaker = CircuitBreaker(
            "Redis",
            "Results are computed again until it is available again.",
            _RETRY_SECONDS,
            monotonic,
        )

    @property
    def failures(self) -> int:
        """Requests that Redis did not answer since the start, skipped ones not counted."""
        return self._failures

    @property
    def trouble(self) -> str | None:
        return self._breaker.reason

    def get(self, key: CacheKey) -> tuple[float, ...] | None:
        value = self._ask(lambda: self._redis.get(_name(key)))
        return _decoded(value, key.views) if isinstance(value, bytes) else None

    def put(self, key: CacheKey, logits: Sequence[float]) -> None:
        value = _encoded(logits)
        self._ask(lambda: self._redis.set(_name(key), value, ex=self._seconds or None))

    def close(self) -> None:
        self._redis.close()

    def _ask(self, question: Callable[[], object]) -> object:
        if not self._breaker.attempt():
            return None
        try:
            answer = question()
        except (RedisError, OSError, ValueError) as error:
            with self._lock:
                self._failures += 1
            self._breaker.failed(
                f"{_why(error)}. Check D3_REDIS_URL and that the server is running."
            )
            return None
        self._breaker.worked()
        return answer


def _name(key: CacheKey) -> bytes:
    """32 bytes for all that decides a logit."""
    parts = (key.image_sha256, key.model_sha256, str(key.views), key.engine, key.precision)
    return _PREFIX + hashlib.sha256("\0".join(parts).encode()).digest()


def _encoded(logits: Sequence[float]) -> bytes:
    numbers = struct.pack(f"<{len(logits)}d", *map(float, logits))
    return _CHECKSUM.pack(zlib.crc32(numbers)) + numbers


def _decoded(value: bytes, views: int) -> tuple[float, ...] | None:
    """The logits; None if the value is not ours."""
    checksum, numbers = value[: _CHECKSUM.size], value[_CHECKSUM.size :]
    if len(numbers) != 8 * views or checksum != _CHECKSUM.pack(zlib.crc32(numbers)):
        return None
    logits = struct.unpack(f"<{views}d", numbers)
    return logits if all(map(math.isfinite, logits)) else None


def _why(error: Exception) -> str:
    """The reason in our words: the text of a foreign error may hold a secret."""
    if isinstance(error, (TookTooLong, TimeoutError)):
        return "it does not respond in time"
    if isinstance(error, (ConnectionBroke, OSError)):
        # A wrong password is a ConnectionError too, to redis-py.
        name = type(error).__name__
        return "it rejects the password" if "Auth" in name else "it cannot be reached"
    return f"it rejects the command ({type(error).__name__})"
