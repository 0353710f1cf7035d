"""Labels: what people say an image truly was. A label stands beside a verdict and changes none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Label(StrEnum):
    """What somebody says an image is."""

    REAL = "real"
    GENERATED = "generated"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelChange:
    """One statement about a result's image; the newest counts, the others stay as its history.

    Attributes:
        id: counts from 1.
        result_id: of the result that it stands beside.
        label: what was said; ``unknown`` takes back what was said before.
        source: how it is known, such as ``"photographer"``; may be empty.
        note: anything else; may be empty.
        created_at: when it was said, in UTC.
        user_id: who said it; None without an account.
    """

    id: int
    result_id: int
    label: Label
    source: str
    note: str
    created_at: datetime
    user_id: int | None
