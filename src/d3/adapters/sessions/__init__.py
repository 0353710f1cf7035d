"""Sessions that no store keeps: their tokens are signed, through ``itsdangerous``."""

from d3.adapters.sessions.signed import SignedSessions

__all__ = ["SignedSessions"]
