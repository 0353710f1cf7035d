"""Markdown of tables, and the service whose parts the reference describes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from d3.entrypoints.http.app import Application, create_app
from d3.settings import Settings


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that becomes a list of cards on a narrow screen."""
    lines = [titles, ["---"] * len(titles), *rows]
    cells = ([one.replace("|", r"\|").replace("\n", " ") for one in line] for line in lines)
    return "\n".join(["{.cards}", *(f"| {' | '.join(line)} |" for line in cells), ""])


def anchored(name: str) -> str:
    """A name in code's letters that links can lead to."""
    return f"[`{name}`]{{#{name}}}"


@cache
def service() -> Application:
    """A service with every part that has metrics; it is not started."""
    home = Path(tempfile.gettempdir()) / "d3-docs-home"  # nothing is written there
    return create_app(Settings(home=home, redis_url="redis://localhost"))
