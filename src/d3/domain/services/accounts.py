"""Users and keys by username, with the usual defaults."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta

from d3.domain.accounts import (
    DEFAULT_SCOPES,
    LIVE_KEYS,
    ROTATION_OVERLAP,
    ApiKey,
    Holdings,
    IssuedKey,
    KeyState,
    NewKey,
    Principal,
    Scope,
    User,
    checked_scopes,
)
from d3.domain.errors import AccountInvalid, KeyNotFound, UserExists, UserNotFound
from d3.domain.keys import key_id_of
from d3.domain.ports.accounts import Accounts
from d3.domain.ports.clock import Clock

FIRST_USER = "admin"


class AccountService:
    """What the API, the console and the commands call.

    Every method raises StorageFailed if the store cannot be used.
    """

    def __init__(self, accounts: Accounts, clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock

    def now(self) -> datetime:
        """The current time in UTC, by which keys expire."""
        return self._clock.now()

    def add_user(self, username: str, email: str | None = None) -> User:
        """Create a user.

        Raises:
            UserExists: another user has the username or the email.
            AccountInvalid: one of them cannot be used.
        """
        return self._accounts.add_user(username, email, self._clock.now())

    def users(self) -> list[User]:
        return self._accounts.users()

    def usernames(self) -> dict[int, str]:
        """The name of every account, by its id."""
        return {user.id: user.username for user in self.users()}

    def set_active(self, username: str, *, active: bool) -> User:
        """Enable or disable all keys of a user.

        Raises:
            UserNotFound: there is none.
        """
        return self._accounts.set_active(self._accounts.user(username).id, active=active)

    def holdings(self, username: str) -> Holdings:
        """What a user has.

        Raises:
            UserNotFound: there is none.
        """
        return self._accounts.holdings(self._accounts.user(username).id)

    def delete_user(self, username: str, *, keep: bool, heir: str | None = None) -> Holdings:
        """Delete a user; what they had.

        Args:
            username: who goes.
            keep: whether their results and jobs stay.
            heir: the user who gets them; without, they are nobody's, and only admins see them.

        Raises:
            UserNotFound: there is no such user, or no such heir.
            AccountInvalid: the heir is who goes, or nothing is kept for them.
            UserBusy: a job of theirs is not over.
        """
        gone = self._accounts.user(username)
        to = None if heir is None else self._accounts.user(heir)
        if to == gone or (to is not None and not keep):
            raise AccountInvalid(
                "Nobody can get these results.", "Name another user, and keep the results."
            )
        next_owner = None if to is None else to.id
        return self._accounts.delete_user(gone.id, self._clock.now(), keep=keep, heir=next_owner)

    def create_key(
        self,
        username: str,
        *,
        name: str = "",
        scopes: Iterable[str] = DEFAULT_SCOPES,
        lifetime: timedelta | None = None,
    ) -> IssuedKey:
        """Create a key; its secret is returned here and never again.

        Args:
            username: its owner.
            name: for its owner.
            scopes: what it allows.
            lifetime: from now; None: for ever.

        Raises:
            UserNotFound: there is no such user.
            KeyLimitReached: the user has two live keys.
            AccountInvalid: the name, a scope or the lifetime is not valid.
        """
        now = self._clock.now()
        new = NewKey(name, checked_scopes(scopes), _end(now, lifetime))
        return self._accounts.create_key(self._accounts.user(username).id, new, now)

    def has_live_key(self) -> bool:
        """Whether any key is valid."""
        return next(self._live_keys(), None) is not None

    def administrators(self) -> list[str]:
        """The usernames of those who hold a valid key that allows everything."""
        return sorted(
            {user.username for user, key in self._live_keys() if Scope.ADMIN in key.scopes}
        )

    def _live_keys(self) -> Iterator[tuple[User, ApiKey]]:
        now = self._clock.now()
        active = {user.id: user for user in self.users() if user.is_active}
        for key in self.keys():
            if key.user_id in active and key.state(now) is KeyState.LIVE:
                yield active[key.user_id], key

    def first_key(self) -> IssuedKey:
        """Create the first key: it allows everything, for a new user ``admin``.

        Raises:
            KeyLimitReached: this user has two live keys.
        """
        with suppress(UserExists):
            self.add_user(FIRST_USER)
        return self.create_key(FIRST_USER, name="first key", scopes=[Scope.ADMIN])

    def make_room_for_first_key(self) -> ApiKey | None:
        """Enable the user ``admin`` and make room for a key; the key revoked for it."""
        with suppress(UserNotFound):
            self.set_active(FIRST_USER, active=True)
            now = self._clock.now()
            live = [key for key in self.keys(FIRST_USER) if key.state(now) is KeyState.LIVE]
            if len(live) >= LIVE_KEYS:
                return self.revoke_key(live[0].key_id)
        return None

    def keys(self, username: str | None = None) -> list[ApiKey]:
        """All keys, or those of a user, oldest first.

        Raises:
            UserNotFound: there is no such user.
        """
        if username is None:
            return self._accounts.keys()
        return self._accounts.keys(self._accounts.user(username).id)

    def revoke_key(self, key: str) -> ApiKey:
        """Revoke a key for good.

        Args:
            key: its id, or the whole key, as it may be found in the wrong place.

        Raises:
            KeyNotFound: there is none.
        """
        return self._accounts.revoke_key(key_id_of(key) or key, self._clock.now())

    def rotate_key(
        self,
        key: str,
        *,
        overlap: timedelta = ROTATION_OVERLAP,
        lifetime: timedelta | None = None,
    ) -> IssuedKey:
        """Create a key that replaces another; the old one expires after the overlap.

        Args:
            key: the old one's id, or the whole key.
            overlap: how long both work; zero ends the old one now.
            lifetime: of the new one; None: as long as the old one's.

        Raises:
            KeyNotFound: there is no such key.
            KeyNotLive: it has expired or was revoked.
            KeyLimitReached: with the overlap the user would have three live keys.
            AccountInvalid: the lifetime is not valid.
        """
        now = self._clock.now()
        key_id = key_id_of(key) or key
        if lifetime is None:
            lifetime = self._lifetime(key_id)
        _end(now, overlap)
        return self._accounts.rotate_key(key_id, overlap, _end(now, lifetime), now)

    def authenticate(self, key: str) -> Principal:
        """Whose key this is.

        Raises:
            AccessRefused: KeyInvalid, KeyRevoked, KeyExpired or UserDisabled; answer all alike.
        """
        return self._accounts.authenticate(key, self._clock.now())

    def _lifetime(self, key_id: str) -> timedelta | None:
        for key in self._accounts.keys(None):
            if key.key_id == key_id:
                return None if key.expires_at is None else key.expires_at - key.created_at
        raise KeyNotFound(
            "There is no key with this id.", "`d3 keys list` shows the id of every key."
        )


def _end(now: datetime, lifetime: timedelta | None) -> datetime | None:
    if lifetime is None:
        return None
    try:
        return now + lifetime
    except OverflowError as error:
        raise AccountInvalid(
            "That is too long.", "Leave it out for a key that never expires."
        ) from error
