"""Files from the network."""

from d3.adapters.web.fetching import HttpFetcher
from d3.adapters.web.links import GuardedLinks

__all__ = ["GuardedLinks", "HttpFetcher"]
