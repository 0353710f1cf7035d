"""The model folder keeps its promises when files break, processes race and writing fails."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from d3.adapters.filesystem import FilesystemRegistry
from d3.domain.errors import D3Error, ModelDamaged, ModelNotFound, ModelProtected, StorageFailed
from d3.domain.models import StoredModel, file_of
from d3.testing.models import tiny_manifest
from tests.support.contracts.registries import RegistryFiles


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "home" / "models"


@pytest.fixture
def registry(root: Path) -> FilesystemRegistry:
    return FilesystemRegistry(root)


@pytest.fixture
def shelf(registry: FilesystemRegistry, tmp_path: Path) -> RegistryFiles:
    (tmp_path / "shelf").mkdir()
    return RegistryFiles(registry, tmp_path / "shelf")


def test_looking_into_a_folder_that_is_not_there_makes_none(
    registry: FilesystemRegistry, root: Path
) -> None:
    assert registry.list() == []
    assert registry.active() is None
    with pytest.raises(ModelNotFound):
        registry.open("mine")
    assert not root.exists()


def test_another_process_finds_what_was_stored(shelf: RegistryFiles, root: Path) -> None:
    manifest = shelf.put("mine")
    assert FilesystemRegistry(root).open("mine").manifest == manifest


def test_models_with_the_same_encoder_share_its_file(shelf: RegistryFiles, root: Path) -> None:
    shelf.put("one", head="head one")
    shelf.put("two", head="head two")
    assert len(list((root / "blobs").iterdir())) == 3


def test_removing_the_last_user_of_a_file_removes_it(
    shelf: RegistryFiles, registry: FilesystemRegistry, root: Path
) -> None:
    shelf.put("one", head="head one")
    shelf.put("two", head="head two")
    registry.delete("one")
    assert len(list((root / "blobs").iterdir())) == 2
    registry.delete("two")
    assert list((root / "blobs").iterdir()) == []
    assert list((root / "manifests").iterdir()) == []


SPOILT = {
    "nothing": lambda text: b"",
    "no JSON": lambda text: b"{",
    "no UTF-8": lambda text: b"\xff\xfe" + text,
    "a list": lambda text: b"[]",
    "cut short": lambda text: text[:-40],
    "deeply nested": lambda text: b'{"metrics":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "another name": lambda text: text.replace(b'"mine"', b'"other"'),
    "a bad name": lambda text: text.replace(b'"mine"', b'"../x"'),
    "another version": lambda text: text.replace(b'"version": 1', b'"version": 7'),
    "a threshold of 2": lambda text: text.replace(b'"threshold": 0.5', b'"threshold": 2'),
    "no permutations": lambda text: json.dumps(json.loads(text) | {"permutations": []}).encode(),
    "a patch twice": lambda text: json.dumps(
        json.loads(text) | {"permutations": [[0, 0, *range(2, 16)]]}
    ).encode(),
    "a hash that is a path": lambda text: json.dumps(
        json.loads(text) | {"encoder": {"sha256": "../" * 20 + "etc", "size_bytes": 3}}
    ).encode(),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_manifest_that_cannot_be_understood_stops_its_model_alone(
    how: str, shelf: RegistryFiles, registry: FilesystemRegistry, root: Path
) -> None:
    shelf.put("mine")
    shelf.put("other", head="another head")
    place = root / "manifests" / "mine" / "1.json"
    text = place.read_bytes()
    place.write_bytes(SPOILT[how](text))
    assert place.read_bytes() != text
    for ask in (registry.describe, registry.open):
        with pytest.raises(ModelDamaged, match="'mine'"):
            ask("mine")
    with pytest.warns(RuntimeWarning, match="'mine'"):
        assert [one.manifest.name for one in registry.list()] == ["other"]
    registry.open("other")
    registry.delete("other")
    registry.delete("mine")
    assert registry.list() == []


def test_nothing_is_collected_while_a_manifest_cannot_be_read(
    shelf: RegistryFiles, registry: FilesystemRegistry, root: Path
) -> None:
    shelf.put("mine", head="its head")
    shelf.put("other", head="another head")
    place = root / "manifests" / "mine" / "1.json"
    text = place.read_bytes()
    place.write_bytes(b"{")
    registry.delete("other")
    place.write_bytes(text)
    assert registry.open("mine").head.read_text() == "its head"


def test_strange_files_in_the_folder_are_no_models(
    shelf: RegistryFiles, registry: FilesystemRegistry, root: Path
) -> None:
    shelf.put("mine")
    for name in (".DS_Store", "01.json", "x.json", ".partial-7", "٣.json", "-1.json"):
        (root / "manifests" / "mine" / name).write_text("{}")
    (root / "manifests" / "empty folder").mkdir()
    (root / "manifests" / "file").touch()
    assert [(one.manifest.name, one.manifest.version) for one in registry.list()] == [("mine", 1)]
    registry.delete("mine")
    assert registry.list() == []


def test_an_active_name_of_nonsense_is_a_clear_error_when_it_is_used(
    shelf: RegistryFiles, registry: FilesystemRegistry, root: Path
) -> None:
    shelf.put("mine")
    (root / "active").write_bytes(b"\xff\0/../x\n")
    assert [one.active for one in registry.list()] == [False]
    with pytest.raises(D3Error):
        registry.open(registry.active() or "")
    registry.activate("mine")
    assert registry.active() == "mine"


def test_a_packaged_model_can_be_neither_replaced_nor_removed(
    tmp_path: Path, shelf: RegistryFiles, root: Path
) -> None:
    shelf.put("starter")
    packaged = tmp_path / "packaged"
    packaged.mkdir()
    shutil.copy(root / "manifests" / "starter" / "1.json", packaged / "manifest.json")
    for role, file in FilesystemRegistry(root).describe("starter").files.items():
        shutil.copy(root / "blobs" / f"{file.sha256}.safetensors", packaged / f"{role}.safetensors")
    registry = FilesystemRegistry(tmp_path / "elsewhere", packaged=[packaged])
    assert [(one.manifest.name, one.packaged) for one in registry.list()] == [("starter", True)]
    assert registry.open("starter").head.read_text() == "a head"
    encoder, head = shelf.file("an encoder"), shelf.file("a head")
    manifest = tiny_manifest(file_of(encoder), file_of(head), "starter")
    with pytest.raises(ModelProtected):
        registry.put(StoredModel(manifest, {"encoder": encoder, "head": head}))
    with pytest.raises(ModelProtected):
        registry.delete("starter")
    registry.activate("starter")
    assert registry.active() == "starter"
    (packaged / "head.safetensors").write_text("tampered")
    with pytest.raises(ModelDamaged):
        registry.open("starter")


def _put(root: Path, folder: Path, worker: int) -> list[int]:
    folder.mkdir()
    shelf = RegistryFiles(FilesystemRegistry(root), folder)
    return [shelf.put("mine", head=f"head {worker}-{n}").version for n in range(6)]


def test_processes_that_put_at_once_each_get_versions_of_their_own(
    root: Path, tmp_path: Path, registry: FilesystemRegistry
) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        versions = pool.starmap(_put, [(root, tmp_path / f"w{n}", n) for n in range(2)], 1)
    pool.join()
    assert sorted(versions[0] + versions[1]) == list(range(1, 13))
    for version in range(1, 13):
        registry.open("mine", version)
    heads = {registry.open("mine", version).head.read_text() for version in range(1, 13)}
    assert len(heads) == 12


PUT_FOR_EVER = """
import sys
from pathlib import Path
from d3.adapters.filesystem import FilesystemRegistry
from tests.support.contracts.registries import RegistryFiles

shelf = RegistryFiles(FilesystemRegistry(Path(sys.argv[1])), Path(sys.argv[2]))
print("ready", flush=True)
for number in range(10**9):
    shelf.put("mine", encoder="e" * 3_000_000 + str(number), head=f"head {number}")
"""


def test_a_process_killed_while_it_writes_leaves_no_half_model(
    root: Path, tmp_path: Path, registry: FilesystemRegistry, shelf: RegistryFiles
) -> None:
    source = Path(sys.modules["d3"].__path__[0]).parent
    for attempt in range(4):
        place = tmp_path / f"attempt-{attempt}"
        place.mkdir()
        writer = subprocess.Popen(
            [sys.executable, "-c", PUT_FOR_EVER, str(root), str(place)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(source)},
        )
        with writer:
            writer.stdout.readline()
            time.sleep(0.05 + 0.037 * attempt)
            writer.send_signal(signal.SIGKILL)
        versions = [one.manifest.version for one in registry.list()]
        for version in range(1, max(versions, default=0) + 1):
            registry.open("mine", version)
    shelf.put("another")
    registry.delete("another")
    if registry.list():
        registry.delete("mine")
    assert list((root / "blobs").iterdir()) == []


def test_a_folder_that_cannot_be_is_a_storage_error(tmp_path: Path, shelf: RegistryFiles) -> None:
    (tmp_path / "file").touch()
    registry = FilesystemRegistry(tmp_path / "file" / "models")
    encoder, head = shelf.file("an encoder"), shelf.file("a head")
    manifest = tiny_manifest(file_of(encoder), file_of(head), "mine")
    with pytest.raises(StorageFailed) as caught:
        registry.put(StoredModel(manifest, {"encoder": encoder, "head": head}))
    assert str(tmp_path) not in str(caught.value)


LIMITED = """
import os, resource, sys
from pathlib import Path
from d3.adapters.filesystem import FilesystemRegistry
from d3.domain.errors import StorageFailed
from tests.support.contracts.registries import RegistryFiles

root, folder, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
registry = FilesystemRegistry(root)
shelf = RegistryFiles(registry, folder)
files = shelf.file("e" * 3_000_000), shelf.file("h")
from d3.domain.models import StoredModel, file_of
from d3.testing.models import tiny_manifest
manifest = tiny_manifest(file_of(files[0]), file_of(files[1]), "more")
if how == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
elif os.getuid() == 0:
    os.setuid(65534)  # permissions bind everybody but root; the paths are relative for his sake
delete, activate = lambda: registry.delete("mine"), lambda: registry.activate("mine")
for attempt in (
    lambda: registry.put(StoredModel(manifest, dict(zip(("encoder", "head"), files, strict=True)))),
    *([delete, activate] if how == "read-only" else []),
):
    try:
        attempt()
    except StorageFailed as error:
        assert str(root) not in str(error)
        print(error)
print([one.manifest.name for one in registry.list()], registry.open("mine").head.read_text())
"""


@pytest.mark.parametrize("how", ["read-only", "full"])
def test_a_folder_that_cannot_be_written_is_a_storage_error_and_stays_readable(
    how: str,
    root: Path,
    tmp_path: Path,
    shelf: RegistryFiles,
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    shelf.put("mine")
    folders = [root, root / "blobs", root / "manifests", root / "manifests" / "mine"]
    tmp_path.chmod(0o755)
    if how == "read-only":
        for folder in folders:
            folder.chmod(0o555)
    done = run_python(LIMITED, root.relative_to(tmp_path), "shelf", how)
    for folder in folders:
        folder.chmod(0o755)
    lines = done.stdout.splitlines()
    assert len(lines) == (4 if how == "read-only" else 2)
    assert all("cannot be written" in line and "D3_HOME" in line for line in lines[:-1])
    assert lines[-1] == "['mine'] a head"
    assert not list(root.rglob(".partial-*"))
