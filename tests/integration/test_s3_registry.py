"""The S3 registry beyond the contract: many writers, garbage, bare heads, large files, settings."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from d3.adapters.filesystem import FilesystemRegistry
from d3.adapters.minio import MinioRegistry, S3Place
from d3.adapters.minio.adoption import AdoptingRegistry
from d3.adapters.torch import TorchArchitectures
from d3.domain.errors import (
    CheckpointInvalid,
    ModelDamaged,
    ModelNotFound,
    ModelProtected,
    StorageFailed,
)
from d3.domain.models import StoredModel, file_of
from d3.domain.services.copying import copy_models
from d3.domain.services.models import ModelImporter
from d3.testing import FakeClock, tiny_ferretnet, tiny_model, tiny_ufd
from d3.testing.models import tiny_manifest
from tests.support.contracts.registries import RegistryFiles
from tests.support.faults import FaultyProxy, replayed
from tests.support.memory import MemoryRegistry
from tests.support.stores import S3Server


@pytest.fixture
def registry(place: S3Place, tmp_path: Path) -> MinioRegistry:
    return MinioRegistry(place, tmp_path / "cache")


@pytest.fixture
def shelf(registry: MinioRegistry, tmp_path: Path) -> RegistryFiles:
    (tmp_path / "shelf").mkdir()
    return RegistryFiles(registry, tmp_path / "shelf")


def keys(server: S3Server, bucket: str) -> set[str]:
    return {one.object_name for one in server.client().list_objects(bucket, recursive=True)}


def test_machines_that_put_at_once_each_get_versions_of_their_own(
    place: S3Place, s3: S3Server, tmp_path: Path
) -> None:
    shelves = []
    for n in range(4):
        (tmp_path / f"{n}").mkdir()
        machine = MinioRegistry(place, tmp_path / f"cache {n}")
        shelves.append(RegistryFiles(machine, tmp_path / f"{n}"))
    shelves[0].put("mine")
    start = threading.Barrier(4)

    def work(n: int) -> list[tuple[int, str]]:
        start.wait()
        heads = [f"head {n}-{turn}" for turn in range(4)]
        return [(shelves[n].put("mine", head=head).version, head) for head in heads]

    with ThreadPoolExecutor(4) as pool:
        stored = [one for some in pool.map(work, range(4)) for one in some]
    assert len({version for version, _ in stored}) == 16
    reader = MinioRegistry(place, tmp_path / "reader")
    for version, head in stored:
        assert reader.open("mine", version).head.read_text() == head
    assert not [key for key in keys(s3, place.bucket) if "claim" in key]


def test_models_with_the_same_encoder_share_its_object_and_the_last_user_takes_it_along(
    registry: MinioRegistry, shelf: RegistryFiles, place: S3Place, s3: S3Server
) -> None:
    shelf.put("one", head="head one")
    shelf.put("two", head="head two")
    assert sum(key.startswith("blobs/") for key in keys(s3, place.bucket)) == 3
    registry.delete("one")
    assert sum(key.startswith("blobs/") for key in keys(s3, place.bucket)) == 2
    registry.delete("two")
    assert keys(s3, place.bucket) == set()


def test_files_of_an_upload_in_flight_are_not_collected(
    registry: MinioRegistry, shelf: RegistryFiles, place: S3Place, s3: S3Server
) -> None:
    versions_to_remove = shelf.put("versions_to_remove")
    files = [file.sha256 for file in versions_to_remove.files.values()]
    with registry._claims.next_version("coming", files):
        registry.delete("versions_to_remove")
        assert sum(key.startswith("blobs/") for key in keys(s3, place.bucket)) == 2
    shelf.put("another", encoder="e", head="h")
    registry.delete("another")
    assert keys(s3, place.bucket) == set()


def test_what_is_collected_while_a_model_is_stored_is_put_back(
    registry: MinioRegistry,
    shelf: RegistryFiles,
    place: S3Place,
    s3: S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A collector who had listed the files before the claim was made takes one of them."""
    write = registry._bucket.write

    def and_then_collect(key: str, content: bytes) -> None:
        write(key, content)
        if key.endswith(".json"):
            for blob in keys(s3, place.bucket):
                if blob.startswith("blobs/"):
                    s3.client().remove_object(place.bucket, blob)

    monkeypatch.setattr(registry._bucket, "write", and_then_collect)
    shelf.put("mine")
    monkeypatch.undo()
    assert registry.open("mine").encoder.read_text() == "an encoder"


def test_the_active_model_is_seen_by_others_within_seconds(
    registry: MinioRegistry, shelf: RegistryFiles, place: S3Place, tmp_path: Path
) -> None:
    clock = FakeClock()
    other = MinioRegistry(place, tmp_path / "other", monotonic=clock.monotonic)
    shelf.put("mine")
    assert other.active() is None
    registry.activate("mine")
    clock.advance(10)
    assert other.active() == "mine"


def test_packaged_models_need_no_store(
    place: S3Place, tmp_path: Path, shelf: RegistryFiles, registry: MinioRegistry
) -> None:
    packaged = tmp_path / "packaged"
    folder = FilesystemRegistry(tmp_path / "folder")
    (tmp_path / "more").mkdir()
    RegistryFiles(folder, tmp_path / "more").put("starter")
    model = folder.open("starter")
    packaged.mkdir()
    shutil.copy(tmp_path / "folder/manifests/starter/1.json", packaged / "manifest.json")
    shutil.copy(model.encoder, packaged / "encoder.safetensors")
    shutil.copy(model.head, packaged / "head.safetensors")
    nowhere = replace(place, endpoint="127.0.0.1:9")
    away = MinioRegistry(nowhere, tmp_path / "away", [packaged])
    assert away.open("starter").head.read_text() == "a head"
    assert away.describe("starter").name == away.verify("starter").name == "starter"
    with pytest.raises(ModelProtected):
        away.delete("starter")
    here = MinioRegistry(place, tmp_path / "cache", [packaged])
    shelf.put("mine")
    here.activate("starter")
    assert [(one.manifest.name, one.active, one.packaged) for one in here.list()] == [
        ("mine", False, False),
        ("starter", True, True),
    ]


@pytest.fixture
def adopting(registry: MinioRegistry) -> AdoptingRegistry:
    return AdoptingRegistry(registry, ModelImporter(registry, TorchArchitectures))


def drop(server: S3Server, bucket: str, name: str, content: bytes) -> None:
    """Put a file into the bucket by hand, as the original's README shows."""
    client = server.client()
    if not client.bucket_exists(bucket):
        client.make_bucket(bucket)
    client.put_object(bucket, name, io.BytesIO(content), len(content))


def of_the_pack(pack: Path, into: Path) -> StoredModel:
    """The reference pack's model, called ``d3``."""
    files = {"encoder": pack / "visual.safetensors", "head": pack / "classifier.pth"}
    return TorchArchitectures().read("d3", "d3", files, into)


def test_a_bare_head_put_there_by_hand_is_a_model(
    adopting: AdoptingRegistry, place: S3Place, s3: S3Server, pack: Path, tmp_path: Path
) -> None:
    """The published head's format, on the encoder of its width."""
    manifest = adopting.put(of_the_pack(pack, tmp_path))
    drop(s3, place.bucket, "classifier.pth", (pack / "classifier.pth").read_bytes())

    assert [one.manifest.name for one in adopting.list()] == ["classifier.pth", "d3"]
    adopted = adopting.open("classifier.pth")
    assert adopted.manifest.encoder == manifest.encoder
    assert adopted.manifest.head == manifest.head
    assert adopted.manifest.version == 1
    assert "without D3" in adopted.manifest.provenance
    adopting.open("classifier.pth")
    assert adopting.describe("classifier.pth").version == 1
    adopting.activate("classifier.pth")
    with pytest.raises(ModelProtected):
        adopting.delete("classifier.pth")
    adopting.activate("d3")
    adopting.delete("classifier.pth")
    assert [one.manifest.name for one in adopting.list()] == ["d3"]
    with pytest.raises(ModelNotFound):
        adopting.open("classifier.pth")


def test_a_bare_head_is_opened_and_put_anew_without_being_listed_first(
    adopting: AdoptingRegistry,
    place: S3Place,
    s3: S3Server,
    tmp_path: Path,
) -> None:
    heads = []
    for seed in range(2):
        (tmp_path / f"{seed}").mkdir()
        model = tiny_model(tmp_path / f"{seed}", "donor", seed=seed)
        heads.append(_as_pth(model.head))
        if seed == 0:
            adopting.put(model)
    drop(s3, place.bucket, "mine.pth", heads[0])
    first = adopting.open("mine.pth").manifest
    assert first.version == 1
    assert adopting.verify("mine.pth") == first
    time.sleep(1.1)  # the server's times have seconds
    drop(s3, place.bucket, "mine.pth", heads[1])
    second = adopting.open("mine.pth").manifest
    assert (second.version, second.head != first.head) == (2, True)
    assert adopting.open("mine.pth").manifest == second


def _as_pth(head: Path) -> bytes:
    import torch
    from safetensors.torch import load_file

    content = io.BytesIO()
    torch.save(load_file(head), content)
    return content.getvalue()


def test_a_bare_file_that_is_no_head_hides_nothing_and_is_refused(
    adopting: AdoptingRegistry,
    shelf: RegistryFiles,
    place: S3Place,
    s3: S3Server,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shelf.put("mine")
    drop(s3, place.bucket, "junk.pth", b"no checkpoint at all")
    for _ in range(2):
        assert [one.manifest.name for one in adopting.list()] == ["mine"]
    assert len([line for line in caplog.messages if "junk.pth" in line]) == 1
    with pytest.raises(CheckpointInvalid):
        adopting.open("junk.pth")


def test_who_may_only_read_sees_the_other_models_beside_a_bare_head(
    place: S3Place, s3: S3Server, pack: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    MinioRegistry(place, tmp_path / "writer").put(of_the_pack(pack, tmp_path))
    drop(s3, place.bucket, "classifier.pth", (pack / "classifier.pth").read_bytes())
    refuse = replayed(403, "AccessDenied")
    with FaultyProxy(s3.endpoint) as proxy:
        proxy.fault = lambda method, path, answer: (
            refuse(method, path, answer) if method == "PUT" else answer
        )
        reader = MinioRegistry(s3.place(place.bucket, proxy.address), tmp_path / "reader")
        adopting = AdoptingRegistry(reader, ModelImporter(reader, TorchArchitectures))
        assert [one.manifest.name for one in adopting.list()] == ["d3"]
        assert [line for line in caplog.messages if "classifier.pth" in line]
        with pytest.raises(StorageFailed, match="MINIO_ACCESS_KEY"):
            adopting.open("classifier.pth")


def test_models_are_copied_with_their_versions_and_once(
    registry: MinioRegistry, tmp_path: Path
) -> None:
    folder = FilesystemRegistry(tmp_path / "folder")
    (tmp_path / "more").mkdir()
    source = RegistryFiles(folder, tmp_path / "more")
    for head in ("one", "two", "three"):
        source.put("mine", head=head)
    source.put("other")
    folder.delete("mine", 2)
    folder.activate("mine")
    assert [
        (one.manifest.name, one.manifest.version, one.version, one.new)
        for one in copy_models(folder, registry)
    ] == [
        ("mine", 1, 1, True),
        ("mine", 3, 2, True),
        ("other", 1, 1, True),
    ]
    assert registry.active() == "mine"
    assert registry.open("mine").head.read_text() == "three"
    assert [one.new for one in copy_models(folder, registry)] == [False] * 3
    back = MemoryRegistry()
    assert [one.version for one in copy_models(registry, back, ["mine"])] == [1, 2]
    assert back.active() is None
    with pytest.raises(ModelNotFound):
        list(copy_models(folder, registry, ["nobody"]))


def test_models_of_every_architecture_are_copied_with_all_their_files(
    registry: MinioRegistry, tmp_path: Path
) -> None:
    folder = FilesystemRegistry(tmp_path / "folder")
    beside = tiny_model(tmp_path, "beside")
    for model in (beside, tiny_ufd(tmp_path, "probe", beside=beside), tiny_ferretnet(tmp_path)):
        folder.put(model)
    assert all(one.new for one in copy_models(folder, registry))
    for summary in folder.list():
        name = summary.manifest.name
        assert registry.verify(name) == summary.manifest
        assert registry.open(name).paths.keys() == folder.open(name).paths.keys()
    assert not any(one.new for one in copy_models(folder, registry))


MOVE = """
import sys
from pathlib import Path
from d3.adapters.minio import MinioRegistry, S3Place
from d3.domain.models import StoredModel, file_of
from d3.testing.models import tiny_manifest

endpoint, key, secret, bucket, megabytes, folder = sys.argv[1:]
def peak():
    # The largest resident size so far, in KiB; getrusage would tell the parent's.
    (line,) = [one for one in open("/proc/self/status") if one.startswith("VmHWM")]
    return int(line.split()[1])

place = S3Place(endpoint=endpoint, bucket=bucket, access_key=key, secret_key=secret)
folder = Path(folder)
encoder, head = folder / "encoder", folder / "head"
block = bytes(range(256)) * 4096
with encoder.open("wb") as stream:
    for number in range(int(megabytes)):
        stream.write(number.to_bytes(8, "little") + block[8:])
head.write_text("a head")
manifest = tiny_manifest(file_of(encoder), file_of(head), "large")
told = []
registry = MinioRegistry(place, folder / "cache", progress=lambda *one: told.append(one))
registry.list()
before = peak()
registry.put(StoredModel(manifest, {"encoder": encoder, "head": head}))
up = peak()
opened = registry.open("large")
down = peak()
assert opened.encoder.stat().st_size == int(megabytes) << 20
large = [one for one in told if "encoder" in one[0]]
assert large[-1][1] == large[-1][2] == int(megabytes) << 20 and len(large) > 10
print((up - before) // 1024, (down - before) // 1024)
"""


def test_gigabytes_move_in_bounded_memory(
    second_s3: S3Server,
    tmp_path: Path,
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """300 MB unless D3_TEST_LARGE_MB says otherwise; the server keeps them on disk."""
    megabytes = int(os.environ.get("D3_TEST_LARGE_MB") or 300)
    server = second_s3
    done = run_python(
        MOVE,
        *(server.endpoint, server.key, server.secret, "d3-large", megabytes, tmp_path),
        timeout=60 + megabytes / 5,
    )
    up, down = map(int, done.stdout.split())
    print(f"{megabytes} MB moved: at most {up} MB more going up, {down} in all")  # noqa: T201
    assert 0 < up < 150
    assert down < 150
    server.client().remove_object("d3-large", "manifests/large/1.json")


def test_a_file_that_changes_while_it_is_sent_is_not_kept(
    registry: MinioRegistry, shelf: RegistryFiles, place: S3Place, s3: S3Server
) -> None:
    encoder, head = shelf.file("e" * 12_000_000), shelf.file("a head")
    manifest = tiny_manifest(file_of(encoder), file_of(head), "mine")

    def meddle(what: str, done: int, total: int) -> None:
        if 0 < done < total:
            with encoder.open("r+b") as stream:
                stream.seek(-1, os.SEEK_END)
                stream.write(b"x")

    meddled = MinioRegistry(place, Path(encoder.parent) / "cache", progress=meddle)
    with pytest.raises(ModelDamaged):
        meddled.put(StoredModel(manifest, {"encoder": encoder, "head": head}))
    assert keys(s3, place.bucket) == set()


def test_the_layout_in_the_bucket_is_the_folders(
    registry: MinioRegistry, shelf: RegistryFiles, place: S3Place, s3: S3Server
) -> None:
    manifest = shelf.put("mine")
    registry.activate("mine")
    assert keys(s3, place.bucket) == {
        "active",
        "manifests/mine/1.json",
        *(f"blobs/{file.sha256}.safetensors" for file in manifest.files.values()),
    }
    with s3.client().get_object(place.bucket, "manifests/mine/1.json") as response:
        assert json.loads(response.read())["name"] == "mine"
