"""How two lanes share one resource: interactive goes first, bulk is guaranteed its share."""

from __future__ import annotations


class BulkShare:
    """Bulk's credit, in whatever unit the work is counted.

    Each unit of interactive work done while bulk waits earns bulk ``share / (1 - share)`` units;
    bulk goes first with work it has the credit for, and spends it. So while both wait, bulk gets
    its share of all work, short by one job at most, and interactive all the rest.

    Args:
        share: of the work, in (0, 1).

    Attributes:
        credit: what bulk may take before interactive goes on.
    """

    def __init__(self, share: float) -> None:
        self._ratio = share / (1 - share)
        self.credit = 0.0

    def settle(self, interactive: float, bulk: float) -> None:
        """Account for units of work done side by side, or in turns, while both waited."""
        self.credit = max(0.0, self.credit + interactive * self._ratio - bulk)

    def clear(self) -> None:
        """Nothing of bulk waits: there is nothing to save up for."""
        self.credit = 0.0
