"""A bundle carries a model whole; what is not a sound bundle is refused and nothing is stored."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from d3.adapters.bundles import BundleService
from d3.container import Container
from d3.domain.errors import (
    ArchitectureUnavailable,
    BundleInvalid,
    ModelNotFound,
    StorageFailed,
)
from d3.domain.models import StoredModel, file_of
from d3.settings import Settings
from d3.testing import tiny_ferretnet, tiny_model, tiny_ufd

Entries = dict[str, bytes]


def service(home: Path) -> tuple[BundleService, Container]:
    container = Container(settings=Settings(home=home))
    return container.bundling(), container


@pytest.fixture
def bundle(model_home: Path, tmp_path: Path) -> Path:
    file = tmp_path / "mine.d3bundle"
    service(model_home)[0].write("mine", file)
    return file


def test_a_model_arrives_as_it_was_and_only_once(
    bundle: Path, model_home: Path, tmp_path: Path
) -> None:
    _, there = service(model_home)
    bundling, here = service(tmp_path / "elsewhere")
    taken = bundling.read(bundle)
    assert (taken.new, taken.version) == (True, 1)
    assert here.registry().verify("mine") == there.registry().describe("mine")
    again = bundling.read(bundle)
    assert (again.new, again.version) == (False, 1)


def test_the_same_model_gives_the_same_bytes(
    bundle: Path, model_home: Path, tmp_path: Path
) -> None:
    service(model_home)[0].write("mine", tmp_path / "second")
    assert (tmp_path / "second").read_bytes() == bundle.read_bytes()


def test_a_file_that_is_there_stays(bundle: Path, model_home: Path, tmp_path: Path) -> None:
    before = bundle.read_bytes()
    bundling, _ = service(model_home)
    with pytest.raises(StorageFailed, match="--out"):
        bundling.write("mine", bundle)
    with pytest.raises(ModelNotFound):
        bundling.write("nobody", tmp_path / "none")
    assert bundle.read_bytes() == before
    assert list(tmp_path.iterdir()) == [bundle]


@pytest.mark.parametrize(
    ("change", "compression", "sentence"),
    [
        (lambda e: e | {"../evil": b"x"}, zipfile.ZIP_STORED, "must hold exactly"),
        (lambda e: {k: e[k] for k in ("manifest.json",)}, zipfile.ZIP_STORED, "must hold exactly"),
        (lambda e: e, zipfile.ZIP_DEFLATED, "unpack to more"),
        (lambda e: e | {"manifest.json": b"{}"}, zipfile.ZIP_STORED, "manifest"),
        (
            lambda e: e | {"head.safetensors": e["head.safetensors"] + b"x"},
            zipfile.ZIP_STORED,
            "a different head.safetensors",
        ),
        (
            lambda e: e | {"head.safetensors": e["head.safetensors"][:-1] + b"\1"},
            zipfile.ZIP_STORED,
            "SHA-256",
        ),
        (
            lambda e: (
                e | {"manifest.json": e["manifest.json"].replace(b'"layers": ', b'"layers": 1')}
            ),
            zipfile.ZIP_STORED,
            "shapes of the weights in 'bad.d3bundle'",
        ),
        (
            lambda e: e | {"manifest.json": e["manifest.json"].replace(b'"mine"', b'"../../mine"')},
            zipfile.ZIP_STORED,
            "manifest",
        ),
    ],
)
def test_what_is_not_a_bundle_is_refused(
    bundle: Path,
    tmp_path: Path,
    change: Callable[[Entries], Entries],
    compression: int,
    sentence: str,
) -> None:
    with zipfile.ZipFile(bundle) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    bad = tmp_path / "bad.d3bundle"
    with zipfile.ZipFile(bad, "w", compression) as archive:
        for name, content in change(entries).items():
            archive.writestr(name, content)
    refuse(bad, tmp_path, sentence)
    assert not (tmp_path.parent / "evil").exists()


def test_a_damaged_file_is_refused(bundle: Path, pack: Path, tmp_path: Path) -> None:
    content = bundle.read_bytes()
    bad = tmp_path / "bad.d3bundle"
    at = content.index(b"safetensors") + len(b"safetensors") + 5000
    flipped = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    for damaged in (content[: len(content) // 2], b"", flipped):
        bad.write_bytes(damaged)
        refuse(bad, tmp_path, "is not a D3 bundle")
    refuse(pack / "classifier.pth", tmp_path, "must hold exactly")


@pytest.fixture
def others(tmp_path: Path) -> list[StoredModel]:
    """A FerretNet, and a probe on the encoder of a D3."""
    folder = tmp_path / "made"
    folder.mkdir()
    d3 = tiny_model(folder, "beside")
    return [tiny_ferretnet(folder, "witness"), tiny_ufd(folder, "probe", beside=d3)]


def test_models_of_other_architectures_arrive_whole(
    others: list[StoredModel], tmp_path: Path
) -> None:
    bundling, there = service(tmp_path / "home")
    elsewhere, here = service(tmp_path / "elsewhere")
    for model in others:
        manifest = there.registry().put(model)
        file = tmp_path / f"{manifest.name}.d3bundle"
        bundling.write(manifest.name, file)
        assert elsewhere.read(file).new
        assert here.registry().verify(manifest.name) == manifest
        assert not elsewhere.read(file).new


@pytest.mark.parametrize(
    ("role", "sentence"), [("network", "no FerretNet"), ("projection", "In 'bad.d3bundle', the")]
)
def test_weights_that_are_not_the_manifests_are_refused(
    others: list[StoredModel], tmp_path: Path, role: str, sentence: str
) -> None:
    bundling, there = service(tmp_path / "home")
    model = next(one for one in others if role in one.paths)
    wrong = tmp_path / "wrong.safetensors"
    save_file({"proj": torch.ones(3, 3)}, wrong)
    parts = dict(model.manifest.parts) | {role: file_of(wrong)}
    manifest = replace(model.manifest, parts=parts)
    there.registry().put(StoredModel(manifest, dict(model.paths) | {role: wrong}))
    bundling.write(manifest.name, tmp_path / "bad.d3bundle")
    refuse(tmp_path / "bad.d3bundle", tmp_path, sentence)


def test_a_bundle_of_an_architecture_that_is_not_installed_says_what_to_install(
    others: list[StoredModel], tmp_path: Path
) -> None:
    bundling, there = service(tmp_path / "home")
    foreign = replace(others[0].manifest, architecture="theirs", package="d3-theirs")
    there.registry().put(replace(others[0], manifest=foreign))
    bundling.write("witness", tmp_path / "theirs.d3bundle")
    elsewhere, here = service(tmp_path / "elsewhere")
    with pytest.raises(ArchitectureUnavailable, match="The package 'd3-theirs' provides it"):
        elsewhere.read(tmp_path / "theirs.d3bundle")
    assert [one.manifest.name for one in here.registry().list()] == ["starter"]


def test_an_entry_that_claims_more_than_there_is_is_refused(bundle: Path, tmp_path: Path) -> None:
    content = bytearray(bundle.read_bytes())
    entry = content.index(b"PK\1\2")
    struct.pack_into("<II", content, entry + 20, 2**31, 2**31)
    bad = tmp_path / "bad.d3bundle"
    bad.write_bytes(content)
    refuse(bad, tmp_path, "unpack to more")


def refuse(file: Path, tmp_path: Path, sentence: str) -> None:
    bundling, container = service(tmp_path / "elsewhere")
    with pytest.raises(BundleInvalid, match=sentence):
        bundling.read(file)
    assert [one.manifest.name for one in container.registry().list()] == ["starter"]
    assert not list((tmp_path / "elsewhere").rglob("*.safetensors"))
