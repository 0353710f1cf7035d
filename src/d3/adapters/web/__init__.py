"""Files from the network, and webhooks to it."""

from d3.adapters.web.fetching import HttpFetcher
from d3.adapters.web.links import GuardedLinks
from d3.adapters.web.receivers import WebhookReceivers, check_receiver

__all__ = ["GuardedLinks", "HttpFetcher", "WebhookReceivers", "check_receiver"]
