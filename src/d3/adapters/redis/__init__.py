"""Results remembered in Redis."""

from d3.adapters.redis.cache import RedisResultCache

__all__ = ["RedisResultCache"]
