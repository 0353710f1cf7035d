"""Where a reader of the history stands, as a short string to hand out and take back."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from d3.domain.errors import CursorInvalid
from d3.domain.history import HistoryEntry, HistoryFilter

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAYOUT = struct.Struct(">Bqq8s")
_VERSION = 1


class Place(NamedTuple):
    """An entry's place in the order of the history: its time, then its id."""

    created_at: datetime
    id: int


def place_of(entry: HistoryEntry) -> Place:
    """Where the entry stands."""
    return Place(entry.created_at, entry.id)


def encode_cursor(place: Place, where: HistoryFilter) -> str:
    """A cursor that continues after ``place``, for this filter only."""
    microseconds = (place.created_at - _EPOCH) // timedelta(microseconds=1)
    seal = _seal(microseconds, place.id, where)
    packed = _LAYOUT.pack(_VERSION, microseconds, place.id, seal)
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode_cursor(cursor: str, where: HistoryFilter) -> Place:
    """The place a cursor stands for.

    Raises:
        CursorInvalid: it was made up, changed, or handed out for another filter. The seal finds
            mistakes; it keeps no secret, since the filter decides what may be seen.
    """
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        version, microseconds, id_, seal = _LAYOUT.unpack(packed)
        place = Place(_EPOCH + timedelta(microseconds=microseconds), id_)
        sound = version == _VERSION and seal == _seal(microseconds, id_, where)
        sound = sound and encode_cursor(place, where) == cursor
    except (binascii.Error, struct.error, ValueError, OverflowError):
        sound = False
    if not sound:
        raise CursorInvalid(
            "This cursor does not belong to this question.",
            "Use a next_cursor unchanged and with the filters it was answered for, or none.",
        )
    return place


def _seal(microseconds: int, id_: int, where: HistoryFilter) -> bytes:
    told = repr((_VERSION, microseconds, id_, where))
    return hashlib.blake2b(told.encode(), digest_size=8, person=b"d3 cursor").digest()
