"""Requests that may be sent twice and count once: keys, reservations and stored answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from d3.domain.errors import IdempotencyKeyInvalid

KEPT = timedelta(hours=24)
"""How long an answer is kept."""

LEASE = timedelta(seconds=60)
"""How long a key stays taken after its process last said that it is at work on the answer."""

RENEWAL = timedelta(seconds=20)
"""How often it says so."""

ANONYMOUS = 0
"""The owner of keys that come without an account; accounts count from 1."""

_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A client's name for its request.

    Attributes:
        owner: the user's id, or :data:`ANONYMOUS`; each owner has keys of their own.
        key: 1 to 255 printable ASCII characters.
        request_hash: SHA-256 in hexadecimal over all of the request that decides its answer.

    Raises:
        IdempotencyKeyInvalid: the key is empty, too long, or holds other characters.
    """

    owner: int
    key: str
    request_hash: str

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise IdempotencyKeyInvalid(
                "This idempotency key cannot be used.",
                "Send 1 to 255 printable ASCII characters, such as a UUID.",
            )


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Reservation:
    """The right to answer a key, as long as the lease is renewed.

    Attributes:
        token: unguessable; changes when another process takes over.
    """

    owner: int
    key: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The body of the first answer."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Completion:
    """How a reserved key gets its answer.

    Attributes:
        reservation: made before the work began.
        answer: makes the body from the ids of the entries, in order; called inside the
            transaction, so it has to be quick and without side effects.
    """

    reservation: Reservation
    answer: Callable[[Sequence[int]], bytes]
