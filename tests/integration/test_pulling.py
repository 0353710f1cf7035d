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
from d3.domain.services.pulling import ModelSource, PullService
from d3.settings import Settings
from tests.sources import Mirror, mirroring, write_stand_ins

NAME = "d3-vit-l14"
Fetch = Callable[..., bytes]


@pytest.fixture
def source(tmp_path: Path, pack: Path) -> ModelSource:
    return write_stand_ins(tmp_path / "originals", pack)


@pytest.fixture
def mirror(source: ModelSource, tmp_path: Path) -> Iterator[Mirror]:
    with mirroring(tmp_path / "originals") as mirror:
        yield mirror


@pytest.fixture
def container(source: ModelSource, tmp_path: Path) -> Container:
    container = Container(settings=Settings(home=tmp_path / "home"))
    container.source.override(providers.Object(source))
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
    for name in ("encoder", "head"):
        file = getattr(container.source(), name)
        assert (file.sha256 or file.git_blob) in manifest.provenance
    assert "no licence file" in manifest.licence
    assert manifest.metrics["paper, accuracy total (%)"] == 90.7
    assert manifest.metrics["RRDataset, balanced accuracy on re-digitised images (%)"] == 62.0
    model = container.registry().open(NAME)
    tower = load_file(model.encoder)
    original = load_file(pack / "visual.safetensors")
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
    assert sorted(one.name for one in folder.iterdir()) == ["ViT-L-14.pt", "classifier.pth"]
    assert mirror.asked == []


def test_another_sha256_than_somebody_recorded_is_a_doubt_and_no_error(
    container: Container, source: ModelSource, mirror: Mirror
) -> None:
    head = replace(source.head, recorded_sha256="0" * 64)
    container.source.override(providers.Object(replace(source, head=head)))
    (doubt,) = container.pulling().pull(NAME, mirror.url).doubts
    assert "git blob id" in doubt


def test_only_the_published_detector_can_be_pulled(pulling: PullService) -> None:
    with pytest.raises(ModelNotFound, match="d3 models pull d3-vit-l14"):
        pulling.pull("other")


def test_the_real_source_is_the_one_of_open_clip_and_the_authors() -> None:
    source = Container(settings=Settings()).source()
    assert source.encoder.name == "ViT-L-14.pt"
    assert source.encoder.sha256 is not None
    assert source.encoder.sha256.startswith("b8cca3fd41ae0c99")
    assert source.head.git_blob == "06d99cf7212cf5c5dc81df87de6b691d4ccbc67f"
    assert "BigAandSmallq/D3" in source.head.url
