"""Users, their API keys and scopes, and what makes a key valid."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from d3.domain.errors import (
    AccountInvalid,
    KeyExpired,
    KeyInvalid,
    KeyLimitReached,
    KeyNotLive,
    KeyRevoked,
    UserDisabled,
    shown,
)
from d3.domain.history import in_utc
from d3.domain.keys import (
    LONGEST_KEY,
    KeyForm,
    MintedKey,
    fingerprint,
    form_of,
    key_id_of,
    same_fingerprint,
)

LIVE_KEYS = 2
"""How many keys of a user are valid at once: the one in use, and the one that replaces it."""

LAST_USE_INTERVAL = timedelta(minutes=1)
"""A key's last use is written down at most this often."""

ROTATION_OVERLAP = timedelta(hours=24)
"""How long the old key goes on working beside the new one, unless said otherwise."""

_LONGEST_NAME = 255
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


class Scope(StrEnum):
    """What a key allows.

    ``predict`` judges images; ``read`` shows one's own results; ``models`` loads, lists and uploads
    models; ``admin`` allows all of that, and everybody's results and accounts.
    """

    PREDICT = "predict"
    READ = "read"
    MODELS = "models"
    ADMIN = "admin"


DEFAULT_SCOPES = frozenset({Scope.PREDICT, Scope.READ})
"""What a key allows unless said otherwise."""

ADOPTED_SCOPES = frozenset({Scope.PREDICT, Scope.READ, Scope.MODELS})
"""What the prototype's keys allow from now on: every call that the prototype had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user.

    Attributes:
        id: counts from 1; never reused.
        username: unique; see :func:`checked_username`.
        email: unique; None if there is none.
        created_at: in UTC.
        is_active: whether their keys are valid.
    """

    id: int
    username: str
    email: str | None
    created_at: datetime
    is_active: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What a user has, in numbers.

    Attributes:
        results: in the history.
        keys: also those that no longer work.
        webhooks: of theirs.
        jobs: all of theirs.
        open_jobs: those that are not over.
    """

    results: int = 0
    keys: int = 0
    webhooks: int = 0
    jobs: int = 0
    open_jobs: int = 0


@dataclass(frozen=True, slots=True)
class HostUser:
    """A user whom the application that D3 is part of has authenticated.

    Attributes:
        username: of the user's account in D3, which is made when they first come; see
            :func:`checked_username`.
        scopes: what they may do, by the names of :class:`Scope`.

    Raises:
        AccountInvalid: the name cannot be a username, or there is no scope, or an unknown one.
        TypeError: the name is no string, or the scopes are one and not a set of them.
    """

    username: str
    scopes: Collection[str] = DEFAULT_SCOPES

    def __post_init__(self) -> None:
        if not isinstance(self.username, str):
            raise TypeError(f"The username has to be a string, not {shown(self.username)}.")
        scopes = self.scopes
        if isinstance(scopes, str) or not isinstance(scopes, Collection):
            raise TypeError(f"The scopes have to be a set such as {{'read'}}, not {shown(scopes)}.")
        object.__setattr__(self, "username", checked_username(self.username))
        object.__setattr__(self, "scopes", checked_scopes(scopes))


class KeyState(StrEnum):
    """Whether a key is valid."""

    LIVE = "live"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key without its secret.

    Attributes:
        key_id: part of the key itself; may be shown anywhere.
        created_at: in UTC.
        expires_at: from then on the key is invalid; None: never.
        last_used_at: to the minute; None: never yet.
        revoked_at: when it was revoked; None: it was not.
    """

    key_id: str
    user_id: int
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None

    def state(self, now: datetime) -> KeyState:
        """Its state at this time."""
        if self.revoked_at is not None:
            return KeyState.REVOKED
        if self.expires_at is not None and self.expires_at <= now:
            return KeyState.EXPIRED
        return KeyState.LIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey(ApiKey):
    """A new key with its secret: shown to its owner now and never again.

    Attributes:
        key: what to send as ``X-API-Key``.
    """

    key: str = field(repr=False)


def issued(minted: MintedKey, user_id: int, new: NewKey, now: datetime) -> IssuedKey:
    """A new key as asked for."""
    return IssuedKey(
        key_id=minted.key_id,
        user_id=user_id,
        name=new.name,
        scopes=new.scopes,
        created_at=in_utc(now),
        expires_at=None if new.expires_at is None else in_utc(new.expires_at),
        key=minted.key,
    )


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that is asked for.

    Attributes:
        name: for its owner, at most 255 characters; may be empty.
        scopes: at least one.
        expires_at: None: never.

    Raises:
        AccountInvalid: no scope, an unknown one, or an invalid name.
        ValueError: a time without a zone.
    """

    name: str = ""
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.name:
            _checked_text(self.name, "name of a key")
        object.__setattr__(self, "scopes", checked_scopes(self.scopes))
        if self.expires_at is not None and self.expires_at.utcoffset() is None:
            raise ValueError("a time needs a zone")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, after their key was accepted."""

    user_id: int
    key_id: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether this is allowed; ``admin`` allows everything."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


@dataclass(frozen=True, slots=True)
class Admission:
    """Whose key this is, and when it expires.

    Attributes:
        expires_at: None: never.
    """

    principal: Principal
    expires_at: datetime | None
    username: str


@dataclass(frozen=True, slots=True)
class Presented:
    """A key as it was sent, before it is looked up.

    Attributes:
        key_id: None in an adopted key, which is found by its fingerprint.
        fingerprint: to compare with the stored one.
    """

    key_id: str | None
    fingerprint: str = field(repr=False)


def presented(key: str) -> Presented:
    """Parse a key.

    Raises:
        KeyInvalid: it is empty, too long or mistyped; no lookup is needed.
    """
    if not key or len(key) > LONGEST_KEY or form_of(key) is KeyForm.MISTYPED:
        raise KeyInvalid
    return Presented(key_id_of(key), fingerprint(key))


def admit(
    asked: Presented, found: ApiKey | None, stored: str, *, user_is_active: bool, now: datetime
) -> Principal:
    """The owner of a valid key.

    Args:
        asked: what was sent.
        found: the key that the store has for it, if any.
        stored: that key's fingerprint.
        user_is_active: its owner's.
        now: the current time.

    Raises:
        AccessRefused: one of its kinds; all look the same to the caller.
    """
    # Compared first, so that only the owner of the secret learns its state.
    if not same_fingerprint(asked.fingerprint, stored) or found is None:
        raise KeyInvalid
    return valid_owner(found, user_is_active=user_is_active, now=now)


def valid_owner(found: ApiKey, *, user_is_active: bool, now: datetime) -> Principal:
    """The owner of a stored key, if it is valid now; the secret is not needed.

    Raises:
        AccessRefused: KeyRevoked, KeyExpired or UserDisabled.
    """
    state = found.state(now)
    if state is KeyState.REVOKED:
        raise KeyRevoked
    if state is KeyState.EXPIRED:
        raise KeyExpired
    if not user_is_active:
        raise UserDisabled
    return Principal(found.user_id, found.key_id, found.scopes)


def should_record_use(key: ApiKey, now: datetime) -> bool:
    """Whether this use of the key should be recorded."""
    return key.last_used_at is None or now - key.last_used_at >= LAST_USE_INTERVAL


def check_key_limit(keys: Iterable[ApiKey], now: datetime) -> None:
    """Check that a user with these keys may have another one.

    Raises:
        KeyLimitReached: they have the most live keys allowed.
    """
    if sum(key.state(now) is KeyState.LIVE for key in keys) >= LIVE_KEYS:
        raise KeyLimitReached(
            f"This user already has {LIVE_KEYS} live keys, which is the maximum.",
            "Revoke one first: `d3 keys list USERNAME`, then `d3 keys revoke KEY_ID`.",
        )


def retired(key: ApiKey, overlap: timedelta, now: datetime) -> ApiKey:
    """The key after its rotation: expired now, or at the end of the overlap at the latest.

    Raises:
        KeyNotLive: it expired or was revoked before.
    """
    if (state := key.state(now)) is not KeyState.LIVE:
        raise KeyNotLive(
            f"The key {key.key_id} cannot be rotated: it is {state.value}.",
            "Create a new one: `d3 keys create USERNAME`.",
        )
    if overlap <= timedelta(0):
        return replace(key, revoked_at=now)
    end = now + overlap
    return replace(key, expires_at=end if key.expires_at is None else min(key.expires_at, end))


def checked_username(username: str) -> str:
    """The name of a new user in one Unicode form (NFC), so that equal looks are equal.

    It is one word in any shell and valid in any path.

    Raises:
        AccountInvalid: not 1 to 255 letters, digits, ``.``, ``_``, ``-``, ``+`` and ``@``,
            beginning with a letter or a digit.
    """
    name = unicodedata.normalize("NFC", username)
    kinds = [unicodedata.category(one)[0] for one in name]
    one_word = all(kind in "LMN" or one in "._-+@" for kind, one in zip(kinds, name, strict=True))
    if not 1 <= len(name) <= _LONGEST_NAME or kinds[0] not in "LN" or not one_word:
        raise AccountInvalid(
            f"{shown(name)} cannot be a username.",
            f"Use 1 to {_LONGEST_NAME} letters, digits, '.', '_', '-', '+' and '@'. The first must "
            "be a letter or a digit.",
        )
    return name


def checked_email(email: str) -> str:
    """The address, unchanged.

    Raises:
        AccountInvalid: it has no ``@`` with something on both sides, or holds spaces.
    """
    if not _EMAIL.fullmatch(email):
        raise AccountInvalid(
            f"{shown(email)} is not an email address.", "Use one such as ada@example.org."
        )
    return _checked_text(email, "email address")


def checked_scopes(scopes: Iterable[str]) -> frozenset[Scope]:
    """The scopes by name.

    Raises:
        AccountInvalid: there is none, or an unknown one.
    """
    known = ", ".join(Scope)
    found = set()
    for scope in scopes:
        try:
            found.add(Scope(scope))
        except ValueError as error:
            raise AccountInvalid(
                f"There is no scope {shown(scope)}.", f"The scopes are {known}."
            ) from error
    if not found:
        raise AccountInvalid("At least one scope is needed.", f"Choose from {known}.")
    return frozenset(found)


def _checked_text(text: str, what: str) -> str:
    if not 1 <= len(text) <= _LONGEST_NAME or not text.isprintable() or text != text.strip():
        raise AccountInvalid(
            f"{shown(text)} cannot be a {what}.",
            f"Use 1 to {_LONGEST_NAME} printable characters, without spaces at the start or end.",
        )
    return text
