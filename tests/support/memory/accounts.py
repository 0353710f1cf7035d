"""Users and keys in this process's memory: the port's meaning in plain Python."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime, timedelta

from d3.domain.accounts import (
    Admission,
    ApiKey,
    Holdings,
    IssuedKey,
    NewKey,
    Principal,
    User,
    admit,
    check_key_limit,
    checked_email,
    checked_username,
    issued,
    presented,
    retired,
    should_record_use,
    valid_owner,
)
from d3.domain.errors import KeyInvalid, KeyNotFound, UserExists, UserNotFound
from d3.domain.history import in_utc
from d3.domain.keys import mint


class MemoryAccounts:
    """Implements ``Accounts``."""

    def __init__(self) -> None:
        self._users: dict[int, User] = {}
        self._last = 0
        self._keys: dict[str, ApiKey] = {}
        self._fingerprints: dict[str, str] = {}
        self._lock = threading.RLock()

    def add_user(self, username: str, email: str | None, now: datetime) -> User:
        """Make an account."""
        username = checked_username(username)
        email = None if email is None else checked_email(email)
        with self._lock:
            for other in self._users.values():
                if other.username == username or email in {other.email} - {None}:
                    raise UserExists("The username or the email is another account's.")
            self._last = id_ = self._last + 1
            self._users[id_] = User(id=id_, username=username, email=email, created_at=in_utc(now))
            return self._users[id_]

    def user(self, username: str) -> User:
        """The account of this name."""
        for user in self.users():
            if user.username == username:
                return user
        raise UserNotFound("There is no such user.")

    def users(self) -> list[User]:
        """Every account, by id."""
        return list(self._users.values())

    def set_active(self, user_id: int, *, active: bool) -> User:
        """Open or close the door for all keys of an account."""
        with self._lock:
            self._users[user_id] = replace(self._known(user_id), is_active=active)
            return self._users[user_id]

    def holdings(self, user_id: int) -> Holdings:
        """What an account has: here, keys."""
        return Holdings(keys=len(self.keys(user_id)))

    def delete_user(
        self, user_id: int, now: datetime, *, keep: bool, heir: int | None = None
    ) -> Holdings:
        """Close an account for good."""
        del now, keep
        with self._lock:
            for one in {user_id} if heir is None else {user_id, heir}:
                self._known(one)
            had = self.holdings(user_id)
            for key in self.keys(user_id):
                del self._keys[key.key_id], self._fingerprints[key.key_id]
            del self._users[user_id]
            return had

    def create_key(self, user_id: int, new: NewKey, now: datetime) -> IssuedKey:
        """Make a key for an account."""
        with self._lock:
            self._known(user_id)
            check_key_limit(self.keys(user_id), now)
            return self._issue(user_id, new, now)

    def keys(self, user_id: int | None = None) -> list[ApiKey]:
        """Every key, or those of an account, oldest first."""
        with self._lock:
            found = [key for key in self._keys.values() if user_id in {None, key.user_id}]
        return sorted(found, key=lambda key: (key.created_at, key.key_id))

    def revoke_key(self, key_id: str, now: datetime) -> ApiKey:
        """Take a key back for good."""
        with self._lock:
            key = self._key(key_id)
            if key.revoked_at is None:
                key = self._keys[key_id] = replace(key, revoked_at=in_utc(now))
            return key

    def rotate_key(
        self, key_id: str, overlap: timedelta, expires_at: datetime | None, now: datetime
    ) -> IssuedKey:
        """Make a key of the same name and scopes; the old one ends after the overlap."""
        with self._lock:
            old = self._key(key_id)
            ending = retired(old, overlap, in_utc(now))
            others = [key for key in self.keys(old.user_id) if key.key_id != key_id]
            check_key_limit([*others, ending], now)
            self._keys[key_id] = ending
            return self._issue(old.user_id, NewKey(old.name, old.scopes, expires_at), now)

    def authenticate(self, key: str, now: datetime) -> Principal:
        """Who sent this key. Its last use is noted, at most once a minute."""
        principal = self.admit(key, now).principal
        with self._lock:
            if should_record_use(self._keys[principal.key_id], now):
                self.record_uses({principal.key_id: now})
        return principal

    def admit(self, key: str, now: datetime) -> Admission:
        """Who sent this key, and until when it is good as it stands."""
        asked = presented(key)
        with self._lock:
            found = self._keys.get(asked.key_id or "")
            stored = self._fingerprints.get(asked.key_id or "", "")
            active = found is not None and self._users[found.user_id].is_active
            principal = admit(asked, found, stored, user_is_active=active, now=now)
            return self._admission(principal, self._keys[principal.key_id])

    def readmit(self, key_id: str, now: datetime) -> Admission:
        """What the key of this id opens, for whoever has shown it before."""
        with self._lock:
            found = self._keys.get(key_id)
            if found is None:
                raise KeyInvalid
            active = self._users[found.user_id].is_active
            return self._admission(valid_owner(found, user_is_active=active, now=now), found)

    def record_uses(self, uses: Mapping[str, datetime]) -> None:
        """Write down when keys were last used; never backwards."""
        with self._lock:
            for key_id, used in uses.items():
                key = self._keys.get(key_id)
                if key is not None and (key.last_used_at is None or key.last_used_at < used):
                    self._keys[key_id] = replace(key, last_used_at=in_utc(used))

    def close(self) -> None:
        """Nothing to give back."""

    def _admission(self, principal: Principal, found: ApiKey) -> Admission:
        return Admission(principal, found.expires_at, self._users[found.user_id].username)

    def _issue(self, user_id: int, new: NewKey, now: datetime) -> IssuedKey:
        minted = mint()
        made = issued(minted, user_id, new, now)
        kept = {one.name: getattr(made, one.name) for one in fields(ApiKey)}
        self._keys[made.key_id] = ApiKey(**kept)
        self._fingerprints[made.key_id] = minted.fingerprint
        return made

    def _known(self, user_id: int) -> User:
        if user_id not in self._users:
            raise UserNotFound("There is no such user.")
        return self._users[user_id]

    def _key(self, key_id: str) -> ApiKey:
        if key_id not in self._keys:
            raise KeyNotFound("There is no key with this id.")
        return self._keys[key_id]
