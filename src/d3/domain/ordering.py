"""The orders in which the history can be read, and where a reader of one stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from d3.domain.history import HistoryEntry

Place: TypeAlias = tuple[str | float | datetime, ...]
"""An entry's values of :attr:`Order.columns`; no two entries have the same."""


class SortKey(StrEnum):
    """What entries can be put in order by, named as the entry's field."""

    CREATED_AT = "created_at"
    PREDICTION = "prediction"
    IMAGE_NAME = "image_name"


@dataclass(frozen=True, slots=True)
class Order:
    """An order of the history; of entries that are alike in it, time decides, then the id.

    Attributes:
        by: what decides first. Names are compared code point by code point.
        descending: whether the largest comes first, in all that decides.
    """

    by: SortKey = SortKey.CREATED_AT
    descending: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """The entry's fields that decide, one after the other."""
        by_time = ("created_at", "id")
        return by_time if self.by is SortKey.CREATED_AT else (self.by.value, *by_time)

    def place_of(self, entry: HistoryEntry) -> Place:
        """Where the entry stands."""
        return tuple(getattr(entry, name) for name in self.columns)


NEWEST_FIRST = Order()
"""The order of the history, unless another is asked for."""
