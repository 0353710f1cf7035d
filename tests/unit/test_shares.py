"""N processes together stay within the bounds of the settings, and each can still work."""

from __future__ import annotations

import math
import os
import random
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3.domain import machine
from d3.entrypoints.serving.shares import MOST_AUTOMATIC, for_engine, for_front, workers_for
from d3.settings import Settings

WORKERS = st.integers(2, 256)
BOUNDS = st.integers(1, 1_000_000)
SHARED = (
    "database_pool_size",
    "decode_threads",
    "body_bytes",
    "max_requests",
    "max_connections",
    "max_connections_per_address",
)


@given(WORKERS, st.lists(BOUNDS, min_size=len(SHARED), max_size=len(SHARED)))
def test_a_share_is_never_nothing_and_never_more_than_all(workers: int, bounds: list[int]) -> None:
    whole = Settings(postgres_host="db", **dict(zip(SHARED, bounds, strict=True)))
    front = for_front(whole, workers)
    for name in SHARED:
        assert 1 <= getattr(front, name) <= getattr(whole, name)


@given(WORKERS, BOUNDS)
def test_database_connections_of_all_processes_stay_within_the_bound_or_three_each(
    workers: int, bound: int
) -> None:
    whole = Settings(database_pool_size=bound, postgres_host="db")
    together = (
        workers * for_front(whole, workers).database_pool_size
        + for_engine(whole).database_pool_size
    )
    assert together <= max(bound, 3 * workers + 2)


def test_connections_to_sqlite_are_not_divided_since_no_server_counts_them() -> None:
    assert for_front(Settings(), 4).database_pool_size == Settings().database_pool_size


@given(WORKERS, BOUNDS)
def test_memory_and_decoders_are_divided(workers: int, bound: int) -> None:
    front = for_front(Settings(body_bytes=bound, decode_threads=bound), workers)
    assert bound <= workers * front.body_bytes < bound + workers
    assert bound <= workers * front.decode_threads < bound + 2 * workers


@given(WORKERS, BOUNDS)
def test_all_connections_that_are_allowed_fit_though_chance_spreads_them(
    workers: int, bound: int
) -> None:
    front = for_front(Settings(max_connections=bound), workers)
    share = bound / workers
    assert front.max_connections >= min(bound, share + 4 * math.sqrt(share))
    assert front.max_connections <= share + 4 * math.sqrt(share) + 1


@pytest.mark.parametrize("workers", [2, 4, 15])
def test_connections_of_one_address_find_room_on_the_front_they_are_sent_to(workers: int) -> None:
    whole = Settings()
    room = for_front(whole, workers).max_connections_per_address
    dice = random.Random(0)
    for _ in range(50):
        drawn = dice.choices(range(workers), k=whole.max_connections_per_address)
        assert max(map(drawn.count, range(workers))) <= room


def test_one_process_has_everything() -> None:
    assert for_front(Settings(), 1) == Settings()


@given(WORKERS)
def test_nothing_else_changes(workers: int) -> None:
    whole = Settings(workers=workers)
    for own in (for_front(whole, workers), for_engine(whole)):
        assert {
            one.name for one in fields(own) if getattr(own, one.name) != getattr(whole, one.name)
        } <= set(SHARED)


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 1), (4, 2), (16, 8), (64, 16)])
def test_auto_leaves_cores_to_the_engine_of_a_gpu_and_to_decoders(cores: int, workers: int) -> None:
    assert workers_for(Settings(workers="auto"), cores, gpu=True) == workers
    assert workers <= MOST_AUTOMATIC


@pytest.mark.parametrize(
    "settings",
    [Settings(workers="auto", cuda_device="cpu"), Settings(workers="auto", engine="openvino")],
)
def test_auto_is_one_process_where_the_model_needs_all_cores(settings: Settings) -> None:
    assert workers_for(settings, 64, gpu=True) == 1
    assert workers_for(Settings(workers="auto"), 64, gpu=False) == 1


@pytest.mark.parametrize(("said", "cores"), [("250000 100000", 2), ("5000 10000", 1), ("max 1", 8)])
def test_the_quota_of_a_container_counts_as_its_cores(
    said: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(f"{said}\n", encoding="ascii")
    monkeypatch.setattr(machine, "CPU_GROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_GROUP", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert machine.available_cores() == cores


@pytest.mark.parametrize(
    ("own", "cores"), [("/d3.slice/d3.service", 3), ("/", 8), ("/../../elsewhere", 8)]
)
def test_the_quota_of_a_unit_and_of_the_slice_around_it_counts(
    own: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = tmp_path / "groups/d3.slice/d3.service"
    unit.mkdir(parents=True)
    (unit / "cpu.max").write_text("max 100000\n", encoding="ascii")
    (unit.parent / "cpu.max").write_text("300000 100000\n", encoding="ascii")
    group = tmp_path / "cgroup"
    group.write_text(f"1:name=systemd:/\n0::{own}\n", encoding="utf-8")
    monkeypatch.setattr(machine, "CPU_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(machine, "OWN_GROUP", group)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert machine.available_cores() == cores


def test_a_number_is_taken_as_it_is() -> None:
    assert workers_for(Settings(workers=3), 1, gpu=False) == 3
    assert workers_for(Settings(), 64, gpu=True) == 1
