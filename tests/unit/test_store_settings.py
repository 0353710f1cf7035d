"""The prototype's variables choose the store and Redis, mistakes are named, and no secret shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from d3.adapters.filesystem import FilesystemRegistry
from d3.adapters.in_process import MemoryResultCache
from d3.adapters.minio.adoption import AdoptingRegistry
from d3.adapters.redis import RedisResultCache
from d3.container import Container
from d3.domain.errors import SettingsInvalid
from d3.settings import Settings
from tests.prototype import ENVIRONMENT

PROTOTYPE = dict(line.split("=") for line in ENVIRONMENT.splitlines() if "=" in line)
PROTOTYPE["MINIO_SECRET_KEY"] = "topsecret"


def read(**environ: str) -> Settings:
    return Settings.from_environment(environ, dotenv=None)


def test_nothing_set_means_a_folder_and_memory(tmp_path: Path) -> None:
    container = Container(settings=read(D3_HOME=str(tmp_path)))
    container.serving.override(True)
    assert isinstance(container.registry(), FilesystemRegistry)
    assert isinstance(container.cache(), MemoryResultCache)


def test_the_prototypes_variables_choose_its_store(tmp_path: Path) -> None:
    settings = read(**PROTOTYPE, D3_HOME=str(tmp_path))
    assert (settings.minio_endpoint, settings.minio_secure) == ("localhost:9000", False)
    container = Container(settings=settings)
    assert isinstance(container.registry(), AdoptingRegistry)
    assert container.registry() is container.s3_registry()
    assert isinstance(container.folder_registry(), FilesystemRegistry)


def test_a_redis_url_chooses_redis() -> None:
    container = Container(settings=read(D3_REDIS_URL="redis://:topsecret@localhost:6379/3"))
    container.serving.override(True)
    cache = container.cache()
    assert isinstance(cache, RedisResultCache)
    cache.close()


def test_no_secret_shows() -> None:
    settings = read(**PROTOTYPE, D3_REDIS_URL="redis://:topsecret@localhost")
    assert "topsecret" not in repr(settings)
    assert "minioadmin" not in repr(settings)
    with pytest.raises(SettingsInvalid) as caught:
        read(D3_REDIS_URL="http://:topsecret@localhost")
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint", ["localhost", "store.example:9000", "127.0.0.1:1", "[::1]:9000", "s3.amazonaws.com"]
)
def test_an_endpoint_is_a_host_and_a_port(endpoint: str) -> None:
    assert read(MINIO_ENDPOINT=endpoint).minio_endpoint == endpoint


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MINIO_ENDPOINT", "http://localhost:9000"),
        ("MINIO_ENDPOINT", "localhost:9000/"),
        ("MINIO_ENDPOINT", "user@localhost"),
        ("MINIO_ENDPOINT", "localhost:port"),
        ("MINIO_SECURE", "perhaps"),
        ("MINIO_BUCKET_NAME", "D3"),
        ("MINIO_BUCKET_NAME", "a"),
        ("MINIO_BUCKET_NAME", "a..b"),
        ("MINIO_BUCKET_NAME", "a/b/c"),
        ("MINIO_BUCKET_NAME", "x" * 64),
        ("MINIO_ACCESS_KEY", "without a secret"),
        ("D3_S3_REGION", "eu west"),
        ("D3_REDIS_URL", "localhost:6379"),
        ("D3_CACHE_SECONDS", "-1"),
        ("D3_FOLLOW_SECONDS", "0"),
    ],
)
def test_what_cannot_be_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingsInvalid, match=variable):
        read(**{variable: value})


def test_files_of_jobs_wait_on_the_server_for_models_or_in_a_folder(tmp_path: Path) -> None:
    server = {"MINIO_ENDPOINT": "s3.example.net:9000", "MINIO_BUCKET_NAME": "models"}
    for environ, place in (
        ({}, tmp_path / "spool"),
        (server, "s3://models/spool"),
        ({"D3_SPOOL": str(tmp_path / "here")}, tmp_path / "here"),
        (server | {"D3_SPOOL": str(tmp_path / "here")}, tmp_path / "here"),
        (server | {"D3_SPOOL": "s3://other/a/b"}, "s3://other/a/b"),
    ):
        asked = {"D3_HOME": str(tmp_path), **environ}
        assert Settings.from_environment(asked, dotenv=None).spool_place == place
    for wrong in ("s3://bucket/x", "http://example.net", "s3://"):
        with pytest.raises(SettingsInvalid, match="D3_SPOOL"):
            Settings.from_environment({"D3_SPOOL": wrong}, dotenv=None)


def test_prefixes_of_jobs_end_where_their_names_end() -> None:
    read = Settings.from_environment({"D3_JOB_SOURCES": "s3://inbox/2026, s3://other"}, dotenv=None)
    assert read.job_sources == ("s3://inbox/2026/", "s3://other/")
    again = Settings.from_environment(read.environment(), dotenv=None)
    assert again.job_sources == read.job_sources
    with pytest.raises(SettingsInvalid, match="D3_JOB_SOURCES"):
        Settings.from_environment({"D3_JOB_SOURCES": "/folder"}, dotenv=None)
