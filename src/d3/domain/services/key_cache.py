"""Whose key was sent, in microseconds: a lookup is cached for a second.

So a key revoked on any replica is refused a second later. Requests write nothing: last uses are
collected and written together.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from d3.domain.access import Caller
from d3.domain.accounts import Admission, Scope, User
from d3.domain.errors import AccessForbidden, StorageFailed, UserExists, UserNotFound
from d3.domain.ports.accounts import Accounts
from d3.domain.ports.clock import Clock

CACHED_SECONDS = 1.0
"""How long a revoked key may go on working at most."""

_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    until: float


class KeyCache:
    """Finds callers by their keys. Safe to use from many threads.

    Keys are cached by a hash, never as they are.
    """

    def __init__(self, accounts: Accounts, clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._uses: dict[str, datetime] = {}
        self._lock = threading.Lock()

    def known(self, key: str) -> Caller | None:
        """Whose key this is, if that is cached; does not wait."""
        return self._remembered(_name(key))

    def known_by_id(self, key_id: str) -> Caller | None:
        """The same by the key's id, for a caller who has shown the key; does not wait."""
        return self._remembered(_name_of_id(key_id))

    def _remembered(self, name: bytes) -> Caller | None:
        found = self._known.get(name)
        if found is None or found.until <= self._clock.monotonic():
            return None
        return found.caller

    def was_valid(self, key: str) -> bool:
        """Whether this key was valid at its last lookup, however long ago."""
        return _name(key) in self._known

    def look_up(self, key: str) -> Caller:
        """Whose key this is, from the accounts.

        Raises:
            AccessRefused: KeyInvalid, KeyRevoked, KeyExpired or UserDisabled; answer all alike.
            StorageFailed: the accounts cannot be read.
        """
        return self._ask(_name(key), lambda now: self._accounts.admit(key, now))

    def look_up_by_id(self, key_id: str) -> Caller:
        """The same by the key's id, for a caller who has shown the key.

        Raises:
            AccessRefused: KeyInvalid, KeyRevoked, KeyExpired or UserDisabled.
            StorageFailed: the accounts cannot be read.
        """
        return self._ask(_name_of_id(key_id), lambda now: self._accounts.readmit(key_id, now))

    def known_user(self, username: str) -> Caller | None:
        """The account of a user whom the host application knows, if cached; does not wait."""
        return self._remembered(_name_of_user(username))

    def look_up_user(self, username: str) -> Caller:
        """The account of a user whom the host application knows, made if there is none.

        The caller has no scopes: the host application gives them.

        Raises:
            AccountInvalid: nobody can have this name.
            AccessForbidden: the account is disabled here.
            StorageFailed: the accounts cannot be used.
        """
        until = self._clock.monotonic() + CACHED_SECONDS
        user = self._user(username)
        if not user.is_active:
            raise AccessForbidden(
                "This account is disabled.",
                f"An administrator can enable it: `d3 users enable {user.username}`.",
            )
        caller = Caller(frozenset(), user.id, username=user.username)
        with self._lock:
            self._remember(_name_of_user(username), caller, until)
        return caller

    def _user(self, username: str) -> User:
        try:
            return self._accounts.user(username)
        except UserNotFound:
            with suppress(UserExists):  # another process has just made it
                return self._accounts.add_user(username, None, self._clock.now())
            return self._accounts.user(username)

    def _ask(self, name: bytes, question: Callable[[datetime], Admission]) -> Caller:
        asked_at = self._clock.monotonic()
        now = self._clock.now()
        try:
            admission = question(now)
        except Exception:
            with self._lock:
                self._known.pop(name, None)
            raise
        principal = admission.principal
        until = asked_at + CACHED_SECONDS
        if admission.expires_at is not None:
            until = min(until, asked_at + (admission.expires_at - now).total_seconds())
        caller = Caller(
            principal.scopes,
            principal.user_id,
            principal.key_id,
            sees_all=principal.may(Scope.ADMIN),
            username=admission.username,
        )
        with self._lock:
            self._remember(name, caller, until)
            self._uses[principal.key_id] = now
        return caller

    def _remember(self, name: bytes, caller: Caller, until: float) -> None:
        self._known[name] = _Known(caller, until)
        self._known.move_to_end(name)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def write_uses(self) -> None:
        """Write which keys were used since the last time; kept for later if that fails.

        Raises:
            StorageFailed: the accounts cannot be written.
        """
        with self._lock:
            uses, self._uses = self._uses, {}
        try:
            self._accounts.record_uses(uses)
        except StorageFailed:
            with self._lock:
                self._uses = uses | self._uses
            raise


def _name_of_user(username: str) -> bytes:
    return b"user:" + username.encode("utf-8", "surrogatepass")


def _name_of_id(key_id: str) -> bytes:
    return b"id:" + key_id.encode("utf-8", "surrogatepass")


def _name(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
