"""Who calls: users and their API keys, sessions, and how much each caller may ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from d3.domain.accounts import Admission, ApiKey, IssuedKey, KeyWish, Principal, User


@runtime_checkable
class Accounts(Protocol):
    """Users and keys; of a key's secret only the SHA-256 is kept. Safe to use from many threads.

    Every method raises StorageFailed where the store cannot be used. A moment has a zone.
    """

    def add_user(self, username: str, email: str | None, now: datetime) -> User:
        """Make an account.

        Raises:
            UserExists: the username or the email is another account's.
            AccountInvalid: one of them cannot be used.
        """
        ...

    def user(self, username: str) -> User:
        """The account of this name.

        Raises:
            UserNotFound: there is none.
        """
        ...

    def users(self) -> list[User]:
        """Every account, by id."""
        ...

    def set_active(self, user_id: int, *, active: bool) -> User:
        """Let all keys of an account be valid, or none.

        Raises:
            UserNotFound: there is none.
        """
        ...

    def create_key(self, user_id: int, wish: KeyWish, now: datetime) -> IssuedKey:
        """Make a key for an account; the secret is returned here and never again.

        Raises:
            UserNotFound: there is no such account.
            KeyLimitReached: two of the account's keys are live; also if both were made just now.
        """
        ...

    def keys(self, user_id: int | None = None) -> list[ApiKey]:
        """Every key, or those of an account, oldest first; also expired and revoked ones."""
        ...

    def revoke_key(self, key_id: str, now: datetime) -> ApiKey:
        """Take a key back for good; a key that was taken back before stays as it is.

        Raises:
            KeyNotFound: there is none.
        """
        ...

    def rotate_key(
        self, key_id: str, overlap: timedelta, expires_at: datetime | None, now: datetime
    ) -> IssuedKey:
        """Make a key of the same name and scopes; the old one ends after the overlap.

        Of two rotations of one key at once, one succeeds. With no overlap the old key ends now.

        Raises:
            KeyNotFound: there is no such key.
            KeyNotLive: the key has ended; a new one is to be created instead.
            KeyLimitReached: the account has another live key, and the overlap would make three.
        """
        ...

    def admit(self, key: str, now: datetime) -> Admission:
        """Who sent this key, and until when it is good as it stands; writes nothing.

        Raises:
            AccessRefused: KeyInvalid, KeyRevoked, KeyExpired or UserDisabled; to be answered
                alike.
        """
        ...

    def readmit(self, key_id: str, now: datetime) -> Admission:
        """What the key of this id allows, for a caller who has shown it before; writes nothing.

        Raises:
            AccessRefused: KeyInvalid, KeyRevoked, KeyExpired or UserDisabled.
        """
        ...

    def authenticate(self, key: str, now: datetime) -> Principal:
        """Who sent this key. Its last use is noted, at most once a minute.

        Raises:
            AccessRefused: as from :meth:`admit`.
        """
        ...

    def note_uses(self, uses: Mapping[str, datetime]) -> None:
        """Write down when keys were last used, by key id, in one transaction; never backwards."""
        ...

    def close(self) -> None:
        """Give connections back; the store is of no use afterwards."""
        ...


@runtime_checkable
class Sessions(Protocol):
    """Tokens that stand for a key which was shown, for a while; they hold no secret of it."""

    def begin(self, key_id: str) -> str:
        """A token for the key of this id."""
        ...

    def key_of(self, token: str) -> str | None:
        """The id of the key that began the session; None if the token is none of ours.

        Raises:
            SessionEnded: it lasted as long as it may.
        """
        ...


@dataclass(frozen=True, slots=True)
class Allowance:
    """How a caller stands after a request.

    Attributes:
        limit: requests of a window.
        remaining: of them.
        reset_seconds: until there is room again, or the window is over.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int


@runtime_checkable
class RateLimiter(Protocol):
    """Counts what each caller does. Safe to use from many threads; never raises.

    Where its store is away it lets everybody pass: a limit that cannot be counted is no reason to
    refuse a service.
    """

    @property
    def waits(self) -> bool:
        """Whether a call may wait for a server, so that it wants a thread."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why it does not count, as of the last attempt; None while it does."""
        ...

    def hit(self, rate: str, who: str) -> Allowance:
        """Count one.

        Args:
            rate: such as ``100/minute``.
            who: what is counted of whom, such as ``key:4fQ...``.
        """
        ...

    def look(self, rate: str, who: str) -> Allowance:
        """The same without counting one."""
        ...

    def close(self) -> None:
        """Give connections back."""
        ...
