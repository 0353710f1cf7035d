"""What the domain needs to count requests: the port that says whether one more may come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Allowance:
    """How a caller stands after a request.

    Attributes:
        allowed: whether the request may pass.
        limit: requests of a window.
        remaining: of them.
        reset_seconds: until there is room again, or the window is over.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int


@runtime_checkable
class RateLimiter(Protocol):
    """Counts what somebody does. Safe to use from many threads; never raises.

    Where its store is away it lets everybody pass: a limit that cannot be counted is no reason to
    refuse a service.
    """

    @property
    def waits(self) -> bool:
        """Whether a call may wait for a server, so that it wants a thread."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why it does not count, as of the last attempt; None while it does."""
        ...

    def hit(self, rate: str, who: str) -> Allowance:
        """Count one.

        Args:
            rate: such as ``100/minute``.
            who: what is counted of whom, such as ``key:4fQ...``.
        """
        ...

    def look(self, rate: str, who: str) -> Allowance:
        """How somebody stands, counting nothing."""
        ...

    def close(self) -> None:
        """Give connections back."""
        ...
