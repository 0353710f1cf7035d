"""Rate limits, counted in memory or in a Redis that replicas share, through ``limits``."""

from d3.adapters.limits.limiter import CountingLimiter

__all__ = ["CountingLimiter"]
