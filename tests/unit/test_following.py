"""A replica follows the registry's active model, and nothing keeps it from trying."""

from __future__ import annotations

import itertools
import logging
import threading
from pathlib import Path
from typing import cast

import pytest

from d3.adapters.batching import ThreadedQueue
from d3.domain.errors import DeviceOutOfMemory, LoadInProgress, StorageUnavailable
from d3.domain.services.model_follower import ActiveModelFollower
from d3.domain.services.model_host import LoadedModel, ModelHost
from d3.testing import FakeClock, FakeDetector
from tests.support.contracts.registries import RegistryFiles
from tests.support.memory import MemoryRegistry


class Host:
    """Loads nothing, and remembers what it was asked to."""

    def __init__(self, registry: MemoryRegistry) -> None:
        self._registry = registry
        self.loads: list[str] = []
        self.failure: Exception | None = None
        self.serving: LoadedModel | None = None

    def loaded(self) -> LoadedModel | None:
        return self.serving

    def chosen(self) -> str:
        return self._registry.active() or "starter"

    def refresh(self) -> None:
        """It has no other members."""

    def load(self, name: str | None = None) -> object:
        if self.failure is not None:
            raise self.failure
        self.loads.append(name or self.chosen())
        return object()


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
def shelf(registry: MemoryRegistry, tmp_path: Path) -> RegistryFiles:
    shelf = RegistryFiles(registry, tmp_path)
    shelf.put("one")
    shelf.put("two", head="another head")
    registry.activate("one")
    return shelf


@pytest.fixture
def host(registry: MemoryRegistry) -> Host:
    return Host(registry)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def follower(
    registry: MemoryRegistry, shelf: RegistryFiles, host: Host, clock: FakeClock
) -> ActiveModelFollower:
    serve(host, registry, "one")
    follower = ActiveModelFollower(registry, cast("ModelHost", host), clock, seconds=10)
    assert not follower.check()
    return follower


def serve(host: Host, registry: MemoryRegistry, name: str) -> None:
    """Have a model in use that somebody else loaded."""
    queue = ThreadedQueue(FakeDetector(), FakeClock())
    host.serving = LoadedModel(registry.describe(name), queue)


def test_nothing_new_loads_nothing(follower: ActiveModelFollower, host: Host) -> None:
    assert [follower.check() for _ in range(3)] == [False] * 3
    assert host.loads == []


def test_where_nothing_is_loaded_the_first_look_loads(
    registry: MemoryRegistry, shelf: RegistryFiles, host: Host, clock: FakeClock
) -> None:
    follower = ActiveModelFollower(registry, cast("ModelHost", host), clock)
    assert [follower.check() for _ in range(3)] == [True, False, False]
    assert host.loads == ["one"]


def test_another_choice_and_a_new_version_are_loaded_once(
    follower: ActiveModelFollower, host: Host, registry: MemoryRegistry, shelf: RegistryFiles
) -> None:
    registry.activate("two")
    assert [follower.check(), follower.check()] == [True, False]
    shelf.put("one", head="a third head")
    assert not follower.check()
    shelf.put("two", head="a fourth head")
    assert [follower.check(), follower.check()] == [True, False]
    assert host.loads == ["two", "two"]


def test_a_model_that_cannot_be_loaded_is_tried_again_less_and_less_often(
    follower: ActiveModelFollower,
    host: Host,
    registry: MemoryRegistry,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry.activate("two")
    tried: list[float] = []

    class Refusing(DeviceOutOfMemory):
        def __str__(self) -> str:
            return "no room"

    def refuse(name: str | None = None) -> object:
        tried.append(clock.monotonic())
        raise Refusing("no room")

    load, host.load = host.load, refuse
    for _ in range(400):
        assert not follower.check()
        clock.advance(10)
    pauses = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert pauses[:7] == [10, 20, 40, 80, 160, 320, 600]
    assert set(pauses[7:]) <= {600}
    (told,) = [line for line in caplog.messages if "two" in line]
    assert "The old model stays: no room" in told
    host.load = load
    clock.advance(600)
    assert follower.check()
    assert host.loads == ["two"]


def test_where_no_old_model_is_none_is_spoken_of(
    follower: ActiveModelFollower, host: Host, registry: MemoryRegistry
) -> None:
    host.serving, host.failure = None, DeviceOutOfMemory("no room")
    registry.activate("two")
    assert not follower.check()
    assert "could not be loaded. No model is loaded: " in (follower.trouble or "")


def test_another_choice_need_not_wait_for_the_refused_one(
    follower: ActiveModelFollower, host: Host, registry: MemoryRegistry, shelf: RegistryFiles
) -> None:
    registry.activate("two")
    host.failure = DeviceOutOfMemory("no room")
    assert not follower.check()
    assert "two version 1" in (follower.trouble or "")
    assert "no room" in (follower.trouble or "")
    host.failure = None
    shelf.put("three", head="small")
    registry.activate("three")
    assert follower.check()
    assert host.loads == ["three"]
    assert follower.trouble is None


def test_a_registry_that_is_away_is_said_once(
    follower: ActiveModelFollower,
    host: Host,
    registry: MemoryRegistry,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def away() -> str:
        raise StorageUnavailable("The store is away.")

    with monkeypatch.context() as patched:
        patched.setattr(host, "chosen", away)
        for _ in range(3):
            assert not follower.check()
    assert len(caplog.messages) == 1
    registry.activate("two")
    assert follower.check()


def test_what_was_loaded_by_hand_stays_until_another_is_chosen(
    follower: ActiveModelFollower, host: Host, registry: MemoryRegistry, shelf: RegistryFiles
) -> None:
    serve(host, registry, "two")
    assert not follower.check()
    host.serving = None  # unloaded by hand
    assert not follower.check()
    serve(host, registry, "two")
    registry.activate("two")
    assert not follower.check()  # it is there already
    registry.activate("one")
    assert follower.check()
    assert host.loads == ["one"]


def test_a_load_in_progress_is_waited_for_without_a_word(
    follower: ActiveModelFollower,
    host: Host,
    registry: MemoryRegistry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry.activate("two")
    host.failure = LoadInProgress("Another model is being loaded.")
    assert not follower.check()
    assert (follower.trouble, caplog.messages) == (None, [])
    host.failure = None
    assert follower.check()


def test_running_survives_anything_and_stops(
    registry: MemoryRegistry,
    shelf: RegistryFiles,
    host: Host,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    follower = ActiveModelFollower(registry, cast("ModelHost", host), clock, seconds=0.01)
    stop, seen = threading.Event(), threading.Event()
    chosen = host.chosen
    turns: list[int] = []

    def strange() -> str:
        turns.append(1)
        if len(turns) == 1:
            raise ZeroDivisionError
        if len(turns) == 4:
            seen.set()
        return chosen()

    host.chosen = strange
    with caplog.at_level(logging.CRITICAL):
        thread = threading.Thread(target=follower.run, args=(stop,))
        thread.start()
        assert seen.wait(5)
        stop.set()
        thread.join(5)
    assert not thread.is_alive()
    assert host.loads == ["one"]
