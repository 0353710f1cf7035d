"""How long work says how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Takes what is being done, how much of it is done, and how much there is in all."""


def no_progress(what: str, done: int, total: int) -> None:
    """Ignore it."""
