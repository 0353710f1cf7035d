"""Users and their API keys, sessions, and rate limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from d3.domain.accounts import Admission, ApiKey, Holdings, IssuedKey, NewKey, Principal, User


@runtime_checkable
class Accounts(Protocol):
    """Users and keys. Of a key's secret only the SHA-256 is kept. Safe to use from many threads.

    Every method raises StorageFailed if the store cannot be used. All times have a zone.
    """

    def add_user(self, username: str, email: str | None, now: datetime) -> User:
        """Create a user.

        Raises:
            UserExists: another user has the username or the email.
            AccountInvalid: one of them cannot be used.
        """
        ...

    def user(self, username: str) -> User:
        """The user of this name.

        Raises:
            UserNotFound: there is none.
        """
        ...

    def users(self) -> list[User]:
        """All users, by id."""
        ...

    def set_active(self, user_id: int, *, active: bool) -> User:
        """Enable or disable all keys of a user.

        Raises:
            UserNotFound: there is none.
        """
        ...

    def holdings(self, user_id: int) -> Holdings:
        """What a user has; nothing where there is no such user."""
        ...

    def delete_user(
        self, user_id: int, now: datetime, *, keep: bool, heir: int | None = None
    ) -> Holdings:
        """Delete a user in one transaction; what they had.

        Their keys, webhooks and kept answers are deleted with them. What they said about images
        and the records of their requests stay without a name.

        Args:
            user_id: who goes.
            now: from when on their jobs are deleted, if they are not kept.
            keep: whether their results and jobs stay.
            heir: whose they are then; None: nobody's.

        Raises:
            UserNotFound: there is no such user, or no such heir.
            UserBusy: a job of theirs is not over.
        """
        ...

    def create_key(self, user_id: int, new: NewKey, now: datetime) -> IssuedKey:
        """Create a key; its secret is returned here and never again.

        Raises:
            UserNotFound: there is no such user.
            KeyLimitReached: the user has two live keys; also if both were created just now.
        """
        ...

    def keys(self, user_id: int | None = None) -> list[ApiKey]:
        """All keys, or those of a user, oldest first; also expired and revoked ones."""
        ...

    def revoke_key(self, key_id: str, now: datetime) -> ApiKey:
        """Revoke a key for good; one that is revoked already stays as it is.

        Raises:
            KeyNotFound: there is none.
        """
        ...

    def rotate_key(
        self, key_id: str, overlap: timedelta, expires_at: datetime | None, now: datetime
    ) -> IssuedKey:
        """Create a key of the same name and scopes; the old one expires after the overlap.

        Of two rotations at once, one succeeds. Without overlap the old key expires now.

        Raises:
            KeyNotFound: there is no such key.
            KeyNotLive: the key has expired or was revoked; create a new one instead.
            KeyLimitReached: the user has another live key, and the overlap would make three.
        """
        ...

    def admit(self, key: str, now: datetime) -> Admission:
        """Whose key this is, and until when it is valid; writes nothing.

        Raises:
            AccessRefused: KeyInvalid, KeyRevoked, KeyExpired or UserDisabled; answer all alike.
        """
        ...

    def readmit(self, key_id: str, now: datetime) -> Admission:
        """The same by the id of a key that the caller has shown before; writes nothing.

        Raises:
            AccessRefused: KeyInvalid, KeyRevoked, KeyExpired or UserDisabled.
        """
        ...

    def authenticate(self, key: str, now: datetime) -> Principal:
        """Whose key this is. Its last use is recorded, at most once a minute.

        Raises:
            AccessRefused: as from :meth:`admit`.
        """
        ...

    def record_uses(self, uses: Mapping[str, datetime]) -> None:
        """Record when keys were last used, by key id, in one transaction; never backwards."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


@runtime_checkable
class Sessions(Protocol):
    """Tokens that stand for a key that was shown; they do not contain its secret."""

    def begin(self, key_id: str) -> str:
        """A token for the key of this id."""
        ...

    def key_of(self, token: str) -> str | None:
        """The id of the key that began the session; None if the token is not ours.

        Raises:
            SessionEnded: it has expired.
        """
        ...


@dataclass(frozen=True, slots=True)
class Allowance:
    """The caller's rate limit after a request.

    Attributes:
        limit: requests of a window.
        remaining: of them.
        reset_seconds: until another request is allowed, or the window is over.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int


@runtime_checkable
class RateLimiter(Protocol):
    """Counts each caller's requests. Safe to use from many threads; never raises.

    While its store does not answer, everybody may pass: a limit that cannot be counted is no reason
    to refuse service.
    """

    @property
    def waits(self) -> bool:
        """Whether a call may wait for a server, and so needs a thread."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why nothing is counted, as of the last attempt; None while it works."""
        ...

    def hit(self, rate: str, who: str) -> Allowance:
        """Count one request.

        Args:
            rate: such as ``100/minute``.
            who: the caller, such as ``key:4fQ...``.
        """
        ...

    def look(self, rate: str, who: str) -> Allowance:
        """The same without counting."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...
