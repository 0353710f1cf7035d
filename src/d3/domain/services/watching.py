"""Hearing what a worker of a bulk scan does."""

from __future__ import annotations

from d3.domain.scans import ScanRow


class Watcher:
    """Hears what a worker does; this one does nothing with it."""

    def judged(self, row: ScanRow) -> None:
        """An image has its row."""

    def passed_over(self) -> None:
        """A file was no image."""

    def finished(self, shard: int) -> None:
        """Every image of a shard has its row, and they are kept."""

    def idle(self) -> None:
        """Called now and then, whatever happens."""
