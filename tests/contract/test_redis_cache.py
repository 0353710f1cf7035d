"""Results in Redis keep the cache's contract, and nothing that Redis does gets out."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from redis import Redis

from d3.adapters.in_process import MemoryResultCache
from d3.adapters.redis import RedisResultCache
from d3.domain.errors import SettingsInvalid
from d3.testing import FakeClock
from tests.support.contracts import ResultCacheContract
from tests.support.contracts.caches import KEY
from tests.support.stores import free_port, redis_server


@pytest.fixture
def emptied(redis_url: str) -> str:
    with Redis.from_url(redis_url) as redis:
        redis.flushdb()
    return redis_url


class TestMemoryResultCache(ResultCacheContract):
    @pytest.fixture
    def cache(self) -> MemoryResultCache:
        return MemoryResultCache()


class TestRedisResultCache(ResultCacheContract):
    @pytest.fixture
    def cache(self, emptied: str) -> Iterator[RedisResultCache]:
        cache = RedisResultCache(emptied)
        yield cache
        cache.close()
        assert cache.failures == 0


def test_entries_expire_and_are_small(emptied: str) -> None:
    cache = RedisResultCache(emptied, seconds=100)
    cache.put(KEY, [1.0] * 2)
    with Redis.from_url(emptied) as redis:
        (name,) = redis.keys()
        assert 0 < redis.ttl(name) <= 100
        assert (len(name), len(redis.get(name))) == (44, 20)
        RedisResultCache(emptied, seconds=0).put(KEY, [1.0] * 2)
        assert redis.ttl(name) == -1
    cache.close()


@pytest.mark.parametrize(
    "value", [b"", b"x", b"\0" * 20, b"\xff" * 20, b"a" * 1000, b"\xd8\x2f\xb2\x8b" + b"\xff" * 16]
)
def test_what_others_wrote_under_the_key_is_not_taken_for_logits(
    emptied: str, value: bytes
) -> None:
    cache = RedisResultCache(emptied)
    cache.put(KEY, [1.0, 2.0])
    with Redis.from_url(emptied) as redis:
        (name,) = redis.keys()
        redis.set(name, value)
        assert cache.get(KEY) is None
        redis.delete(name)
        redis.rpush(name, "a list")
        assert cache.get(KEY) is None
    cache.close()


def test_while_redis_is_away_nothing_is_known_and_it_is_found_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, port = FakeClock(), free_port()
    with caplog.at_level(logging.INFO):
        with redis_server(port) as url:
            cache = RedisResultCache(url, monotonic=clock.monotonic)
            cache.put(KEY, [1.0, 2.0])
            assert cache.get(KEY) == (1.0, 2.0)
        begun = time.monotonic()
        for _ in range(1000):
            cache.put(KEY, [1.0, 2.0])
            assert cache.get(KEY) is None
        assert time.monotonic() - begun < 1
        assert cache.failures == 1
        assert "D3_REDIS_URL" in (cache.trouble or "")
        clock.advance(3)
        assert cache.get(KEY) is None
        assert cache.failures == 2
        with redis_server(port):
            assert cache.get(KEY) is None  # not yet tried again
            clock.advance(3)
            cache.put(KEY, [1.0, 2.0])
            assert cache.get(KEY) == (1.0, 2.0)
            assert cache.trouble is None
            cache.close()
    lines = [one.getMessage() for one in caplog.records if "Redis" in one.getMessage()]
    assert [line.split(".")[0].partition(":")[0] for line in lines] == [
        "Redis is unavailable",
        "Redis is available again",
    ]


def test_a_restart_between_two_questions_is_not_noticed() -> None:
    port = free_port()
    with redis_server(port) as url:
        cache = RedisResultCache(url, timeout=2)
        cache.put(KEY, [1.0, 2.0])
    with redis_server(port):
        cache.put(KEY, [1.0, 2.0])
        assert cache.get(KEY) == (1.0, 2.0)
        assert cache.failures == 0
        cache.close()


def test_a_server_that_never_answers_costs_a_moment_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        cache = RedisResultCache(url, timeout=0.2)
        begun = time.monotonic()
        threads = [threading.Thread(target=cache.get, args=(KEY,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for _ in range(100):
            assert cache.get(KEY) is None
        assert time.monotonic() - begun < 2
        assert "in time" in (cache.trouble or "")
        cache.close()


def test_a_wrong_password_is_said_without_showing_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with redis_server(free_port()) as url:
        with Redis.from_url(url) as redis:
            redis.config_set("requirepass", "the right one")
        cache = RedisResultCache(url.replace("redis://", "redis://:hunter2@"))
        cache.put(KEY, [1.0, 2.0])
        assert cache.get(KEY) is None
    assert "password" in (cache.trouble or "")
    assert "hunter2" not in caplog.text + repr(cache) + (cache.trouble or "")
    cache.close()


@pytest.mark.parametrize("url", ["redis://:hunter2@h:port/0", "http://:hunter2@h", "hunter2"])
def test_a_url_of_nonsense_is_a_setting_that_cannot_be_used(url: str) -> None:
    with pytest.raises(SettingsInvalid, match="D3_REDIS_URL") as caught:
        RedisResultCache(url)
    assert "hunter2" not in str(caught.value)


def test_other_views_of_the_same_image_stand_beside_each_other(emptied: str) -> None:
    cache = RedisResultCache(emptied)
    for views in range(1, 17):
        cache.put(replace(KEY, views=views), [float(views)] * views)
    for views in range(1, 17):
        assert cache.get(replace(KEY, views=views)) == (float(views),) * views
    cache.close()
