"""Which models are loaded, together or apart; what is missing, and when it is tried again."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import pytest

from d3.domain.errors import (
    CheckpointInvalid,
    DeviceOutOfMemory,
    ModelNotFound,
    ModelNotLoaded,
)
from d3.domain.inputs import Fit, InputSpec
from d3.domain.services.local_host import LocalModelHost
from d3.domain.services.model_host import Panel
from d3.testing import FakeClock
from tests.serving import wait_until
from tests.support.panels import PanelEngine, Shelf, names_of, queue_of


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def engine() -> PanelEngine:
    return PanelEngine()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class Hosts:
    """Makes hosts, which are closed in the end."""

    def __init__(self, shelf: Shelf, engine: PanelEngine, clock: FakeClock) -> None:
        self._parts = shelf.registry, lambda: engine, queue_of(clock)
        self._clock = clock
        self.made: list[LocalModelHost] = []

    def __call__(self, *members: str, choice: str | None = None, **more: Any) -> LocalModelHost:
        choice = members[0] if members else choice
        host = LocalModelHost(
            *self._parts, choice, members=members, monotonic=self._clock.monotonic, **more
        )
        self.made.append(host)
        return host


@pytest.fixture
def hosts(shelf: Shelf, engine: PanelEngine, clock: FakeClock):
    hosts = Hosts(shelf, engine, clock)
    yield hosts
    engine.may_load.set()
    engine.may_score.set()
    for one in hosts.made:
        one.close(20)


def panel_of(host: LocalModelHost) -> Panel:
    panel = host.panel_in_use()
    assert panel is not None
    return panel


def members(host: LocalModelHost) -> list[str]:
    return names_of(panel_of(host).members)


def missing(host: LocalModelHost) -> dict[str, str]:
    return {one.model: one.code for one in panel_of(host).missing}


def test_heads_on_one_encoder_are_loaded_together_and_others_apart(
    shelf: Shelf, engine: PanelEngine, hosts: Hosts
) -> None:
    for name, encoder in {"a": "one", "b": "another", "c": "one", "d": "one"}.items():
        shelf.put(name, encoder)
    host = hosts("a", "b", "c", "d")
    assert host.load().manifest.name == "a"
    assert members(host) == ["a", "b", "c", "d"]
    assert sorted(engine.loads) == [("a", "c", "d"), ("b",)]
    assert engine.loads[0] == ("a", "c", "d"), "the chief's first"
    assert len({one.queue for one in panel_of(host).members}) == 2
    assert len({one.key for one in panel_of(host).members}) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"input": InputSpec(56, Fit.CROP)},
        {"input": InputSpec(56, mean=(0.5, 0.5, 0.5))},
        {"permutations": (tuple(reversed(range(16))),)},
        {"architecture": "of-somebody-else", "package": "theirs"},
        {"head": None, "architecture": "of-somebody-else"},
    ],
)
def test_other_pixels_permutations_or_architectures_are_scored_apart(
    changed: dict[str, Any], shelf: Shelf, engine: PanelEngine, hosts: Hosts
) -> None:
    shelf.put("a", "one")
    shelf.put("b", "one", **changed)
    host = hosts("a", "b")
    host.load()
    assert engine.loads == [("a",), ("b",)]
    assert members(host) == ["a", "b"]


def test_a_head_without_permutations_joins_one_that_has_them_whoever_is_chief(
    shelf: Shelf, engine: PanelEngine, hosts: Hosts
) -> None:
    """The first of a group decides how many views there are."""
    shelf.put("a", "one", architecture="ufd", permutations=())
    shelf.put("b", "one")
    host = hosts("a", "b")
    assert host.load().manifest.name == "a"
    assert engine.loads == [("b", "a")]
    chief, other = panel_of(host).members
    engine.logits = {"a": 1.0, "b": 2.0}
    logits = chief.queue.submit(_black(), 2).result(20).logits
    assert chief.own(logits, 1, 2) == [1.0]
    assert other.own(logits, 2, 2) == [2.0, 2.125]


def _black() -> Any:
    import numpy as np

    return np.zeros((1, 56, 56, 3), np.uint8)


def test_a_member_that_cannot_be_loaded_is_missing_and_the_others_go_on(
    shelf: Shelf, engine: PanelEngine, hosts: Hosts, clock: FakeClock
) -> None:
    shelf.put("a")
    shelf.put("b")
    shelf.put("d")
    engine.failures[("b",)] = CheckpointInvalid("Its head has another width.", "Import it again.")
    host = hosts("a", "b", "c", "d")
    host.load()
    assert members(host) == ["a", "d"]
    assert missing(host) == {"b": "invalid_checkpoint", "c": "model_not_found"}
    assert panel_of(host).missing[0].error == "Its head has another width. Import it again."
    assert "'c'" in panel_of(host).missing[1].error
    assert not host.trouble

    del engine.failures[("b",)]
    shelf.put("c")
    host.refresh()
    assert members(host) == ["a", "d"], "not at once"
    clock.advance(10)
    host.refresh()
    assert members(host) == ["a", "b", "c", "d"]
    assert missing(host) == {}
    assert engine.loads == [("a",), ("d",), ("b",), ("c",)], "nobody was loaded twice"


def test_what_fails_again_and_again_is_tried_less_and_less_often(
    shelf: Shelf, engine: PanelEngine, hosts: Hosts, clock: FakeClock
) -> None:
    shelf.put("a")
    tried: list[float] = []

    class Counting(PanelEngine):
        def load(self, model: Any) -> Any:
            if model.manifest.name == "b":
                tried.append(clock.monotonic())
                raise CheckpointInvalid("no")
            return super().load(model)

    shelf.put("b")
    counting = Counting()
    host = LocalModelHost(
        *(shelf.registry, lambda: counting, queue_of(clock), "a"),
        members=("a", "b"),
        monotonic=clock.monotonic,
    )
    hosts.made.append(host)
    host.load()
    for _ in range(400):
        clock.advance(5)
        host.refresh()
    pauses = [later - one for one, later in itertools.pairwise(tried)]
    assert pauses[:7] == [5, 10, 20, 40, 80, 160, 320]
    assert set(pauses[7:]) == {600}
    host.load()
    assert tried[-1] == clock.monotonic(), "who asks for a load is not made to wait"


def test_an_error_that_is_not_ours_takes_no_other_member_along(
    shelf: Shelf, engine: PanelEngine, hosts: Hosts
) -> None:
    for name in "abc":
        shelf.put(name)
    engine.failures[("b",)] = ZeroDivisionError("of a plug-in")
    host = hosts("a", "b", "c")
    host.load()
    assert members(host) == ["a", "c"]
    (lost,) = panel_of(host).missing
    assert (lost.model, lost.code) == ("b", "detector_failed")
    assert "of a plug-in" in lost.error


def test_a_chief_that_cannot_be_loaded_is_an_error_and_all_stays(
    shelf: Shelf, engine: PanelEngine, hosts: Hosts
) -> None:
    for name in "abc":
        shelf.put(name)
    host = hosts("a", "b")
    engine.failures[("a",)] = DeviceOutOfMemory("no room")
    with pytest.raises(DeviceOutOfMemory):
        host.load()
    assert host.panel_in_use() is None
    assert host.trouble == "no room"
    del engine.failures[("a",)]
    host.load()
    engine.failures[("c",)] = DeviceOutOfMemory("no room")
    with pytest.raises(DeviceOutOfMemory):
        host.load("c")
    assert members(host) == ["a", "b"]
    assert engine.open == [("a",), ("b",)]


def test_models_that_cannot_be_loaded_together_are_loaded_apart(
    shelf: Shelf, engine: PanelEngine, hosts: Hosts
) -> None:
    for name in "abc":
        shelf.put(name, "one")
    engine.failures[("a", "b", "c")] = CheckpointInvalid("The head of b has another width.")
    engine.failures[("b",)] = CheckpointInvalid("The head of b has another width.")
    host = hosts("a", "b", "c")
    host.load()
    assert members(host) == ["a", "c"]
    assert missing(host) == {"b": "invalid_checkpoint"}
    assert engine.open == [("a",), ("c",)]


def test_another_chief_takes_the_firsts_place_and_the_others_stay(
    shelf: Shelf, engine: PanelEngine, hosts: Hosts
) -> None:
    for name in "abcx":
        shelf.put(name)
    host = hosts("a", "b", "c")
    host.load()
    host.load("x")
    assert members(host) == ["x", "b", "c"]
    assert engine.loads == [("a",), ("b",), ("c",), ("x",)], "b and c were not loaded again"
    assert ("a",) not in engine.open
    host.load("b")
    assert members(host) == ["b", "a", "c"], "a member that leads has all others beside it"
    host.load()
    assert members(host) == ["a", "b", "c"]


def test_another_chief_regroups_where_that_shares_a_pass(
    shelf: Shelf, engine: PanelEngine, hosts: Hosts
) -> None:
    for name, encoder in {"a": "one", "b": "one", "x": "two", "c": "two"}.items():
        shelf.put(name, encoder)
    host = hosts("a", "b", "c")
    host.load()
    assert engine.open == [("a", "b"), ("c",)]
    host.load("x")
    assert members(host) == ["x", "b", "c"]
    assert sorted(engine.open) == [("b",), ("x", "c")]
    host.load("a")
    assert sorted(engine.open) == [("a", "b"), ("c",)]


def test_work_in_flight_ends_with_the_models_that_it_began_with(
    shelf: Shelf, engine: PanelEngine, hosts: Hosts
) -> None:
    for name in "abx":
        shelf.put(name)
    host = hosts("a", "b")
    host.load()
    with host.panel() as panel:
        host.load("x")
        assert names_of(panel.members) == ["a", "b"]
        assert engine.open == [("a",), ("b",), ("x",)]
        for one in panel.members:
            one.queue.submit(_black(), 1).result(20)
        replaced = host.holding(panel.chief)
        replaced.__enter__()
    assert engine.open == [("a",), ("b",), ("x",)]
    replaced.__exit__(None, None, None)
    wait_until(lambda: engine.open == [("b",), ("x",)])
    with host.held() as model, host.holding(panel_of(host).others[0]):
        assert host.unload()
        assert model.manifest.name == "x"
        assert engine.open == [("b",), ("x",)]
    wait_until(lambda: engine.open == [])
    assert not host.unload()


def test_a_newer_version_of_a_member_is_loaded_and_the_old_one_stays_if_it_fails(
    shelf: Shelf, engine: PanelEngine, hosts: Hosts, clock: FakeClock
) -> None:
    shelf.put("a")
    shelf.put("b")
    host = hosts("a", "b")
    host.load()
    engine.failures[("b",)] = CheckpointInvalid("no")
    shelf.put("b", head="a better one")
    host.refresh()
    (old,) = panel_of(host).others
    assert (old.manifest.version, missing(host)) == (1, {})
    del engine.failures[("b",)]
    clock.advance(10)
    host.refresh()
    (new,) = panel_of(host).others
    assert new.manifest.version == 2
    assert host.loaded() is panel_of(host).chief
    assert len(engine.open) == 2


def test_the_chief_answers_while_the_others_are_being_loaded(
    shelf: Shelf, engine: PanelEngine, hosts: Hosts
) -> None:
    shelf.put("a")
    shelf.put("b")
    host = hosts("a", "b")
    engine.may_load.clear()
    loading = threading.Thread(target=host.load)
    loading.start()
    wait_until(lambda: host.panel_in_use() is not None)
    assert members(host) == ["a"]
    (awaited,) = panel_of(host).missing
    assert awaited.error == "The model 'b' is being loaded. Try again in a moment."
    engine.may_load.set()
    loading.join(20)
    assert members(host) == ["a", "b"]


def test_what_is_unloaded_while_another_model_loads_is_loaded_anew(
    shelf: Shelf, engine: PanelEngine, hosts: Hosts
) -> None:
    for name in "abx":
        shelf.put(name)
    host = hosts("a", "b")
    host.load()
    engine.may_load.clear()
    loading = threading.Thread(target=host.load, args=("x",))
    loading.start()
    for _ in range(3):
        assert engine.loading.acquire(timeout=20)
    assert host.unload()
    engine.may_load.set()
    loading.join(20)
    assert members(host) == ["x"]
    assert missing(host) == {"b": "model_not_loaded"}
    assert engine.open == [("x",)]
    host.refresh()
    assert members(host) == ["x", "b"]


def test_a_model_that_is_unloaded_while_a_question_loads_others_is_not_put_back(
    shelf: Shelf, engine: PanelEngine, hosts: Hosts
) -> None:
    shelf.put("a")
    shelf.put("x")
    host = hosts("a")
    host.load()
    engine.may_load.clear()

    def ask() -> None:
        with host.panel(["x"], load=True):
            pass

    asking = threading.Thread(target=ask)
    asking.start()
    for _ in range(2):
        assert engine.loading.acquire(timeout=20)
    assert host.unload()
    engine.may_load.set()
    asking.join(20)
    assert host.loaded() is None
    assert engine.open == [("x",)]


def test_a_model_that_is_unloaded_as_soon_as_it_is_loaded_was_loaded(
    shelf: Shelf, hosts: Hosts
) -> None:
    shelf.put("a")
    host = hosts("a")
    host.changed = lambda: host.loaded() is not None and host.unload()
    assert host.load().manifest.name == "a"
    assert host.loaded() is None


def test_a_member_for_whose_weights_there_is_no_memory_is_refused_with_a_sentence(
    shelf: Shelf, engine: PanelEngine, hosts: Hosts
) -> None:
    shelf.put("a", "one")
    shelf.put("large", "L" * 3 * 2**20)
    shelf.put("same-encoder", "one", permutations=(tuple(range(16)),))
    host = hosts("a", "large", "same-encoder", free_memory=lambda: 2**20)
    host.load()
    assert members(host) == ["a", "same-encoder"], "whose encoder is in memory already"
    (refused,) = panel_of(host).missing
    assert (refused.model, refused.code) == ("large", "out_of_memory")
    assert refused.error.startswith("The model 'large' takes 3 MiB of memory, and 1 MiB are free.")


def test_where_no_model_is_named_in_settings_one_is_loaded_when_it_is_asked_for(
    shelf: Shelf, engine: PanelEngine, hosts: Hosts
) -> None:
    for name in "abc":
        shelf.put(name)
    host = hosts(choice="a")
    with host.panel(["b", "c"], load=True) as panel:
        assert names_of(panel.members) == ["b", "c"]
    assert host.loaded() is None, "the chosen one was not asked for"
    with host.panel(load=True) as panel:
        assert names_of(panel.members) == ["a"]
    with host.panel(["a", "c", "nobody"], load=True) as panel:
        assert names_of(panel.members) == ["a", "c"]
        assert [one.model for one in panel.missing] == ["nobody"]
    assert engine.loads == [("b",), ("c",), ("a",)]
    with pytest.raises(ModelNotFound, match="nobody"), host.panel(["nobody", "a"], load=True):
        pass
    host.load("b")
    assert members(host) == ["b"], "what a question named does not join the panel in use"
    assert host.close(20)
    assert engine.open == []


def test_a_service_loads_nothing_for_a_question(
    shelf: Shelf, engine: PanelEngine, hosts: Hosts
) -> None:
    for name in "abcd":
        shelf.put(name)
    host = hosts("a", "b", on_demand=False)
    with pytest.raises(ModelNotLoaded), host.panel(["b"]):
        pass
    host.load()
    for load in (False, True):
        with host.panel(["b", "c", "a"], load=load) as panel:
            assert names_of(panel.members) == ["b", "a"]
        (absent,) = panel.missing
        assert absent.code == "model_not_served"
        assert absent.error.startswith("The model 'c' is not loaded here. Loaded are: 'a', 'b'.")
        with pytest.raises(ModelNotLoaded, match="'c' is not loaded"):
            host.panel(["c", "a"], load=load).__enter__()
    with host.panel(["b"]) as alone:
        assert (names_of(alone.members), alone.missing) == (["b"], ())
    assert engine.loads == [("a",), ("b",)]


def test_why_a_member_of_the_settings_is_missing_is_said_to_a_question_too(
    shelf: Shelf, engine: PanelEngine, hosts: Hosts
) -> None:
    shelf.put("a")
    shelf.put("b")
    engine.failures[("b",)] = CheckpointInvalid("The file is damaged.")
    host = hosts("a", "b", on_demand=False)
    host.load()
    with host.panel(["a", "b"]) as panel:
        assert [one.error for one in panel.missing] == ["The file is damaged."]


def test_changes_are_told(shelf: Shelf, engine: PanelEngine, hosts: Hosts) -> None:
    told: list[list[str]] = []
    shelf.put("a")
    shelf.put("b")
    host = hosts("a", "b")
    host.changed = lambda: told.append(members(host) if host.panel_in_use() else [])
    host.load()
    assert told == [["a"], ["a", "b"]]
    host.unload()
    assert told[-1] == []
