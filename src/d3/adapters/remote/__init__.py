"""A detector in another process of this machine: front processes ask, one engine process scores."""

from d3.adapters.remote.host import RemoteModelHost
from d3.adapters.remote.limiter import RemoteLimiter
from d3.adapters.remote.link import EngineLink
from d3.adapters.remote.server import EngineServer

__all__ = ["EngineLink", "EngineServer", "RemoteLimiter", "RemoteModelHost"]
