"""Users and their API keys in a database."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from d3.adapters.sql import tables
from d3.adapters.sql.departures import delete_user, holdings_of
from d3.adapters.sql.engine import Database
from d3.adapters.sql.inserts import insert_into
from d3.domain.accounts import (
    Admission,
    ApiKey,
    Holdings,
    IssuedKey,
    NewKey,
    Presented,
    Principal,
    Scope,
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
from d3.domain.errors import KeyInvalid, KeyNotFound, StorageFailed, UserExists, UserNotFound, shown
from d3.domain.history import LARGEST_ID, in_utc
from d3.domain.keys import mint
from d3.domain.text import storable

_U = tables.User
_K = tables.ApiKey
_USER = (_U.id, _U.username, _U.email, _U.created_at, _U.is_active)
_KEY = (
    *(_K.key_id, _K.user_id, _K.name, _K.scopes),
    *(_K.created_at, _K.expires_at, _K.last_used_at, _K.revoked_at),
)
_KNOWN = frozenset(Scope)


class SqlAccounts:
    """Implements ``Accounts``; the tables are :mod:`.schema`'s business.

    What counts a user's keys locks the user's row first, so that of two at once one waits.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_user(self, username: str, email: str | None, now: datetime) -> User:
        username = checked_username(username)
        email = None if email is None else checked_email(email)
        wanted = {"username": username, "email": email, "created_at": in_utc(now)}
        with self._database.writing() as connection:
            made = connection.execute(
                insert_into(connection, _U)
                .values(**wanted, is_active=True)
                .on_conflict_do_nothing()
                .returning(*_USER)
            ).one_or_none()
            if made is not None:
                return _user_of(made)
            taken = connection.scalar(sa.select(_U.id).where(_U.username == username))
        which = "username" if taken is not None else "email address"
        raise UserExists(
            f"The {which} {shown(username if taken is not None else email)} is already taken.",
            "`d3 users list` shows every account.",
        )

    def user(self, username: str) -> User:
        # Adopted names may stand there in another Unicode form than ours.
        meant = {storable(username), storable(unicodedata.normalize("NFC", username))}
        with self._database.reading() as connection:
            row = connection.execute(
                sa.select(*_USER).where(_U.username.in_(sorted(meant))).order_by(_U.id).limit(1)
            ).one_or_none()
        if row is None:
            raise _no_user(username)
        return _user_of(row)

    def users(self) -> list[User]:
        with self._database.reading() as connection:
            return [_user_of(row) for row in connection.execute(sa.select(*_USER).order_by(_U.id))]

    def set_active(self, user_id: int, *, active: bool) -> User:
        _check_id(user_id)
        with self._database.writing() as connection:
            row = connection.execute(
                sa.update(_U).where(_U.id == user_id).values(is_active=active).returning(*_USER)
            ).one_or_none()
        if row is None:
            raise _no_user(user_id)
        return _user_of(row)

    def holdings(self, user_id: int) -> Holdings:
        _check_id(user_id)
        with self._database.reading() as connection:
            return holdings_of(connection, user_id)

    def delete_user(
        self, user_id: int, now: datetime, *, keep: bool, heir: int | None = None
    ) -> Holdings:
        concerned = {user_id} if heir is None else {user_id, heir}
        for one in concerned:
            _check_id(one)
        with self._database.writing() as connection:
            # In one order, so that two who leave for each other never wait for each other.
            for one in sorted(concerned):
                _lock_user(connection, one)
            user = connection.execute(sa.select(*_USER).where(_U.id == user_id)).one()
            return delete_user(connection, user, keep=keep, heir=heir, now=in_utc(now))

    def create_key(self, user_id: int, new: NewKey, now: datetime) -> IssuedKey:
        _check_id(user_id)
        with self._database.writing() as connection:
            _lock_user(connection, user_id)
            check_key_limit(_keys(connection, user_id), now)
            return _issue(connection, user_id, new, now)

    def keys(self, user_id: int | None = None) -> list[ApiKey]:
        if user_id is not None and not 1 <= user_id <= LARGEST_ID:
            return []
        with self._database.reading() as connection:
            return _keys(connection, user_id)

    def revoke_key(self, key_id: str, now: datetime) -> ApiKey:
        moment = sa.literal(in_utc(now), _K.revoked_at.type)
        with self._database.writing() as connection:
            row = connection.execute(
                sa.update(_K)
                .where(_K.key_id == storable(key_id))
                .values(revoked_at=sa.func.coalesce(_K.revoked_at, moment))
                .returning(*_KEY)
            ).one_or_none()
        if row is None:
            raise _no_key(key_id)
        return _key_of(row)

    def rotate_key(
        self, key_id: str, overlap: timedelta, expires_at: datetime | None, now: datetime
    ) -> IssuedKey:
        with self._database.writing() as connection:
            owner = connection.scalar(sa.select(_K.user_id).where(_K.key_id == storable(key_id)))
            if owner is None:
                raise _no_key(key_id)
            _lock_user(connection, owner)
            keys = {key.key_id: key for key in _keys(connection, owner)}
            old = keys[key_id]
            keys[key_id] = ending = retired(old, overlap, in_utc(now))
            check_key_limit(keys.values(), now)
            connection.execute(
                sa.update(_K)
                .where(_K.key_id == key_id)
                .values(expires_at=ending.expires_at, revoked_at=ending.revoked_at)
            )
            return _issue(connection, owner, NewKey(old.name, old.scopes, expires_at), now)

    def authenticate(self, key: str, now: datetime) -> Principal:
        found, principal, _ = self._admit(key, now)
        if should_record_use(found, now):
            # A use that cannot be recorded is no reason to refuse a valid key.
            with suppress(StorageFailed):
                self.record_uses({found.key_id: now})
        return principal

    def admit(self, key: str, now: datetime) -> Admission:
        found, principal, username = self._admit(key, now)
        return Admission(principal, found.expires_at, username)

    def readmit(self, key_id: str, now: datetime) -> Admission:
        with self._database.reading() as connection:
            row = connection.execute(_search(_K.key_id == storable(key_id))).one_or_none()
        if row is None:
            raise KeyInvalid
        found = _key_of(row)
        principal = valid_owner(found, user_is_active=row.is_active, now=now)
        return Admission(principal, found.expires_at, row.username)

    def record_uses(self, uses: Mapping[str, datetime]) -> None:
        if not uses:
            return
        used = sa.bindparam("used", type_=_K.last_used_at.type)
        older = sa.or_(_K.last_used_at.is_(None), _K.last_used_at < used)
        note = sa.update(_K.__table__).where(_K.key_id == sa.bindparam("one"), older)  # type: ignore[arg-type]
        # In one order everywhere, so that two replicas never wait for each other.
        rows = [{"one": key_id, "used": in_utc(uses[key_id])} for key_id in sorted(uses)]
        with self._database.writing() as connection:
            connection.execute(note.values(last_used_at=used), rows)

    def close(self) -> None:
        self._database.close()

    def _admit(self, key: str, now: datetime) -> tuple[ApiKey, Principal, str]:
        asked = presented(key)
        with self._database.reading() as connection:
            row = connection.execute(_search(_matching(asked))).one_or_none()
        if row is None:
            raise KeyInvalid
        found = _key_of(row)
        stored, active = row.secret_sha256, row.is_active
        principal = admit(asked, found, stored, user_is_active=active, now=now)
        return found, principal, row.username


def _matching(asked: Presented) -> sa.ColumnElement[bool]:
    if asked.key_id is None:
        return _K.secret_sha256 == asked.fingerprint
    return _K.key_id == asked.key_id


def _search(meant: sa.ColumnElement[bool]) -> sa.Select[*tuple[Any, ...]]:
    wanted = (*_KEY, _K.secret_sha256, _U.is_active, _U.username)
    return sa.select(*wanted).join(_U).where(meant)


def _keys(connection: sa.Connection, user_id: int | None) -> list[ApiKey]:
    wanted = sa.select(*_KEY).order_by(_K.created_at, _K.key_id)
    if user_id is not None:
        wanted = wanted.where(_K.user_id == user_id)
    return [_key_of(row) for row in connection.execute(wanted)]


def _issue(connection: sa.Connection, user_id: int, new: NewKey, now: datetime) -> IssuedKey:
    minted = mint()
    made = issued(minted, user_id, new, now)
    connection.execute(
        sa.insert(_K).values(
            key_id=made.key_id,
            user_id=user_id,
            name=made.name,
            secret_sha256=minted.fingerprint,
            scopes=" ".join(sorted(made.scopes)),
            created_at=made.created_at,
            expires_at=made.expires_at,
        )
    )
    return made


def _lock_user(connection: sa.Connection, user_id: int) -> None:
    if connection.scalar(sa.select(_U.id).where(_U.id == user_id).with_for_update()) is None:
        raise _no_user(user_id)


def _user_of(row: Any) -> User:
    return User(
        id=row.id,
        username=row.username,
        email=row.email,
        created_at=row.created_at,
        is_active=row.is_active,
    )


def _key_of(row: Any) -> ApiKey:
    return ApiKey(
        key_id=row.key_id,
        user_id=row.user_id,
        name=row.name,
        # A scope of a newer D3 allows nothing here.
        scopes=frozenset(Scope(one) for one in row.scopes.split() if one in _KNOWN),
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )


def _check_id(user_id: int) -> None:
    if not 1 <= user_id <= LARGEST_ID:
        raise _no_user(user_id)


def _no_user(who: str | int) -> UserNotFound:
    return UserNotFound(f"There is no user {shown(who)}.", "`d3 users list` shows every account.")


def _no_key(key_id: str) -> KeyNotFound:
    return KeyNotFound(
        f"There is no key with the id {shown(key_id)}.", "`d3 keys list` shows the id of every key."
    )
