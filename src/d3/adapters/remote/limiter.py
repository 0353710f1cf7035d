"""Rate limits counted in the engine process, exactly for all fronts."""

from __future__ import annotations

from typing import Any

from d3.adapters.remote.link import EngineLink
from d3.domain.errors import D3Error
from d3.domain.ports.accounts import Allowance


class RemoteLimiter:
    """Implements ``RateLimiter``. While the engine process is away, everybody may pass.

    Args:
        link: to the engine process that counts.
    """

    waits = True

    def __init__(self, link: EngineLink) -> None:
        self._link = link

    @property
    def trouble(self) -> str | None:
        return self._link.trouble

    def hit(self, rate: str, who: str) -> Allowance:
        return self._ask("hit", rate, who)

    def look(self, rate: str, who: str) -> Allowance:
        return self._ask("look", rate, who)

    def close(self) -> None:
        """The link is closed by its owner."""

    def _ask(self, method: str, rate: str, who: str) -> Allowance:
        try:
            allowed: list[Any] = self._link.call(method, rate, who)
        except D3Error:
            limit = int(rate.partition("/")[0])
            return Allowance(allowed=True, limit=limit, remaining=limit, reset_seconds=0)
        return Allowance(*allowed)
