"""Fixtures: both S3 servers, a bucket on each, a Redis; nothing is ever skipped."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from d3.adapters.minio import MinioRegistry, S3Place
from d3.domain.models import ModelFile
from tests.support.stores import S3Server, redis_server, s3_server


@pytest.fixture(scope="session")
def first_s3() -> Iterator[S3Server]:
    with s3_server("first") as server:
        yield server


@pytest.fixture(scope="session")
def second_s3() -> Iterator[S3Server]:
    with s3_server("second") as server:
        yield server


@pytest.fixture(params=["first", "second"])
def s3(request: pytest.FixtureRequest) -> S3Server:
    server: S3Server = request.getfixturevalue(f"{request.param}_s3")
    return server


@pytest.fixture
def place(s3: S3Server) -> S3Place:
    """A bucket that is not there yet."""
    return s3.place(f"d3-{uuid.uuid4().hex}")


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with redis_server() as url:
        yield url


def tamper(server: S3Server, registry: MinioRegistry, file: ModelFile, to: bytes | None) -> None:
    """Behind the registry's back, replace a stored file's content; None removes it."""
    import io

    client, bucket = server.client(), registry._bucket.place.bucket
    key = f"blobs/{file.sha256}.safetensors"
    client.remove_object(bucket, key)
    if to is not None:
        client.put_object(bucket, key, io.BytesIO(to), len(to))


def cached_file(cache: Path, file: ModelFile) -> Path:
    """Where a registry's local copy of a file lies."""
    (found,) = cache.glob(f"*/blobs/{file.sha256}.safetensors")
    return found
