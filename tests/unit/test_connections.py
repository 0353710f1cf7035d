"""How many connections may be open: in all, of one address, and with few descriptors."""

from __future__ import annotations

import resource

import pytest

from d3.entrypoints.http.connections import Connections, descriptors_for
from d3.settings import Settings

SETTINGS = Settings(
    max_connections=5, max_connections_per_address=2, trusted_proxies=("10.0.0.0/8",)
)


def test_one_address_has_a_bound_of_its_own_and_a_household_is_one() -> None:
    connections = Connections(SETTINGS)
    assert [connections.opened("203.0.113.9") for _ in range(3)] == [True, True, False]
    assert connections.opened("203.0.113.10")
    for _ in range(3):
        connections.closed("203.0.113.9")
    assert connections.opened("203.0.113.9")
    assert [connections.opened(f"2001:db8::{n}") for n in range(3)] == [True, True, False]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.1.2.3", None])
def test_this_machine_and_proxies_stand_for_many(address: str | None) -> None:
    connections = Connections(SETTINGS)
    assert [connections.opened(address) for _ in range(6)] == [True] * 5 + [False]


def test_who_is_refused_and_leaves_takes_nobodys_place() -> None:
    connections = Connections(SETTINGS)
    for _ in range(50):
        connections.opened("203.0.113.9")
    for _ in range(48):
        connections.closed("203.0.113.9")
    assert not connections.opened("203.0.113.9")
    assert connections.opened("203.0.113.10")


def test_when_far_too_many_come_nobody_is_told_any_more() -> None:
    connections = Connections(SETTINGS)
    for _ in range(105):
        connections.opened("127.0.0.1")
    assert not connections.too_many_to_answer
    connections.opened("127.0.0.1")
    assert connections.too_many_to_answer


@pytest.mark.parametrize(
    ("soft", "hard", "asked", "given"),
    [
        (1024, 1_000_000, 4000, 4000),
        (1024, 1024, 4000, 512),
        (64, 64, 4000, 16),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 4000, 4000),
        (1_000_000, 1_000_000, 4000, 4000),
    ],
)
def test_there_are_descriptors_for_what_is_promised(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, asked: int, given: int
) -> None:
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.append(new))
    assert descriptors_for(asked) == given
