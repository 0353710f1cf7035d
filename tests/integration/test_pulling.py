"""A pull brings exactly the known files, goes on where it was cut off, and stores nothing else."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from dependency_injector import providers
from safetensors.torch import load_file

from d3.adapters.web import HttpFetcher
from d3.container import Container
from d3.domain.errors import (
    ModelNotFound,
    SourceMismatch,
    SourceUnavailable,
    StorageFailed,
)
from d3.domain.models import StoredModel
from d3.domain.services.pulling import PullService, Sources
from d3.settings import Settings
from tests.sources import Mirror, mirroring, write_stand_ins

NAME = "d3-vit-l14"
Fetch = Callable[..., bytes]


@pytest.fixture
def sources(tmp_path: Path, pack: Path) -> Sources:
    return write_stand_ins(tmp_path / "originals", pack)


@pytest.fixture
def mirror(sources: Sources, tmp_path: Path) -> Iterator[Mirror]:
    with mirroring(tmp_path / "originals") as mirror:
        yield mirror


@pytest.fixture
def container(sources: Sources, tmp_path: Path) -> Container:
    container = Container(settings=Settings(home=tmp_path / "home"))
    container.sources.override(providers.Object(sources))
    container.fetch.override(providers.Object(HttpFetcher(pause_seconds=0.001).fetch))
    return container


@pytest.fixture
def pulling(container: Container) -> PullService:
    return container.pulling()


@pytest.fixture
def fetch(mirror: Mirror, tmp_path: Path) -> Fetch:
    """Fetches the encoder's file into the test's folder, and gives what came."""

    def fetch(most_bytes: int = 2**20) -> bytes:
        target = tmp_path / "ViT-L-14.pt"
        HttpFetcher(pause_seconds=0.001).fetch(f"{mirror.url}/{target.name}", target, most_bytes)
        return target.read_bytes()

    return fetch


def stored(home: Path) -> list[Path]:
    return [one for one in (home / "models").rglob("*.*") if one.name != ".lock"]


def test_the_model_holds_the_tower_and_says_where_it_came_from(
    pulling: PullService, container: Container, mirror: Mirror, pack: Path, tmp_path: Path
) -> None:
    pulled = pulling.pull(NAME, mirror.url)
    assert pulled.new
    assert pulled.doubts == ()
    manifest = pulled.manifest
    assert (manifest.name, manifest.version) == (NAME, 1)
    assert f"{mirror.url}/ViT-L-14.pt" in manifest.provenance
    for file in container.sources()[NAME].files.values():
        assert (file.sha256 or file.git_blob) in manifest.provenance
    assert "no licence file" in manifest.licence
    assert manifest.metrics["paper, accuracy total (%)"] == 90.7
    assert manifest.metrics["RRDataset, balanced accuracy on re-digitised images (%)"] == 62.0
    model = container.registry().open(NAME)
    tower = load_file(model.encoder)
    original = load_file(pack / "visual.safetensors")
    assert load_file(model.paths["projection"]).keys() == {"proj"}
    del original["proj"]
    assert tower.keys() == original.keys()
    assert {tensor.dtype for tensor in tower.values()} == {torch.float16, torch.float32}
    assert all(torch.equal(tower[k], original[k].to(tower[k].dtype)) for k in original)
    assert container.host().chosen() == NAME
    assert {one.suffix for one in (tmp_path / "home/pull").iterdir()} == {".lock"}
    mirror.asked.clear()
    assert not pulling.pull(NAME, mirror.url).new
    assert mirror.asked == []


def test_cut_connections_and_a_busy_server_are_overcome(fetch: Fetch, mirror: Mirror) -> None:
    mirror.cuts, mirror.busy = [100_000, 50_000], 2
    assert fetch() == mirror.files["ViT-L-14.pt"]
    ranges = [one[1] for one in mirror.asked]
    assert ranges == [None, None, None, "bytes=100000-", "bytes=150000-"]


def test_the_next_attempt_goes_on_where_one_was_given_up(fetch: Fetch, mirror: Mirror) -> None:
    mirror.cuts = [100_000, 0, 0, 0, 0, 0]
    with pytest.raises(SourceUnavailable, match="100,000 bytes are kept"):
        fetch()
    mirror.asked.clear()
    assert fetch() == mirror.files["ViT-L-14.pt"]
    ((_, range_, if_range),) = mirror.asked
    assert range_ == "bytes=100000-"
    assert if_range is not None


def test_a_server_without_ranges_begins_again(fetch: Fetch, mirror: Mirror) -> None:
    mirror.ranges = False
    mirror.cuts = [100_000]
    assert fetch() == mirror.files["ViT-L-14.pt"]


def test_a_file_that_changed_on_the_server_is_not_mixed_with_the_old_one(
    fetch: Fetch, mirror: Mirror
) -> None:
    good = mirror.files["ViT-L-14.pt"]
    mirror.files["ViT-L-14.pt"] = b"x" * len(good)
    mirror.cuts = [100_000, 0, 0, 0, 0, 0]
    with pytest.raises(SourceUnavailable):
        fetch()
    mirror.files["ViT-L-14.pt"] = good
    assert fetch() == good


def test_a_whole_part_is_not_fetched_again(fetch: Fetch, mirror: Mirror, tmp_path: Path) -> None:
    whole = mirror.files["ViT-L-14.pt"]
    (tmp_path / "ViT-L-14.pt.part").write_bytes(whole)
    assert fetch() == whole
    assert [one[1] for one in mirror.asked] == [f"bytes={len(whole)}-"]


def test_a_part_that_went_bad_on_the_disk_is_fetched_again(
    pulling: PullService, mirror: Mirror, tmp_path: Path
) -> None:
    part = tmp_path / "home/pull/ViT-L-14.pt.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 100_000)
    assert pulling.pull(NAME, mirror.url).new


@pytest.mark.parametrize("name", ["ViT-L-14.pt", "classifier.pth"])
def test_wrong_bytes_are_refused_and_nothing_is_stored(
    pulling: PullService, mirror: Mirror, tmp_path: Path, name: str
) -> None:
    good = mirror.files[name]
    mirror.files[name] = good[:-1] + bytes([good[-1] ^ 1])
    with pytest.raises(SourceMismatch, match=r"Nothing was stored\. .*--from"):
        pulling.pull(NAME, mirror.url)
    assert stored(tmp_path / "home") == []
    assert not (tmp_path / "home/pull" / name).exists()


def test_a_missing_file_is_an_error_at_once_and_shows_no_password(
    pulling: PullService, mirror: Mirror
) -> None:
    del mirror.files["classifier.pth"]
    origin = mirror.url.replace("http://", "http://user:secret@") + "?signature=hidden"
    with pytest.raises(SourceUnavailable, match=r"classifier\.pth is not there") as caught:
        pulling.pull(NAME, origin)
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert [one[0] for one in mirror.asked] == ["ViT-L-14.pt", "classifier.pth"]


def test_nobody_at_the_address_is_an_error_that_says_so(pulling: PullService) -> None:
    with pytest.raises(SourceUnavailable, match="cannot be downloaded"):
        pulling.pull(NAME, "http://127.0.0.1:9/")
    with pytest.raises(SourceUnavailable, match="not a web address"):
        pulling.pull(NAME, "http://[/")


def test_a_file_larger_than_it_can_be_is_not_fetched(pulling: PullService, mirror: Mirror) -> None:
    mirror.lies["classifier.pth"] = 2**40
    with pytest.raises(SourceUnavailable, match="larger than 1,048,576 bytes"):
        pulling.pull(NAME, mirror.url)


def test_a_disk_without_room_is_told_before_and_a_full_one_during(
    fetch: Fetch, mirror: Mirror
) -> None:
    mirror.lies["ViT-L-14.pt"] = 2**58
    with pytest.raises(StorageFailed, match="D3_HOME has only"):
        fetch(2**60)
    mirror.lies.clear()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(StorageFailed, match="Free some space in D3_HOME"):
            fetch()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert fetch() == mirror.files["ViT-L-14.pt"]
    assert mirror.asked[-1][1] == "bytes=200000-"


def test_a_folder_will_do_and_its_files_stay(
    pulling: PullService, tmp_path: Path, mirror: Mirror
) -> None:
    folder = tmp_path / "originals"
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        pulling.pull(NAME, str(tmp_path))
    assert pulling.pull(NAME, str(folder)).new
    assert {"ViT-L-14.pt", "classifier.pth"} <= {one.name for one in folder.iterdir()}
    assert mirror.asked == []


def test_another_sha256_than_somebody_recorded_is_a_doubt_and_no_error(
    container: Container, sources: Sources, mirror: Mirror
) -> None:
    files = dict(sources[NAME].files)
    files["head"] = replace(files["head"], recorded_sha256="0" * 64)
    container.sources.override(providers.Object({NAME: replace(sources[NAME], files=files)}))
    (doubt,) = container.pulling().pull(NAME, mirror.url).doubts
    assert "git blob id" in doubt


def names(mirror: Mirror) -> list[str]:
    """The files that were asked for since the last look."""
    asked = [one[0] for one in mirror.asked]
    mirror.asked.clear()
    return asked


@pytest.mark.parametrize("order", [(NAME, "ufd-vit-l14"), ("ufd-vit-l14", NAME)])
def test_an_encoder_that_is_there_is_not_fetched_again(
    pulling: PullService, mirror: Mirror, order: tuple[str, str]
) -> None:
    first, second = (pulling.pull(name, mirror.url) for name in order)
    heads = {NAME: "classifier.pth", "ufd-vit-l14": "fc_weights.pth"}
    assert names(mirror) == ["ViT-L-14.pt", heads[order[0]], heads[order[1]]]
    assert second.new
    assert second.doubts == ()
    assert f"encoder of {order[0]}" in second.manifest.provenance
    for role in ("encoder", "projection"):
        assert first.manifest.files[role] == second.manifest.files[role]
    assert first.manifest.files["head"] != second.manifest.files["head"]


def test_the_order_of_two_pulls_does_not_change_the_models(
    sources: Sources, mirror: Mirror, tmp_path: Path
) -> None:
    hashes = []
    for order in ((NAME, "ufd-vit-l14"), ("ufd-vit-l14", NAME)):
        container = Container(settings=Settings(home=tmp_path / order[0]))
        container.sources.override(providers.Object(sources))
        pulled = [container.pulling().pull(name, mirror.url).manifest for name in order]
        hashes.append({one.name: one.sha256 for one in pulled})
    assert hashes[0] == hashes[1]


def test_an_encoder_of_an_older_d3_without_its_projection_is_fetched_once_more(
    pulling: PullService, container: Container, mirror: Mirror
) -> None:
    registry, old = container.registry(), pulling.pull(NAME, mirror.url).manifest
    whole = registry.open(NAME)
    paths = {role: path for role, path in whole.paths.items() if role != "projection"}
    registry.put(StoredModel(replace(old, parts={}), paths))
    names(mirror)
    pulled = pulling.pull("ufd-vit-l14", mirror.url)
    assert names(mirror) == ["ViT-L-14.pt", "fc_weights.pth"]
    (doubt,) = pulled.doubts
    assert "d3-vit-l14 was stored by an older D3, without the projection" in doubt
    assert pulled.manifest.encoder == old.encoder


def test_a_damaged_encoder_is_no_donor(
    pulling: PullService, container: Container, mirror: Mirror
) -> None:
    pulling.pull(NAME, mirror.url)
    encoder = container.registry().open(NAME).encoder
    encoder.chmod(0o644)
    encoder.write_bytes(b"x" * encoder.stat().st_size)
    names(mirror)
    pulling.pull("ufd-vit-l14", mirror.url)
    assert names(mirror) == ["ViT-L-14.pt", "fc_weights.pth"]
    assert container.registry().verify(NAME)  # the same file, and whole again


def test_a_model_that_only_says_so_lends_no_encoder(
    pulling: PullService, container: Container, sources: Sources, mirror: Mirror, pack: Path
) -> None:
    files = pack / "visual.safetensors", pack / "classifier.pth"
    said = f"encoder of SHA-256 {sources[NAME].files['encoder'].sha256}"
    container.models().import_files("mine", *files, provenance=said)
    pulling.pull("ufd-vit-l14", mirror.url)
    assert names(mirror) == ["ViT-L-14.pt", "fc_weights.pth"]


def test_a_detector_of_one_file_is_pulled_from_a_mirror_or_a_folder(
    pulling: PullService, container: Container, sources: Sources, mirror: Mirror, tmp_path: Path
) -> None:
    pulled = pulling.pull("ferretnet-s", mirror.url).manifest
    assert names(mirror) == ["ferretnet-s-median-3.pth"]
    assert (pulled.architecture, pulled.licence) == ("ferretnet", "Apache-2.0")
    file = sources["ferretnet-s"].files["network"]
    assert file.sha256
    assert file.git_blob
    assert f"SHA-256 {file.sha256}, git blob {file.git_blob}" in pulled.provenance
    assert container.host().chosen() == "starter"
    container.registry().delete("ferretnet-s")
    assert pulling.pull("ferretnet-s", str(tmp_path / "originals")).manifest.sha256 == pulled.sha256
    assert names(mirror) == []


@pytest.mark.parametrize(
    ("name", "file"),
    [("ufd-vit-l14", "fc_weights.pth"), ("ferretnet-s", "ferretnet-s-median-3.pth")],
)
def test_other_bytes_of_any_detector_are_refused(
    pulling: PullService, mirror: Mirror, tmp_path: Path, name: str, file: str
) -> None:
    mirror.files[file] = mirror.files[file][:-1] + b"?"
    with pytest.raises(SourceMismatch, match=f"expected file {file}"):
        pulling.pull(name, mirror.url)
    assert stored(tmp_path / "home") == []


def test_only_published_detectors_can_be_pulled(pulling: PullService) -> None:
    with pytest.raises(ModelNotFound, match=r"d3 models pull d3-vit-l14.* or .*ferretnet-s"):
        pulling.pull("other")


def test_the_real_sources_are_those_of_open_clip_and_the_authors() -> None:
    from open_clip.pretrained import get_pretrained_url

    sources = Container(settings=Settings()).sources()
    assert list(sources) == ["d3-vit-l14", "ufd-vit-l14", "ferretnet-s"]
    encoder = sources[NAME].files["encoder"]
    assert encoder == sources["ufd-vit-l14"].files["encoder"]
    assert encoder.name == "ViT-L-14.pt"
    assert encoder.url == get_pretrained_url("ViT-L-14", "openai")
    assert encoder.sha256
    assert f"/{encoder.sha256}/" in encoder.url
    known = {
        ("d3-vit-l14", "head"): ("BigAandSmallq/D3", "06d99cf7212cf5c5dc81df87de6b691d4ccbc67f"),
        ("ufd-vit-l14", "head"): (
            "WisconsinAIVision/UniversalFakeDetect",
            "2a8efc8e238bf5a491e4fd5999655ed5eb3bbb72",
        ),
        ("ferretnet-s", "network"): (
            "xigua7105/FerretNet",
            "1673e782284c2f7c3674fc641217500f7d7e6764",
        ),
    }
    for (name, role), (repository, blob) in known.items():
        file = sources[name].files[role]
        assert f"/{repository}/" in file.url
        assert file.git_blob == blob
