"""Where a reader of the history stands, as a short string to hand out and take back.

::

    the order of the history   1, microseconds, id, seal
    any other                  2, which, microseconds, id, value, seal
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

from d3.domain.errors import CursorInvalid
from d3.domain.history import HistoryFilter
from d3.domain.ordering import NEWEST_FIRST, Order, Place, SortKey
from d3.domain.text import storable

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
        told: Any = (1, microseconds, id_, where)
    else:
        packed = _ORDERED.pack(2, _ORDERS.index(order), microseconds, id_)
        for one in value:
            packed += one.encode() if isinstance(one, str) else _VALUE.pack(one)
        told = (packed, where)
    seal = hashlib.blake2b(
        repr(told).encode(), digest_size=_SEAL_BYTES, person=b"d3 cursor"
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
            "This cursor does not belong to this question.",
            "Use a next_cursor unchanged, with the filters and the order it was answered for, or "
            "none.",
        )
    return place


def _place(packed: bytes, order: Order) -> Place:
    """What was packed, where it is of this order's form; encoding it again tells if it was."""
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
