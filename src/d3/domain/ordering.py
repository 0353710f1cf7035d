"""The orders of the history, and cursors: where a reader stands, as a short string.

A cursor holds, in base64::

    newest first      1, microseconds, id, seal
    any other order   2, which, microseconds, id, value, seal
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import product
from typing import Any, TypeAlias

from d3.domain.errors import CursorInvalid
from d3.domain.history import HistoryEntry, HistoryFilter
from d3.domain.text import storable

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

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLAIN = struct.Struct(">Bqq")
_ORDERED = struct.Struct(">BBqq")
_VALUE = struct.Struct(">d")
_SEAL_BYTES = 8
_ORDERS = [Order(by, down) for by, down in product(SortKey, (True, False))]
"""Their numbers stand in cursors that were handed out: append, never reorder."""


def encode_cursor(place: Place, where: HistoryFilter, order: Order = NEWEST_FIRST) -> str:
    """A cursor that continues after ``place``, for this filter and order only."""
    *value, moment, id_ = place
    assert isinstance(moment, datetime)
    microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
    if order == NEWEST_FIRST:
        packed = _PLAIN.pack(1, microseconds, id_)
        content: Any = (1, microseconds, id_, where)
    else:
        packed = _ORDERED.pack(2, _ORDERS.index(order), microseconds, id_)
        for one in value:
            packed += one.encode() if isinstance(one, str) else _VALUE.pack(one)
        content = (packed, where)
    seal = hashlib.blake2b(
        repr(content).encode(), digest_size=_SEAL_BYTES, person=b"d3 cursor"
    ).digest()
    return base64.urlsafe_b64encode(packed + seal).rstrip(b"=").decode()


def decode_cursor(cursor: str, where: HistoryFilter, order: Order = NEWEST_FIRST) -> Place:
    """The place a cursor stands for.

    Raises:
        CursorInvalid: it was made up, changed, or handed out for another filter or order. The seal
            finds mistakes; it keeps no secret, since the filter decides what may be seen.
    """
    try:
        sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        place = _place(sealed[:-_SEAL_BYTES], order)
        sound = encode_cursor(place, where, order) == cursor
    except (binascii.Error, struct.error, ValueError, OverflowError):
        sound = False
    if not sound:
        raise CursorInvalid(
            "This cursor does not belong to this request.",
            "Send next_cursor unchanged and with the same filters and order, or leave it out.",
        )
    return place


def _place(packed: bytes, order: Order) -> Place:
    """What was packed, where it is of this order's form; encoding it again shows if it was."""
    value: tuple[str | float, ...] = ()
    if order == NEWEST_FIRST:
        _, microseconds, id_ = _PLAIN.unpack(packed)
    else:
        _, _, microseconds, id_ = _ORDERED.unpack(packed[: _ORDERED.size])
        rest = packed[_ORDERED.size :]
        if order.by is SortKey.PREDICTION:
            value = _VALUE.unpack(rest)
        elif order.by is SortKey.IMAGE_NAME:
            value = (storable(rest.decode()),)
    return (*value, _EPOCH + timedelta(microseconds=microseconds), id_)
