"""What is done to a database as a whole: what an upgrade tells, and copying one into another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Progress = Callable[[int, int], None]
"""Told how much is done, and of how much."""

TableProgress = Callable[[str, int, int], None]
"""Likewise, with the name of the table first."""


def no_progress(done: int, total: int) -> None:
    """Tell nobody."""


def no_table_progress(table: str, done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What came of an upgrade.

    Attributes:
        revision: that the database is at now.
        backup: of the embedded database as it was before; None where none was needed.
    """

    revision: str
    backup: Path | None = None


class Copier(Protocol):
    """Copies a whole database into an empty one, of either kind."""

    def copy(self, progress: TableProgress = no_table_progress) -> dict[str, int]:
        """Copy every row with its id, all or none; how many each table had.

        The source may be in use; what is copied is what it held at one moment. Ids go on counting
        where the source's stood.

        Args:
            progress: told a table's name, its rows copied and its rows in all.

        Raises:
            SchemaMismatch: the source is not at this version's revision, or the target is neither
                empty nor this version's without rows.
            StorageFailed: one of the two cannot be used.
        """
        ...
