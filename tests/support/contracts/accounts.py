"""What a store of users and API keys promises."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from d3.domain.accounts import DEFAULT_SCOPES, Admission, KeyState, NewKey, Principal, Scope, User
from d3.domain.errors import (
    AccessRefused,
    AccountInvalid,
    D3Error,
    KeyExpired,
    KeyInvalid,
    KeyLimitReached,
    KeyNotFound,
    KeyNotLive,
    KeyRevoked,
    UserDisabled,
    UserExists,
    UserNotFound,
)
from d3.domain.keys import mint, sealed
from d3.domain.ports.accounts import Accounts

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
NOBODYS = (-1, 0, 77, 2**63, 2**70)


class AccountsContract:
    """Override :meth:`accounts` with an empty store."""

    @pytest.fixture
    def accounts(self) -> Accounts:
        """The store under test, empty."""
        raise NotImplementedError

    @pytest.fixture
    def ada(self, accounts: Accounts) -> User:
        """Somebody with an account."""
        return accounts.add_user("ada", "ada@example.org", NOON)

    def test_it_is_a_store_of_accounts_and_empty(self, accounts: Accounts) -> None:
        assert isinstance(accounts, Accounts)
        assert accounts.users() == []
        assert accounts.keys() == []

    def test_a_user_comes_back_as_they_were_added(self, accounts: Accounts, ada: User) -> None:
        assert (ada.username, ada.email, ada.is_active) == ("ada", "ada@example.org", True)
        assert accounts.user("ada") == ada
        grace = accounts.add_user("grace", None, NOON)
        assert grace.email is None
        assert accounts.users() == [ada, grace]
        assert ada.id < grace.id

    def test_a_moment_of_any_zone_is_kept_in_utc(self, accounts: Accounts) -> None:
        moment = datetime(2026, 1, 1, 3, 0, 0, 123456, tzinfo=timezone(5 * HOUR))
        kept = accounts.add_user("ada", None, moment).created_at
        assert kept == moment
        assert kept.utcoffset() == timedelta(0)

    def test_usernames_and_emails_are_unique(self, accounts: Accounts, ada: User) -> None:
        for username, email in (("ada", None), ("ada", "b@b"), ("other", "ada@example.org")):
            with pytest.raises(UserExists):
                accounts.add_user(username, email, NOON)
        accounts.add_user("one", None, NOON)
        accounts.add_user("two", None, NOON)  # no email is nobody's
        assert [user.username for user in accounts.users()] == ["ada", "one", "two"]
        assert accounts.user("ada") == ada

    def test_a_username_is_the_same_in_either_unicode_form(self, accounts: Accounts) -> None:
        user = accounts.add_user("Zoe\u0308", None, NOON)
        assert accounts.user("Zo\u00eb").id == user.id
        with pytest.raises(UserExists):
            accounts.add_user("Zo\u00eb", None, NOON)

    @pytest.mark.parametrize(
        "name",
        ["", " ada", "ada\n", "a\0b", "\ud800", "a" * 256, "a b", "a/b", "-a", "a;b", "\u202e"],
    )
    def test_a_username_that_cannot_be_is_refused(self, accounts: Accounts, name: str) -> None:
        with pytest.raises(AccountInvalid):
            accounts.add_user(name, None, NOON)
        with pytest.raises(UserNotFound):
            accounts.user(name)

    @pytest.mark.parametrize(
        "name", ["ada", "7", "ada.l+d3@example.org", "\u732b", "\u0939\u093f\u0928", "Zo\u00eb-1_2"]
    )
    def test_a_username_is_one_word(self, accounts: Accounts, name: str) -> None:
        accounts.add_user(name, None, NOON)
        assert accounts.user(name).username == name

    @pytest.mark.parametrize("email", ["", "ada", "@x", "a@", "a b@c", "a@b@c", "a" * 256 + "@b"])
    def test_an_email_that_cannot_be_is_refused(self, accounts: Accounts, email: str) -> None:
        with pytest.raises(AccountInvalid):
            accounts.add_user("ada", email, NOON)
        assert accounts.users() == []

    def test_who_is_not_there_is_not_found(self, accounts: Accounts) -> None:
        with pytest.raises(UserNotFound):
            accounts.user("ada")
        for id_ in NOBODYS:
            with pytest.raises(UserNotFound):
                accounts.set_active(id_, active=False)
            with pytest.raises(UserNotFound):
                accounts.create_key(id_, NewKey(), NOON)
            assert accounts.keys(id_) == []

    def test_a_key_opens_the_door_with_its_scopes(self, accounts: Accounts, ada: User) -> None:
        made = accounts.create_key(ada.id, NewKey("laptop", frozenset({Scope.READ})), NOON)
        assert made.key.startswith(f"d3_{made.key_id}_")
        reported = accounts.authenticate(made.key, NOON)
        assert reported == Principal(ada.id, made.key_id, frozenset({Scope.READ}))

    def test_the_secret_is_shown_once(self, accounts: Accounts, ada: User) -> None:
        made = accounts.create_key(ada.id, NewKey("laptop"), NOON)
        (kept,) = accounts.keys()
        assert not hasattr(kept, "key")
        assert made.key not in repr(made)
        assert (kept.key_id, kept.name, kept.user_id) == (made.key_id, "laptop", ada.id)
        assert kept.scopes == DEFAULT_SCOPES
        assert (kept.created_at, kept.expires_at, kept.revoked_at) == (NOON, None, None)

    def test_every_other_key_is_invalid(self, accounts: Accounts, ada: User) -> None:
        made = accounts.create_key(ada.id, NewKey(), NOON)
        other = mint().key
        same_id = f"d3_{made.key_id}_{'0' * 49}"
        for key in (
            *("", " ", "d3_", "x", "ü", "\0", "\ud800", made.key_id, made.key[:-1]),
            *(made.key + "0", " " + made.key, made.key.swapcase(), other, same_id, "k" * 10**6),
        ):
            with pytest.raises(KeyInvalid):
                accounts.authenticate(key, NOON)

    def test_an_expired_key_opens_nothing(self, accounts: Accounts, ada: User) -> None:
        made = accounts.create_key(ada.id, NewKey(expires_at=NOON + HOUR), NOON)
        accounts.authenticate(made.key, NOON + HOUR - SECOND)
        with pytest.raises(KeyExpired):
            accounts.authenticate(made.key, NOON + HOUR)

    def test_a_revoked_key_opens_nothing_ever_again(self, accounts: Accounts, ada: User) -> None:
        made = accounts.create_key(ada.id, NewKey(), NOON)
        first = accounts.revoke_key(made.key_id, NOON + HOUR)
        assert first.revoked_at == NOON + HOUR
        with pytest.raises(KeyRevoked):
            accounts.authenticate(made.key, NOON + HOUR)
        assert accounts.revoke_key(made.key_id, NOON + DAY) == first

    def test_a_disabled_user_is_kept_out_until_enabled(self, accounts: Accounts, ada: User) -> None:
        made = accounts.create_key(ada.id, NewKey(), NOON)
        assert not accounts.set_active(ada.id, active=False).is_active
        with pytest.raises(UserDisabled):
            accounts.authenticate(made.key, NOON)
        assert accounts.set_active(ada.id, active=True) == ada
        accounts.authenticate(made.key, NOON)

    def test_every_refusal_is_told_alike(self, accounts: Accounts, ada: User) -> None:
        revoked = accounts.create_key(ada.id, NewKey(), NOON)
        accounts.revoke_key(revoked.key_id, NOON)
        expired = accounts.create_key(ada.id, NewKey(expires_at=NOON), NOON)
        shut = accounts.add_user("shut", None, NOON)
        disabled = accounts.create_key(shut.id, NewKey(), NOON)
        accounts.set_active(shut.id, active=False)
        reported = []
        for key in (revoked.key, expired.key, disabled.key, mint().key, "nonsense"):
            with pytest.raises(AccessRefused) as refusal:
                accounts.authenticate(key, NOON)
            reported.append(refusal.value)
        assert len({(one.code, str(one)) for one in reported}) == 1
        reasons = ["revoked", "expired", "disabled", "invalid", "invalid"]
        assert [one.reason for one in reported] == reasons

    def test_only_who_holds_the_secret_learns_a_keys_state(
        self, accounts: Accounts, ada: User
    ) -> None:
        made = accounts.create_key(ada.id, NewKey(), NOON)
        accounts.revoke_key(made.key_id, NOON)
        with pytest.raises(KeyInvalid):
            accounts.authenticate(sealed(made.key_id, 0), NOON)

    def test_last_use_is_noted_at_most_once_a_minute(self, accounts: Accounts, ada: User) -> None:
        made = accounts.create_key(ada.id, NewKey(), NOON)
        noted = []
        for seconds in (0, 1, 59, 60, 61, 120):
            accounts.authenticate(made.key, NOON + seconds * SECOND)
            noted.append(accounts.keys()[0].last_used_at)
        minutes = (0, 0, 0, 1, 1, 2)
        assert noted == [NOON + minute * timedelta(minutes=1) for minute in minutes]

    def test_admitting_writes_nothing_and_uses_are_noted_together(
        self, accounts: Accounts, ada: User
    ) -> None:
        one, two = (
            accounts.create_key(ada.id, NewKey(expires_at=end), NOON) for end in (None, NOON + DAY)
        )
        reported = accounts.admit(two.key, NOON)
        assert reported == Admission(
            Principal(ada.id, two.key_id, DEFAULT_SCOPES), NOON + DAY, ada.username
        )
        assert accounts.admit(one.key, NOON).expires_at is None
        assert [key.last_used_at for key in accounts.keys(None)] == [None, None]
        accounts.record_uses({})
        accounts.record_uses({one.key_id: NOON, two.key_id: NOON + HOUR, "gone": NOON})
        accounts.record_uses({one.key_id: NOON + SECOND, two.key_id: NOON})
        noted = {key.key_id: key.last_used_at for key in accounts.keys(None)}
        assert noted == {one.key_id: NOON + SECOND, two.key_id: NOON + HOUR}

    def test_a_key_that_was_shown_is_readmitted_by_its_id_while_it_is_good(
        self, accounts: Accounts, ada: User
    ) -> None:
        one, two = (accounts.create_key(ada.id, NewKey(expires_at=NOON + DAY), NOON) for _ in "ab")
        assert accounts.readmit(one.key_id, NOON) == accounts.admit(one.key, NOON)
        assert accounts.keys()[0].last_used_at is None
        for nobodys in ("", "gone", one.key, "\0", "\ud800", "a" * 5000):
            with pytest.raises(KeyInvalid):
                accounts.readmit(nobodys, NOON)
        with pytest.raises(KeyExpired):
            accounts.readmit(one.key_id, NOON + DAY)
        accounts.revoke_key(one.key_id, NOON)
        with pytest.raises(KeyRevoked):
            accounts.readmit(one.key_id, NOON)
        accounts.set_active(ada.id, active=False)
        with pytest.raises(UserDisabled):
            accounts.readmit(two.key_id, NOON)

    def test_two_keys_may_live_at_once_and_no_more(self, accounts: Accounts, ada: User) -> None:
        first, second = (accounts.create_key(ada.id, NewKey(), NOON) for _ in range(2))
        with pytest.raises(KeyLimitReached):
            accounts.create_key(ada.id, NewKey(), NOON)
        accounts.revoke_key(first.key_id, NOON)
        accounts.create_key(ada.id, NewKey(expires_at=NOON + HOUR), NOON)
        with pytest.raises(KeyLimitReached):
            accounts.create_key(ada.id, NewKey(), NOON)
        accounts.create_key(ada.id, NewKey(), NOON + HOUR)  # the other one is over
        accounts.authenticate(second.key, NOON)
        accounts.create_key(accounts.add_user("grace", None, NOON).id, NewKey(), NOON)

    def test_rotation_leaves_both_keys_until_the_overlap_is_over(
        self, accounts: Accounts, ada: User
    ) -> None:
        old = accounts.create_key(ada.id, NewKey("laptop", frozenset({Scope.MODELS})), NOON)
        new = accounts.rotate_key(old.key_id, HOUR, NOON + DAY, NOON)
        assert (new.name, new.scopes, new.user_id) == (old.name, old.scopes, ada.id)
        assert new.expires_at == NOON + DAY
        for key in (old, new):
            accounts.authenticate(key.key, NOON + HOUR - SECOND)
        with pytest.raises(KeyExpired):
            accounts.authenticate(old.key, NOON + HOUR)
        accounts.authenticate(new.key, NOON + HOUR)

    def test_rotation_gives_no_key_more_time(self, accounts: Accounts, ada: User) -> None:
        old = accounts.create_key(ada.id, NewKey(expires_at=NOON + HOUR), NOON)
        accounts.rotate_key(old.key_id, DAY, None, NOON)
        ends = {key.key_id: key.expires_at for key in accounts.keys(ada.id)}
        assert ends[old.key_id] == NOON + HOUR

    def test_rotation_without_overlap_works_beside_another_live_key(
        self, accounts: Accounts, ada: User
    ) -> None:
        one, two = (accounts.create_key(ada.id, NewKey(), NOON) for _ in range(2))
        with pytest.raises(KeyLimitReached):
            accounts.rotate_key(one.key_id, HOUR, None, NOON)
        accounts.authenticate(one.key, NOON)
        new = accounts.rotate_key(one.key_id, timedelta(0), None, NOON)
        with pytest.raises(KeyRevoked):
            accounts.authenticate(one.key, NOON)
        for key in (new, two):
            accounts.authenticate(key.key, NOON)

    def test_an_ended_key_is_not_rotated(self, accounts: Accounts, ada: User) -> None:
        revoked = accounts.create_key(ada.id, NewKey(), NOON)
        accounts.revoke_key(revoked.key_id, NOON)
        expired = accounts.create_key(ada.id, NewKey(expires_at=NOON), NOON)
        for key in (revoked, expired):
            with pytest.raises(KeyNotLive):
                accounts.rotate_key(key.key_id, HOUR, None, NOON)
        assert len(accounts.keys()) == 2

    def test_a_deleted_user_is_gone_with_their_keys_and_their_name_is_free(
        self, accounts: Accounts, ada: User
    ) -> None:
        grace = accounts.add_user("grace", None, NOON)
        made = accounts.create_key(ada.id, NewKey(), NOON)
        kept = accounts.create_key(grace.id, NewKey(), NOON)
        assert accounts.holdings(ada.id).keys == 1
        assert accounts.delete_user(ada.id, NOON, keep=True, heir=grace.id).keys == 1
        assert accounts.users() == [grace]
        with pytest.raises(KeyInvalid):
            accounts.authenticate(made.key, NOON)
        assert accounts.authenticate(kept.key, NOON).user_id == grace.id
        for gone in (ada.id, *NOBODYS):
            with pytest.raises(UserNotFound):
                accounts.delete_user(gone, NOON, keep=True)
        assert accounts.add_user("ada", "ada@example.org", NOON).id not in {ada.id, grace.id}
        with pytest.raises(UserNotFound):
            accounts.delete_user(grace.id, NOON, keep=True, heir=ada.id)
        assert accounts.user("grace") == grace

    def test_keys_are_listed_oldest_first_and_by_user(self, accounts: Accounts, ada: User) -> None:
        grace = accounts.add_user("grace", None, NOON)
        late = accounts.create_key(ada.id, NewKey(), NOON + HOUR)
        early = accounts.create_key(grace.id, NewKey(), NOON)
        assert [key.key_id for key in accounts.keys(None)] == [early.key_id, late.key_id]
        assert [key.key_id for key in accounts.keys(ada.id)] == [late.key_id]
        assert accounts.keys()[0].state(NOON) is KeyState.LIVE

    @pytest.mark.parametrize("key_id", ["", "x", "\0", "\ud800", "a" * 10_000])
    def test_a_key_that_is_not_there_is_not_found(self, accounts: Accounts, key_id: str) -> None:
        with pytest.raises(KeyNotFound):
            accounts.revoke_key(key_id, NOON)
        with pytest.raises(KeyNotFound):
            accounts.rotate_key(key_id, HOUR, None, NOON)

    def test_of_many_who_want_a_name_at_once_one_gets_it(self, accounts: Accounts) -> None:
        ended = _at_once(4, lambda: accounts.add_user("ada", None, NOON))
        assert sorted(ended) == ["UserExists"] * 3 + ["done"]
        assert len(accounts.users()) == 1

    def test_of_many_keys_created_at_once_two_are_made(self, accounts: Accounts, ada: User) -> None:
        ended = _at_once(4, lambda: accounts.create_key(ada.id, NewKey(), NOON))
        assert sorted(ended) == ["KeyLimitReached"] * 2 + ["done"] * 2
        assert len(accounts.keys()) == 2

    @pytest.mark.parametrize(
        ("overlap", "others"), [(HOUR, "KeyLimitReached"), (timedelta(0), "KeyNotLive")]
    )
    def test_of_many_rotations_at_once_one_is_done(
        self, accounts: Accounts, ada: User, overlap: timedelta, others: str
    ) -> None:
        old = accounts.create_key(ada.id, NewKey(), NOON)
        ended = _at_once(4, lambda: accounts.rotate_key(old.key_id, overlap, None, NOON))
        assert sorted(ended) == [others] * 3 + ["done"]
        assert len(accounts.keys()) == 2

    def test_a_key_may_be_used_by_many_at_once(self, accounts: Accounts, ada: User) -> None:
        made = accounts.create_key(ada.id, NewKey(), NOON)
        assert _at_once(4, lambda: accounts.authenticate(made.key, NOON)) == ["done"] * 4


def _at_once(threads: int, work: Callable[[], Any]) -> list[str]:
    gate = threading.Barrier(threads)

    def wait_then_work() -> str:
        gate.wait()
        try:
            work()
        except D3Error as error:
            return type(error).__name__
        return "done"

    with ThreadPoolExecutor(threads) as pool:
        return [one.result() for one in [pool.submit(wait_then_work) for _ in range(threads)]]
