"""The copy of what stands in S3 keeps to its size, and what is in use stays in it."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from d3.adapters.minio import MinioRegistry, S3Place
from d3.domain.models import Manifest
from tests.support.contracts.registries import RegistryFiles

SIZE = 10_000


@pytest.fixture
def models(place: S3Place, tmp_path: Path) -> list[Manifest]:
    """Five models in the bucket, each with an encoder of its own; none is active."""
    shelf = RegistryFiles(MinioRegistry(place, tmp_path / "writer"), tmp_path)
    return [shelf.put(f"model-{n}", encoder=f"{n}" * SIZE, head=f"head {n}") for n in range(5)]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def on(place: S3Place, cache: Path, models_kept: int) -> MinioRegistry:
    return MinioRegistry(place, cache, cache_bytes=models_kept * (SIZE + 100))


def there(cache: Path, models: list[Manifest]) -> list[int]:
    """Which of the models have their encoder in the cache."""
    blobs = {path.stem for path in cache.glob("*/blobs/*.safetensors")}
    return [n for n, model in enumerate(models) if model.encoder.sha256 in blobs]


def let_an_hour_pass(cache: Path) -> None:
    for blob in cache.glob("*/blobs/*"):
        before = blob.stat().st_mtime - 3601
        os.utime(blob, (before, before))


def test_what_was_not_opened_for_longest_goes_and_can_be_had_again(
    place: S3Place, models: list[Manifest], cache: Path
) -> None:
    registry = on(place, cache, models_kept=3)
    for n in (0, 1, 2, 0):
        registry.open(f"model-{n}")
        let_an_hour_pass(cache)
    registry.open("model-3")
    assert there(cache, models) == [0, 2, 3]
    let_an_hour_pass(cache)
    assert registry.open("model-1").encoder.read_text() == "1" * SIZE
    assert there(cache, models) == [0, 1, 3]


def test_the_active_model_and_the_last_two_stay_however_small_the_cache(
    place: S3Place, models: list[Manifest], cache: Path
) -> None:
    registry = on(place, cache, models_kept=0)
    registry.activate("model-0")
    assert registry.active() == "model-0"
    for n in (0, 1, 2, 3, 4):
        registry.open(f"model-{n}")
        let_an_hour_pass(cache)
    assert there(cache, models) == [0, 3, 4]


def test_what_another_process_opened_within_the_hour_stays(
    place: S3Place, models: list[Manifest], cache: Path
) -> None:
    on(place, cache, models_kept=0).open("model-0")
    let_an_hour_pass(cache)
    on(place, cache, models_kept=0).open("model-0")
    on(place, cache, models_kept=0).open("model-1")
    assert there(cache, models) == [0, 1]
    let_an_hour_pass(cache)
    on(place, cache, models_kept=0).open("model-2")
    assert there(cache, models) == [2]


def test_copies_of_other_stores_and_downloads_that_broke_off_count_too(
    place: S3Place, models: list[Manifest], cache: Path
) -> None:
    other = cache / "another store" / "blobs"
    other.mkdir(parents=True)
    (other / "old.safetensors").write_bytes(bytes(3 * SIZE))
    (other / ".partial-older").write_bytes(bytes(3 * SIZE))
    let_an_hour_pass(cache)
    on(place, cache, models_kept=3).open("model-0")
    assert {path.name for path in other.iterdir()} == {".lock-old", ".lock-older"}


def test_whoever_opens_while_others_prune_gets_whole_files(
    place: S3Place, models: list[Manifest], cache: Path
) -> None:
    """Time runs a thousand times as fast for what lies in the cache."""
    over = time.monotonic() + 3
    stop = threading.Event()

    def age() -> None:
        while not stop.is_set():
            let_an_hour_pass_for_the_old(cache)

    def work(worker: int) -> int:
        registry = on(place, cache, models_kept=1)
        turns = 0
        while time.monotonic() < over:
            n = (worker + turns) % len(models)
            opened = registry.open(f"model-{n}")
            assert opened.encoder.read_text() == f"{n}" * SIZE
            turns += 1
        return turns

    aging = threading.Thread(target=age)
    aging.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            turns = sum(pool.map(work, range(4)))
    finally:
        stop.set()
        aging.join()
    assert turns > 20


def let_an_hour_pass_for_the_old(cache: Path) -> None:
    """What was opened more than half a second ago was opened more than an hour ago."""
    for blob in cache.glob("*/blobs/*.safetensors"):
        try:
            age = time.time() - blob.stat().st_mtime
            if 0.5 < age < 3600:
                os.utime(blob, (time.time() - 3601,) * 2)
        except FileNotFoundError:
            continue
