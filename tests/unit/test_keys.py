"""An API key is random, recognisable, and a typo in it is told without asking anybody."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from d3.domain.accounts import NewKey, Principal, Scope, checked_scopes
from d3.domain.errors import AccountInvalid
from d3.domain.keys import KeyForm, fingerprint, form_of, key_id_of, mint, sealed

KEY = sealed("0000000000", 2**256 - 1)


def test_a_minted_key_tells_its_id_and_hides_its_secret():
    minted = mint()
    assert key_id_of(minted.key) == minted.key_id
    assert minted.fingerprint == fingerprint(minted.key)
    assert minted.key not in repr(minted)


def test_no_two_keys_are_alike():
    minted = [mint() for _ in range(1000)]
    assert len({one.key for one in minted}) == len({one.key_id for one in minted}) == 1000


def test_the_whole_secret_shows_in_the_key():
    keys = {sealed("0000000000", 2**bit) for bit in range(256)} | {sealed("0000000000", 0)}
    assert len(keys) == 257
    assert len({len(key) for key in keys}) == 1


def test_every_single_typo_and_every_swap_of_neighbours_is_told():
    start = len("d3_0000000000_")
    typos = {
        KEY[:at] + other + KEY[at + 1 :]
        for at in range(3, len(KEY))
        for other in "0aZ9"
        if at != start - 1 and other != KEY[at]
    }
    swaps = {KEY[:at] + KEY[at + 1] + KEY[at] + KEY[at + 2 :] for at in range(start, len(KEY) - 1)}
    assert form_of(KEY) is KeyForm.SOUND
    assert {form_of(key) for key in (typos | swaps) - {KEY}} == {KeyForm.MISTYPED}


def test_what_is_no_key_of_ours_is_something_else():
    for key in (
        "",
        "secret",
        "d3_x_y",
        KEY[:-1],
        KEY + "0",
        KEY + "\n",
        KEY.replace("0", "\u0660"),
    ):
        assert form_of(key) is KeyForm.OTHER
        assert key_id_of(key) is None


def test_admin_may_do_everything_and_others_what_they_were_given():
    admin = Principal(1, "a", frozenset({Scope.ADMIN}))
    reader = Principal(1, "r", frozenset({Scope.READ}))
    assert all(admin.may(scope) for scope in Scope)
    assert [scope for scope in Scope if reader.may(scope)] == [Scope.READ]


@pytest.mark.parametrize("scopes", [[], ["everything"], ["read", "\0"], ["READ"]])
def test_scopes_that_are_none_are_refused(scopes):
    with pytest.raises(AccountInvalid, match="predict, read, models, admin"):
        checked_scopes(scopes)


def test_a_wish_for_a_key_that_cannot_be_is_refused():
    with pytest.raises(AccountInvalid):
        NewKey("a\nb")
    with pytest.raises(ValueError, match="zone"):
        NewKey(expires_at=datetime(2026, 1, 1))  # noqa: DTZ001
    assert NewKey(expires_at=datetime(2026, 1, 1, tzinfo=UTC)).name == ""
