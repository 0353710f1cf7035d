"""Hearing what the workers of a bulk scan do."""

from __future__ import annotations

from d3.domain.ports.scans import ScanLedger
from d3.domain.scans import Scan, ScanRow


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


class FinishedShards:
    """Tells which shards were finished since it was asked before, by workers anywhere.

    Args:
        scan: as it stands; what is finished by now is not told.
    """

    def __init__(self, ledger: ScanLedger, scan: Scan) -> None:
        self._ledger = ledger
        self._name = scan.name
        self._cut = scan.shards
        self._open = ledger.open_shards(scan.id)

    def __call__(self) -> list[int]:
        """Their numbers, in order.

        Raises:
            StorageFailed: the ledger is away; nothing is missed by asking again.
        """
        # In this order: a shard that is cut meanwhile is told the next time.
        scan = self._ledger.get(self._name)
        still_open = self._ledger.open_shards(scan.id)
        finished = (self._open | {*range(self._cut, scan.shards)}) - still_open
        self._open, self._cut = still_open, scan.shards
        return sorted(finished)
