"""What the S3 registry does when the store is away, refuses, or sends what is not right."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from d3.adapters.minio import MinioRegistry, S3Place
from d3.adapters.minio.bucket import _client
from d3.domain.errors import (
    ModelDamaged,
    ModelNotFound,
    SettingsInvalid,
    StorageFailed,
    StorageUnavailable,
)
from d3.testing import FakeClock
from tests.stores import cached_file, tamper
from tests.support.contracts.registries import RegistryFiles
from tests.support.faults import Answer, FaultyProxy, cut_short, flipped_bit, replayed, slow, sound
from tests.support.stores import S3Server, free_port

LARGE = "an encoder " * 300_000  # three megabytes


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
def through(s3: S3Server, place: S3Place, proxy: FaultyProxy) -> S3Place:
    return s3.place(place.bucket, proxy.address)


@pytest.fixture
def shelf(place: S3Place, tmp_path: Path) -> RegistryFiles:
    """Stores models without the proxy."""
    (tmp_path / "shelf").mkdir()
    return RegistryFiles(MinioRegistry(place, tmp_path / "another machine"), tmp_path / "shelf")


def down(place: S3Place, cache: Path) -> MinioRegistry:
    """A registry whose store is gone: nobody listens at its address."""
    registry = MinioRegistry(place, cache)
    away = f"127.0.0.1:{free_port()}"
    registry._bucket._quick, registry._bucket._patient = (
        _client(replace(place, endpoint=away, secret_key="topsecret"), 5) for _ in range(2)
    )
    return registry


def test_a_restart_with_the_store_down_serves_the_cached_model(
    shelf: RegistryFiles, place: S3Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = shelf.put("mine")
    cache = tmp_path / "cache"
    before = MinioRegistry(place, cache)
    before.activate("mine")
    before.open("mine")
    before.list()
    registry = down(place, cache)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert registry.active() == "mine"
            assert registry.open(registry.active() or "").head.read_text() == "a head"
            assert registry.describe("mine") == manifest
            assert [(one.manifest.name, one.active) for one in registry.list()] == [("mine", True)]
    assert "MINIO_ENDPOINT" in (registry.trouble or "")
    lines = [one.getMessage() for one in caplog.records if "S3 store" in one.getMessage()]
    assert len(lines) == 1
    with pytest.raises(ModelNotFound):
        registry.describe("other")
    for write in (lambda: registry.delete("mine"), lambda: registry.activate("mine")):
        with pytest.raises(StorageUnavailable, match="MINIO_ENDPOINT"):
            write()


def test_the_store_down_without_a_copy_is_said_and_no_other_model_answers(
    place: S3Place, tmp_path: Path
) -> None:
    registry = down(place, tmp_path / "cache")
    for ask in (
        registry.list,
        registry.active,
        lambda: registry.describe("mine"),
        lambda: registry.open("mine"),
        lambda: registry.verify("mine"),
    ):
        begun = time.monotonic()
        with pytest.raises(StorageUnavailable, match="MINIO_ENDPOINT") as caught:
            ask()
        assert "topsecret" not in str(caught.value)
        assert time.monotonic() - begun < 5


def test_a_cached_file_that_was_spoilt_is_fetched_again_and_never_opened(
    shelf: RegistryFiles, place: S3Place, tmp_path: Path
) -> None:
    manifest, cache = shelf.put("mine"), tmp_path / "cache"
    registry = MinioRegistry(place, cache)
    registry.open("mine")
    file = cached_file(cache, manifest.head)
    file.write_text("A head")
    assert registry.open("mine").head.read_text() == "a head"
    file.write_text("A head")
    with pytest.raises(StorageUnavailable):
        down(place, cache).open("mine")


def test_an_outage_is_left_alone_for_a_moment_and_its_end_is_noticed(
    shelf: RegistryFiles,
    through: S3Place,
    proxy: FaultyProxy,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shelf.put("mine")
    clock = FakeClock()
    registry = MinioRegistry(through, tmp_path / "cache", monotonic=clock.monotonic)
    registry.list()
    proxy.fault = replayed(503, "SlowDown")
    assert [one.manifest.name for one in registry.list()] == ["mine"]
    asked = len(proxy.requests)
    for _ in range(20):
        registry.list()
    assert len(proxy.requests) == asked
    proxy.fault = sound
    shelf.put("other")
    assert [one.manifest.name for one in registry.list()] == ["mine"]
    clock.advance(6)
    assert [one.manifest.name for one in registry.list()] == ["mine", "other"]
    assert registry.trouble is None
    assert [line for line in caplog.messages if "is available again" in line]


REFUSALS = {
    "InvalidAccessKeyId": (403, "MINIO_ACCESS_KEY"),
    "SignatureDoesNotMatch": (403, "MINIO_SECRET_KEY"),
    "RequestTimeTooSkewed": (403, "clock"),
    "AccessDenied": (403, "MINIO_ACCESS_KEY"),
    "AuthorizationHeaderMalformed": (400, "D3_S3_REGION"),
    "PermanentRedirect": (301, "D3_S3_REGION"),
    "XMinioStorageFull": (507, "space"),
    "QuotaExceeded": (403, "quota"),
    "SomethingNew": (418, "MINIO_ENDPOINT"),
}


@pytest.mark.parametrize("content_type", ["application/xml", "text/xml", "text/xml; charset=utf-8"])
@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_names_the_setting_to_look_at(
    code: str,
    content_type: str,
    first_s3: S3Server,
    tmp_path: Path,
) -> None:
    status, word = REFUSALS[code]
    (tmp_path / "shelf").mkdir()
    with FaultyProxy(first_s3.endpoint) as proxy:
        registry = MinioRegistry(first_s3.place("d3-models", proxy.address), tmp_path / "cache")
        shelf = RegistryFiles(registry, tmp_path / "shelf")
        proxy.fault = replayed(status, code, content_type)
        for ask in (
            registry.list,
            registry.active,
            lambda: registry.open("mine"),
            lambda: shelf.put("mine"),
            lambda: registry.activate("mine"),
            lambda: registry.delete("mine"),
        ):
            with pytest.raises(StorageFailed, match=word) as caught:
                ask()
            assert not isinstance(caught.value, StorageUnavailable)
            assert first_s3.secret not in str(caught.value)
            assert "of the server" not in str(caught.value)


@pytest.mark.parametrize("content_type", ["application/xml", "text/xml", "text/html"])
def test_a_store_with_a_fault_of_its_own_counts_as_away(
    content_type: str, first_s3: S3Server, tmp_path: Path
) -> None:
    with FaultyProxy(first_s3.endpoint) as proxy:
        registry = MinioRegistry(first_s3.place("d3-models", proxy.address), tmp_path / "cache")
        proxy.fault = replayed(500, "InternalError", content_type)
        with pytest.raises(StorageUnavailable, match="MINIO_ENDPOINT"):
            registry.list()


def test_a_web_page_is_no_s3_server(first_s3: S3Server, tmp_path: Path) -> None:
    with FaultyProxy(first_s3.endpoint) as proxy:
        registry = MinioRegistry(first_s3.place("d3-models", proxy.address), tmp_path / "cache")
        for status in (200, 404):
            page = Answer(status, {"Content-Type": "text/html"}, b"<html><br>Console</html>")
            proxy.fault = lambda *_, page=page: page
            with pytest.raises(StorageFailed, match="MINIO_ENDPOINT"):
                registry.list()


def test_an_unknown_access_key_is_refused_by_a_server_that_looks(
    second_s3: S3Server, tmp_path: Path
) -> None:
    right = second_s3.place("d3-wrong-keys")
    second_s3.client().make_bucket(right.bucket)
    wrong = replace(right, access_key="nobody", secret_key="topsecret")
    with pytest.raises(StorageFailed, match="MINIO_ACCESS_KEY") as caught:
        MinioRegistry(wrong, tmp_path / "cache").list()
    assert "topsecret" not in str(caught.value) + repr(wrong)


def test_tls_where_there_is_none_names_the_setting(first_s3: S3Server, tmp_path: Path) -> None:
    place = S3Place(endpoint=first_s3.endpoint, bucket="d3-models", secure=True)
    with pytest.raises(StorageFailed, match="MINIO_SECURE"):
        MinioRegistry(place, tmp_path / "cache").list()


def test_a_bucket_that_cannot_be_made_names_the_setting(
    s3: S3Server, through: S3Place, proxy: FaultyProxy, tmp_path: Path
) -> None:
    (tmp_path / "shelf").mkdir()
    registry = MinioRegistry(through, tmp_path / "cache")
    assert registry.list() == []
    refuse = replayed(403, "AccessDenied")

    def no_buckets(method: str, path: str, answer: Answer) -> Answer:
        missing = replayed(404, "NoSuchBucket")
        makes = path.strip("/") == through.bucket
        return (refuse if makes else missing)(method, path, answer) if method == "PUT" else answer

    proxy.fault = no_buckets
    with pytest.raises(StorageFailed, match="MINIO_BUCKET_NAME"):
        RegistryFiles(registry, tmp_path / "shelf").put("mine")


def test_an_address_of_nonsense_is_a_setting(tmp_path: Path) -> None:
    for endpoint in ("http://host", "host/path", ""):
        with pytest.raises(SettingsInvalid, match="MINIO_ENDPOINT"):
            MinioRegistry(S3Place(endpoint=endpoint, bucket="d3-models"), tmp_path)


def test_one_flipped_bit_is_never_opened(
    shelf: RegistryFiles, through: S3Place, proxy: FaultyProxy, tmp_path: Path
) -> None:
    shelf.put("mine", encoder=LARGE)
    registry = MinioRegistry(through, tmp_path / "cache")
    proxy.fault = flipped_bit(at=1_234_567)
    with pytest.raises(ModelDamaged, match="encoder"):
        registry.open("mine")
    assert not list(tmp_path.glob("cache/*/blobs/*.safetensors"))
    proxy.fault = sound
    assert registry.open("mine").encoder.read_text() == LARGE
    assert not list(tmp_path.glob("cache/*/blobs/.partial-*"))


def test_a_broken_download_goes_on_where_it_broke(
    shelf: RegistryFiles, through: S3Place, proxy: FaultyProxy, tmp_path: Path
) -> None:
    manifest = shelf.put("mine", encoder=LARGE)
    proxy.fault = cut_short(after=2_000_000, times=1)
    registry = MinioRegistry(through, tmp_path / "cache")
    assert registry.open("mine").encoder.read_text() == LARGE
    key = f"blobs/{manifest.encoder.sha256}"
    assert sum(method == "GET" and key in path for method, path in proxy.requests) == 2


def test_what_a_dead_process_left_behind_is_continued(
    shelf: RegistryFiles, through: S3Place, proxy: FaultyProxy, tmp_path: Path
) -> None:
    shelf.put("mine", encoder=LARGE)
    broken = cut_short(after=2_000_000, times=1)

    def fault(method: str, path: str, answer: Answer) -> Answer:
        """The first body of a file is cut, and no later one begins."""
        if method != "GET" or "blobs/" not in path:
            return answer
        cut = broken(method, path, answer)
        return cut if cut.sent else replayed(503, "SlowDown")(method, path, answer)

    proxy.fault = fault
    with pytest.raises(StorageUnavailable):
        MinioRegistry(through, tmp_path / "cache").open("mine")
    (left,) = tmp_path.glob("cache/*/blobs/.partial-*")
    assert 1_000_000 < left.stat().st_size < len(LARGE)
    begun = len(proxy.requests)
    proxy.fault = sound
    assert MinioRegistry(through, tmp_path / "cache").open("mine").encoder.read_text() == LARGE
    assert len(proxy.requests) > begun


def test_what_was_left_behind_and_is_wrong_is_not_continued_for_ever(
    shelf: RegistryFiles, place: S3Place, tmp_path: Path
) -> None:
    manifest = shelf.put("mine", encoder=LARGE)
    registry = MinioRegistry(place, tmp_path / "cache")
    for left in (b"not what it should be", LARGE.encode() + b"and more", b""):
        blob = registry._cache.blob(manifest.encoder)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.unlink(missing_ok=True)
        blob.with_name(f".partial-{manifest.encoder.sha256}").write_bytes(left)
        assert registry.open("mine").encoder.read_text() == LARGE


@pytest.mark.parametrize("spoil", [b"", b"an encoder cut sh", b"an encoder" * 10**5])
def test_an_object_of_another_size_is_never_opened(
    spoil: bytes, s3: S3Server, shelf: RegistryFiles, place: S3Place, tmp_path: Path
) -> None:
    manifest = shelf.put("mine", encoder="an encoder cut short")
    registry = MinioRegistry(place, tmp_path / "cache")
    tamper(s3, registry, manifest.encoder, spoil)
    with pytest.raises(ModelDamaged, match="encoder"):
        registry.open("mine")


def test_a_slow_store_is_waited_for_only_so_long(
    shelf: RegistryFiles, s3: S3Server, proxy: FaultyProxy, place: S3Place, tmp_path: Path
) -> None:
    shelf.put("mine")
    patient = S3Place(
        endpoint=proxy.address,
        bucket=place.bucket,
        access_key=s3.key,
        secret_key=s3.secret,
        read_seconds=0.5,
    )
    registry = MinioRegistry(patient, tmp_path / "cache")
    registry.list()
    proxy.fault = slow(2)
    begun = time.monotonic()
    assert [one.manifest.name for one in registry.list()] == ["mine"]
    assert time.monotonic() - begun < 1.5
    assert "in time" in (registry.trouble or "")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b'{"name":"other"}'])
def test_a_manifest_that_cannot_be_understood_stops_its_model_alone(
    text: bytes, s3: S3Server, shelf: RegistryFiles, place: S3Place, tmp_path: Path
) -> None:
    shelf.put("mine")
    shelf.put("other", head="another head")
    s3.client().put_object(
        place.bucket, "manifests/mine/1.json", io.BytesIO(text), len(text), "text/plain"
    )
    registry = MinioRegistry(place, tmp_path / "cache")
    for ask in (registry.describe, registry.open, registry.verify):
        with pytest.raises(ModelDamaged, match="'mine'"):
            ask("mine")
    with pytest.warns(RuntimeWarning, match="'mine'"):
        assert [one.manifest.name for one in registry.list()] == ["other"]
    registry.open("other")
    registry.delete("other")
    registry.delete("mine")
    assert registry.list() == []


def test_strange_objects_in_the_bucket_are_no_models(
    s3: S3Server, shelf: RegistryFiles, place: S3Place, tmp_path: Path
) -> None:
    shelf.put("mine")
    for key in (
        "manifests/mine/x.json",
        "manifests/mine/01.json",
        "manifests/mine/1.json.bak",
        "manifests/-dash/1.json",
        "manifests/1.json",
        "manifests/a/b/1.json",
        "photo.jpg",
    ):
        s3.client().put_object(place.bucket, key, io.BytesIO(b"{}"), 2)
    registry = MinioRegistry(place, tmp_path / "cache")
    assert [(one.manifest.name, one.manifest.version) for one in registry.list()] == [("mine", 1)]
