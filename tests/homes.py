"""Where a service keeps its things, for one test: a folder and SQLite, or PostgreSQL and S3.

A test runs on the first, and on both where it is marked ``on_servers``. ``D3_TEST_BACKEND=servers``
runs everything that has such a home, and nothing else, on the second: ``nox -s full``.
"""

from __future__ import annotations

import io
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import pytest
from minio import Minio

import d3
from d3.adapters.sql import Database
from tests.support.servers import PostgresqlServer
from tests.support.stores import S3Server


class Store(Protocol):
    """What a model registry is made of, to look and to tamper behind D3's back."""

    def names(self) -> set[str]:
        """The names of all objects."""
        ...

    def read(self, key: str) -> bytes:
        """An object's content."""
        ...

    def write(self, key: str, content: bytes) -> None:
        """Put an object there, or in the place of another."""
        ...


@dataclass(frozen=True)
class Folder:
    """The embedded registry's store."""

    path: Path

    def names(self) -> set[str]:
        files = (path for path in self.path.rglob("*") if path.is_file() and path.name != ".lock")
        return {str(path.relative_to(self.path)) for path in files}

    def read(self, key: str) -> bytes:
        return (self.path / key).read_bytes()

    def write(self, key: str, content: bytes) -> None:
        (self.path / key).write_bytes(content)


@dataclass(frozen=True)
class S3Bucket:
    """A bucket, through a plain client."""

    client: Minio
    name: str

    def names(self) -> set[str]:
        return {str(one.object_name) for one in self.client.list_objects(self.name, recursive=True)}

    def read(self, key: str) -> bytes:
        with self.client.get_object(self.name, key) as response:
            content: bytes = response.read()
        return content

    def write(self, key: str, content: bytes) -> None:
        self.client.put_object(self.name, key, io.BytesIO(content), len(content))


@dataclass(frozen=True)
class Home:
    """All that a service knows, in which a model called ``mine`` answers.

    Attributes:
        path: its D3_HOME.
        store: its models.
        environ: the settings that lead to all of it, as a process gets them.
    """

    path: Path
    store: Store
    environ: dict[str, str]

    def settings(self, **changes: Any) -> d3.Settings:
        """The settings for a service in this process, with these changes by field."""
        return replace(d3.Settings.from_environment(self.environ, dotenv=None), **changes)

    def replica(self, folder: Path) -> Home:
        """The same seen from another machine; without servers there is only this one."""
        if isinstance(self.store, Folder):
            return self
        return replace(self, path=folder, environ=self.environ | {"D3_HOME": str(folder)})

    @contextmanager
    def database(self) -> Iterator[Database]:
        """The database, to look into behind the service's back."""
        database = Database(self.settings().database)
        yield database
        database.close()

    def head(self) -> bytes:
        """A head as safetensors, which are quick to check."""
        return next(one for one in self._blobs().values() if b'"query.weight"' in one)

    def damage_encoder(self) -> None:
        """Flip a bit of the model's largest file."""
        key, content = max(self._blobs().items(), key=lambda item: len(item[1]))
        self.store.write(key, content[:-1] + bytes([content[-1] ^ 1]))

    def files(self) -> set[str]:
        """What lies in the home and the store, the database and copies of the store aside."""
        return self.store.names() | {
            str(path)
            for path in self.path.rglob("*")
            if not path.name.startswith(("d3.db", ".lock")) and "cache" not in path.parts
        }

    def _blobs(self) -> dict[str, bytes]:
        return {key: self.store.read(key) for key in self.store.names() if key.startswith("blobs/")}


Homes: TypeAlias = Callable[[Path], AbstractContextManager[Home]]
"""Makes a home in a folder that is not there yet."""


@pytest.fixture(scope="session")
def model_home(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A D3_HOME in which the pack's model is called ``mine`` and answers."""
    home = tmp_path_factory.mktemp("model-home")
    with d3.D3(d3.Settings(home=home)) as detector:
        detector.models.import_files("mine", pack / "visual.safetensors", pack / "classifier.pth")
        detector.models.use("mine")
    return home


BACKEND = os.environ.get("D3_TEST_BACKEND") or "embedded"
"""What homes are on: ``embedded`` or ``servers``."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try what is marked so on both kinds of home."""
    if "backend" in metafunc.fixturenames and metafunc.definition.get_closest_marker("on_servers"):
        backends = sorted({BACKEND, "servers"})
        metafunc.parametrize("backend", backends, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On servers, leave out what has no home: it would be the same again."""
    if BACKEND == "servers":
        kept = [one for one in items if "backend" in getattr(one, "fixturenames", ())]
        config.hook.pytest_deselected(items=[*{*items} - {*kept}])
        items[:] = kept


@pytest.fixture(scope="session")
def backend() -> str:
    """The kind of home."""
    return BACKEND


@pytest.fixture(scope="session")
def homes(backend: str, request: pytest.FixtureRequest, model_home: Path) -> Homes:
    """Makes homes."""
    if backend == "embedded":
        ready: Path = request.getfixturevalue("ready_file")
        return lambda folder: _embedded(model_home, ready, folder)
    assert backend == "servers", "D3_TEST_BACKEND is embedded or servers"
    postgresql: PostgresqlServer = request.getfixturevalue("postgresql_server")
    template: str = request.getfixturevalue("ready_template")
    s3: S3Server = request.getfixturevalue("first_s3")
    return lambda folder: _on_servers(model_home, folder, postgresql.database(template), s3)


@pytest.fixture
def home(homes: Homes, tmp_path: Path) -> Iterator[Home]:
    """One for this test alone."""
    with homes(tmp_path / "home") as home:
        yield home


@contextmanager
def _embedded(model_home: Path, ready: Path, folder: Path) -> Iterator[Home]:
    shutil.copytree(model_home / "models", folder / "models")
    shutil.copy(ready, folder / "d3.db")
    yield Home(folder, Folder(folder / "models"), {"D3_HOME": str(folder)})


@contextmanager
def _on_servers(
    model_home: Path, folder: Path, database: AbstractContextManager[str], s3: S3Server
) -> Iterator[Home]:
    folder.mkdir()
    bucket = S3Bucket(s3.client(), f"d3-{uuid.uuid4().hex}")
    bucket.client.make_bucket(bucket.name)
    source = Folder(model_home / "models")
    for key in source.names():
        bucket.write(key, source.read(key))
    with database as url:
        environ = {
            "D3_HOME": str(folder),
            "D3_DATABASE_URL": url,
            "MINIO_ENDPOINT": s3.endpoint,
            "MINIO_ACCESS_KEY": s3.key,
            "MINIO_SECRET_KEY": s3.secret,
            "MINIO_BUCKET_NAME": bucket.name,
        }
        yield Home(folder, bucket, environ)
