"""The form of an API key: ``d3_<id>_<secret><checksum>``.

The secret is 256 random bits. The checksum (CRC-32 over all before it) tells a mistyped or cut
key from a wrong one without a lookup, and lets scanners for leaked secrets be sure of a find.
Stores keep only :func:`fingerprint`; a secret of 256 bits needs no slow hash. Keys adopted from
the prototype have any form and are found by their fingerprint.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from dataclasses import dataclass, field
from enum import StrEnum

LONGEST_KEY = 1024
"""Nothing longer is looked at."""

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_LENGTH = 10
_SECRET_LENGTH = 43  # 62**43 is just above 2**256
_CHECKSUM_LENGTH = 6  # 62**6 is above 2**32
_KEY = re.compile(
    rf"d3_([0-9A-Za-z]{{{_ID_LENGTH}}})_[0-9A-Za-z]{{{_SECRET_LENGTH + _CHECKSUM_LENGTH}}}"
)


@dataclass(frozen=True, slots=True)
class MintedKey:
    """A key just made; the only moment at which the whole of it is known.

    Attributes:
        key_id: names the key; no secret.
        key: what its owner sends.
        fingerprint: what is kept of it.
    """

    key_id: str
    key: str = field(repr=False)
    fingerprint: str = field(repr=False)


class KeyForm(StrEnum):
    """What a key's text alone says of it."""

    SOUND = "sound"
    MISTYPED = "mistyped"
    OTHER = "other"


def mint() -> MintedKey:
    """A new key: a random id and 256 random bits from the operating system."""
    key_id = new_key_id()
    key = sealed(key_id, secrets.randbits(256))
    return MintedKey(key_id, key, fingerprint(key))


def sealed(key_id: str, secret: int) -> str:
    """The key of an id and a secret of at most 256 bits, with its checksum."""
    stem = f"d3_{key_id}_{_base62(secret, _SECRET_LENGTH)}"
    return stem + _checksum(stem)


def new_key_id() -> str:
    """A random id for a key: about 60 bits, enough that no two are alike."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))


def form_of(key: str) -> KeyForm:
    """Whether the key is of our making, nearly so, or something else, such as an adopted one."""
    if not _KEY.fullmatch(key):
        return KeyForm.OTHER
    return KeyForm.SOUND if _checksum(key[:-6]) == key[-6:] else KeyForm.MISTYPED


def key_id_of(key: str) -> str | None:
    """The id that stands in a key of our making; None in any other text."""
    found = _KEY.fullmatch(key)
    return found[1] if found and form_of(key) is KeyForm.SOUND else None


def fingerprint(key: str) -> str:
    """SHA-256 of the whole key in hexadecimal."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def same_fingerprint(one: str, other: str) -> bool:
    """Whether two fingerprints are equal, in a time that does not tell how far they are."""
    return secrets.compare_digest(one.encode(), other.encode())


def _checksum(stem: str) -> str:
    return _base62(zlib.crc32(stem.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
