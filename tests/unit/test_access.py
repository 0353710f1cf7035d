"""Who is let in, and what of an address is kept."""

from __future__ import annotations

import ipaddress
from datetime import timedelta

import pytest

from d3.adapters.limits import CountingLimiter
from d3.adapters.sessions import SignedSessions
from d3.domain.access import (
    KEYLESS,
    client_behind,
    comes_from_elsewhere,
    counted_address,
    forwarded_for,
    is_local_name,
    is_loopback,
    is_named,
    is_own_origin,
    truncated,
)
from d3.domain.accounts import NewKey, Scope
from d3.domain.errors import AccessForbidden, AccessRefused, SecretWeak, SessionEnded
from d3.domain.services.key_cache import CACHED_SECONDS, KeyCache
from d3.entrypoints.cli.serve import check_secret
from d3.testing import FakeClock
from tests.support.memory.accounts import MemoryAccounts

PROXIES = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1")]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:5000", "127.0.0.1:1", "[::1]:80"])
def test_loopback_names_are_local(host: str) -> None:
    assert is_local_name(host)


@pytest.mark.parametrize(
    "host", ["", "evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "0.0.0.0", "[::1"]
)
def test_every_other_name_is_foreign(host: str) -> None:
    assert not is_local_name(host)


def test_only_the_services_own_pages_and_named_ones_are_its_own() -> None:
    assert is_own_origin("http://localhost:5000", "localhost:5000", ())
    assert is_own_origin("https://app.example", "localhost:5000", ("https://app.example",))
    for foreign in ("null", "", "http://localhost:3000", "https://evil.example", "http://[bad"):
        assert not is_own_origin(foreign, "localhost:5000", ())
    assert not is_own_origin("null", "", ())


@pytest.mark.parametrize(
    ("origin", "site", "changes", "elsewhere"),
    [
        (None, None, True, False),  # no browser
        ("http://localhost:5000", None, True, False),
        ("http://localhost:5000", "same-origin", True, False),
        ("https://before-the-proxy.example", "same-origin", True, False),
        (None, "none", True, False),  # typed into the address bar
        (None, "cross-site", False, False),  # a link was followed
        ("https://evil.example", "cross-site", False, True),
        ("https://evil.example", None, True, True),
        ("null", None, True, True),
        (None, "cross-site", True, True),
        (None, "same-site", True, True),
        ("http://other.localhost:5000", "same-site", True, True),
        ("https://app.example", "cross-site", True, False),  # is allowed
    ],
)
def test_a_page_of_another_site_is_told(
    origin: str | None, site: str | None, *, changes: bool, elsewhere: bool
) -> None:
    host, allowed = "localhost:5000", ("https://app.example",)
    assert comes_from_elsewhere(origin, site, host, allowed, changes=changes) is elsewhere


def test_a_session_stands_for_a_key_for_a_while_and_only_as_it_was_signed() -> None:
    clock = FakeClock()
    sessions = SignedSessions("a secret", clock, 60)
    token = sessions.begin("abc")
    assert sessions.key_of(token) == "abc"
    for none in (token + "x", token[1:], "", ".", "\u00e9", "a" * 9000):
        assert sessions.key_of(none) is None
    assert SignedSessions("another secret", clock, 60).key_of(token) is None
    clock.advance(59)
    assert sessions.key_of(token) == "abc"
    clock.advance(1)
    with pytest.raises(SessionEnded) as reported:
        sessions.key_of(token)
    assert reported.value.reason == "over"


def test_an_address_is_kept_without_what_tells_households_apart() -> None:
    assert truncated("203.0.113.77") == "203.0.113.0"
    assert truncated("2001:db8:1:2:3::4") == "2001:db8:1::"
    assert truncated("::ffff:203.0.113.77") == "203.0.113.0"
    assert truncated("somewhere") is None


def test_loopback_is_told_in_every_dress() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1")))
    assert not any(map(is_loopback, (None, "", "10.0.0.1", "/run/d3.sock", "0.0.0.0")))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.1", "1.1.1.1", "203.0.113.1"),  # who is no proxy is not believed
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.9", "203.0.113.9"),  # what a caller writes is passed over
        ("10.0.0.1", "6.6.6.6, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.8:51234", "203.0.113.8"),  # Azure and IIS add a port
        ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("10.0.0.1", "[2001:db8::1], 10.0.0.2:80", "2001:db8::1"),
        ("10.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.1", "203.0.113.8:port", "10.0.0.1"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
    ],
)
def test_only_trusted_proxies_say_who_asked(peer: str, forwarded: str, client: str) -> None:
    assert client_behind(PROXIES, peer, forwarded) == client


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("6.6.6.6, not an address", None),
    ],
)
def test_who_may_open_the_unix_socket_is_a_trusted_proxy(
    forwarded: str, client: str | None
) -> None:
    assert client_behind(PROXIES, None, forwarded) == client


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("for=203.0.113.9", "203.0.113.9"),
        ('For="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17"),
        ("proto=https;for=203.0.113.9;by=203.0.113.43", "203.0.113.9"),
        ('for=6.6.6.6, for="203.0.113.9:80" ; proto=http, for=10.0.0.2', "203.0.113.9"),
        ('for="6.6.6.6, for=7.7.7.7", for=203.0.113.9', "203.0.113.9"),
        ('for="6.6.6.6, for=203.0.113.9', "203.0.113.9"),  # what a caller left open ends nowhere
        ("for=unknown", "10.0.0.1"),
        ("for=_hidden, for=10.0.0.2", "10.0.0.2"),
        ("proto=https", "10.0.0.1"),
        ("xfor=203.0.113.9", "10.0.0.1"),
        (";;,,=", "10.0.0.1"),
    ],
)
def test_the_header_of_rfc_7239_says_the_same(header: str, client: str) -> None:
    assert client_behind(PROXIES, "10.0.0.1", forwarded_for(header)) == client


def test_an_address_counts_as_its_household() -> None:
    assert counted_address("203.0.113.9") == counted_address("::ffff:203.0.113.9") == "203.0.113.9"
    assert (
        counted_address("2001:db8::1")
        == counted_address("2001:db8::ffff:1")
        != counted_address("2001:db8:0:1::1")
    )
    assert counted_address("/run/d3.sock") == "/run/d3.sock"


@pytest.mark.parametrize(
    ("host", "names", "goes"),
    [
        ("d3.example.net", ("d3.example.net",), True),
        ("D3.Example.Net:5000", ("d3.example.net",), True),
        ("a.b.example.net", ("*.example.net",), True),
        ("example.net", ("*.example.net",), False),
        (".example.net", ("*.example.net",), False),
        ("evilexample.net", ("*.example.net",), False),
        ("", ("*.example.net",), False),
        ("anything", ("*",), True),
    ],
)
def test_a_star_is_any_name_below(host: str, names: tuple[str, ...], goes: bool) -> None:  # noqa: FBT001
    assert is_named(host, names) is goes


def test_without_a_key_accounts_stay_closed() -> None:
    KEYLESS.check(Scope.MODELS)
    with pytest.raises(AccessForbidden):
        KEYLESS.check(Scope.ADMIN)


@pytest.mark.parametrize("by_id", [False, True])
def test_a_key_is_asked_about_once_a_second_and_a_revoked_one_is_out_by_then(
    *, by_id: bool
) -> None:
    accounts, clock = MemoryAccounts(), FakeClock()
    now = clock.now()
    user = accounts.add_user("ada", None, now)
    made = accounts.create_key(user.id, NewKey(), now)
    door = KeyCache(accounts, clock)
    shown = made.key_id if by_id else made.key
    known, look_up = door.known, door.look_up
    if by_id:  # for whoever signed in with the key before
        known, look_up = door.known_by_id, door.look_up_by_id
    assert known(shown) is None
    caller = look_up(shown)
    assert (caller.user_id, caller.username, caller.sees) == (user.id, "ada", user.id)
    assert door.known(made.key_id) is None, "the id is no key"
    accounts.revoke_key(made.key_id, now)
    clock.advance(CACHED_SECONDS - 0.01)
    assert known(shown) == caller
    clock.advance(0.01)
    assert known(shown) is None
    with pytest.raises(AccessRefused):
        look_up(shown)


def test_a_key_is_never_believed_beyond_its_end() -> None:
    accounts, clock = MemoryAccounts(), FakeClock()
    now = clock.now()
    user = accounts.add_user("ada", None, now)
    made = accounts.create_key(user.id, NewKey(expires_at=now + timedelta(seconds=0.5)), now)
    door = KeyCache(accounts, clock)
    door.look_up(made.key)
    clock.advance(0.5)
    assert door.known(made.key) is None


def test_uses_are_written_together_and_only_when_told() -> None:
    accounts, clock = MemoryAccounts(), FakeClock()
    now = clock.now()
    user = accounts.add_user("ada", None, now)
    made = accounts.create_key(user.id, NewKey(), now)
    door = KeyCache(accounts, clock)
    door.look_up(made.key)
    assert accounts.keys(user.id)[0].last_used_at is None
    door.write_uses()
    assert accounts.keys(user.id)[0].last_used_at == now


def test_a_rate_is_kept_to_and_looking_counts_nothing() -> None:
    limiter = CountingLimiter(b"")
    assert all(limiter.look("2/hour", "ada").allowed for _ in range(5))
    assert [limiter.hit("2/hour", "ada").allowed for _ in range(3)] == [True, True, False]
    assert not limiter.look("2/hour", "ada").allowed
    assert limiter.hit("2/hour", "grace").remaining == 1


def test_where_redis_is_away_nobody_is_shut_out() -> None:
    limiter = CountingLimiter(b"secret", "redis://127.0.0.1:1/0")
    assert all(limiter.hit("1/hour", "ada").allowed for _ in range(3))
    assert limiter.trouble is not None


@pytest.mark.parametrize("secret", ["short", "your-secret-key-here", "dev-secret-change-me"])
def test_a_secret_that_everybody_knows_is_refused(secret: str) -> None:
    with pytest.raises(SecretWeak):
        check_secret(secret)


def test_a_secret_of_ones_own_will_do() -> None:
    check_secret("3f0a9b1c77d24f0e8a5b6c7d8e9f0a1b")
    check_secret(None)
