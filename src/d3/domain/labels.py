"""Labels: what people say an image truly was. A label stands beside a verdict and changes none."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from d3.domain.errors import LabelInvalid, shown
from d3.domain.text import is_blank, storable, turns

LONGEST_SOURCE = 255
LONGEST_NOTE = 2000
MOST_LABELS = 1000
"""The most results that one request may label or delete."""

_ALLOWED_CONTROLS = {"\n", "\t"}


class Label(StrEnum):
    """What somebody says an image is."""

    REAL = "real"
    GENERATED = "generated"
    UNKNOWN = "unknown"


class LabelIs(StrEnum):
    """A label, for a filter. With `none`, nobody said anything."""

    REAL = "real"
    GENERATED = "generated"
    UNKNOWN = "unknown"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLabel:
    """Something to say about a result's image.

    Attributes:
        result_id: of the result.
        label: what the image is said to be.
        source: how it is known, at most 255 characters in one line; may be empty.
        note: anything else, at most 2,000 characters; may be empty. A text of invisible characters
            alone is empty.

    Raises:
        LabelInvalid: a text is too long or holds control characters, or some that turn the
            direction of text.
    """

    result_id: int
    label: Label
    source: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", _checked("source", self.source, LONGEST_SOURCE, set()))
        note = self.note.replace("\r\n", "\n")
        object.__setattr__(self, "note", _checked("note", note, LONGEST_NOTE, _ALLOWED_CONTROLS))


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


def label_of(text: str) -> Label:
    """The label that somebody wrote; spaces around it and case do not matter.

    Raises:
        LabelInvalid: it is none.
    """
    try:
        return Label(text.strip().lower())
    except ValueError as error:
        raise LabelInvalid(
            f"{shown(text)} is not a label.", f"Use one of {', '.join(Label)}."
        ) from error


def _checked(name: str, text: str, length: int, allowed: set[str]) -> str:
    if len(text) > length:
        raise LabelInvalid(
            f"The {name} of a label has {len(text):,} characters.",
            f"Use at most {length:,} characters.",
        )
    if not text.isprintable():
        for one in text:
            if turns(one):
                what = "an invisible character that turns the direction of text"
            elif unicodedata.category(one) == "Cc" and one not in allowed:
                what = "a control character"
            else:
                continue
            raise LabelInvalid(
                f"The {name} of a label holds {what} (U+{ord(one):04X}).", "Remove it."
            )
    return "" if is_blank(text) else storable(text, length)


def without_refused(text: str) -> str:
    """One line without the characters that a label's texts may not hold."""
    return "".join(one for one in text if unicodedata.category(one) != "Cc" and not turns(one))
