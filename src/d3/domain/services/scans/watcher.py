"""Callbacks for what the workers of a bulk scan do."""

from __future__ import annotations

from d3.domain.ports.scans import ScanLedger
from d3.domain.scans import Scan, ScanRow


class Watcher:
    """Called by a worker; by default does nothing."""

    def judged(self, row: ScanRow) -> None:
        """An image has its row."""

    def passed_over(self, uri: str) -> None:
        """A file was no image."""

    def finished(self, shard: int) -> None:
        """All rows of a shard are stored."""

    def idle(self) -> None:
        """Called now and then, whatever happens."""


class FinishedShards:
    """The shards that workers anywhere have finished since the last call.

    Args:
        scan: what is finished by now is left out.
    """

    def __init__(self, ledger: ScanLedger, scan: Scan) -> None:
        self._ledger = ledger
        self._name = scan.name
        self._cut = scan.shards
        self._open = ledger.open_shards(scan.id)

    def __call__(self) -> list[int]:
        """Their numbers, in order.

        Raises:
            StorageFailed: the ledger does not answer; nothing is lost by asking again.
        """
        # In this order: a shard that is added in between is reported the next time.
        scan = self._ledger.get(self._name)
        still_open = self._ledger.open_shards(scan.id)
        finished = (self._open | {*range(self._cut, scan.shards)}) - still_open
        self._open, self._cut = still_open, scan.shards
        return sorted(finished)
