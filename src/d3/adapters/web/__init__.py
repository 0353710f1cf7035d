"""Files from the network."""

from d3.adapters.web.fetching import HttpFetcher

__all__ = ["HttpFetcher"]
