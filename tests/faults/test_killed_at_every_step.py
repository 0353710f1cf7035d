"""``kill -9`` at each step of an upload and of a migration: afterwards it is there or it is not."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from d3.adapters.filesystem import FilesystemRegistry
from d3.adapters.minio import MinioRegistry
from d3.adapters.sql import Database, head, upgrade
from d3.adapters.sql import current as current_schema
from d3.domain.models import StoredModel
from d3.testing.models import tiny_model
from tests.support.servers import PostgresqlServer
from tests.support.stores import S3Server

# The child counts what changes a file or reaches a server, and ends itself before the Nth.
UPLOAD = """
import os, sys, json, signal
from pathlib import Path
from d3.adapters.model_files import decode_manifest
from d3.domain.models import StoredModel
kind, folder, where, extra = sys.argv[1:5]
folder = Path(folder)
manifest = decode_manifest((folder / "manifest.json").read_bytes(), "tiny")
STEPS = {"os.rename", "os.remove", "os.mkdir", "http.client.send", "shutil.copyfile"}

def put(number):
    if kind == "folder":
        from d3.adapters.filesystem import FilesystemRegistry
        registry = FilesystemRegistry(Path(where) / str(number))
    else:
        from d3.adapters.minio import MinioRegistry, S3Place
        endpoint, key, secret = json.loads(extra)
        place = S3Place(endpoint=endpoint, bucket=f"{where}-{number}", access_key=key,
                        secret_key=secret)
        registry = MinioRegistry(place, folder / "cache")
    paths = {role: folder / f"{role}.safetensors" for role in manifest.files}
    registry.put(StoredModel(manifest, paths))

import d3.adapters.filesystem, d3.adapters.minio
for number in range(1, 200):
    pid = os.fork()
    if not pid:
        left = [number]
        def step(event, arguments):
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (
                os.O_WRONLY | os.O_RDWR)
            if event in STEPS or writes:
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(step)
        put(number)
        os._exit(0)
    if os.waitpid(pid, 0)[1] == 0:
        print(number)
        break
"""


def run(script: str, *arguments: str) -> int:
    """The number of the first child that came to its end."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip(), done.stderr
    return int(done.stdout)


def prepared(folder: Path) -> Path:
    """A model's files and its manifest as JSON."""
    from d3.adapters.model_files import encode_manifest

    (folder / "model").mkdir()
    model = tiny_model(folder / "model")
    (folder / "model" / "manifest.json").write_bytes(encode_manifest(model.manifest))
    return folder / "model"


@pytest.fixture
def quick() -> Iterator[Path]:
    """A folder in memory where there is one: what is tested here is the order, not the disk."""
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


def test_an_upload_into_a_folder(quick: Path) -> None:
    model = prepared(quick)
    steps = run(UPLOAD, "folder", str(model), str(quick / "roots"), "")
    assert steps > 6
    there = 0
    for number in range(1, steps + 1):
        registry = FilesystemRegistry(quick / "roots" / str(number))
        for summary in registry.list():
            registry.verify(summary.manifest.name)
            there += 1
        assert_stores_again(registry, model)
        partial = list((quick / "roots" / str(number)).rglob(".partial-*"))
        assert len(partial) <= 1, "what the dead one was writing, under a name of its own"
    assert there >= 1


def test_an_upload_to_s3(tmp_path: Path, first_s3: S3Server) -> None:
    model = prepared(tmp_path)
    bucket = f"steps-{uuid.uuid4().hex[:12]}"
    access = json.dumps([first_s3.endpoint, first_s3.key, first_s3.secret])
    steps = run(UPLOAD, "s3", str(model), bucket, access)
    assert steps > 4
    for number in range(1, steps + 1):
        registry = MinioRegistry(first_s3.place(f"{bucket}-{number}"), tmp_path / f"cache-{number}")
        for summary in registry.list():
            registry.verify(summary.manifest.name)
        assert_stores_again(registry, model)


def assert_stores_again(registry: FilesystemRegistry | MinioRegistry, model: Path) -> None:
    """The same upload succeeds, and is whole."""
    from d3.adapters.model_files import decode_manifest

    manifest = decode_manifest((model / "manifest.json").read_bytes(), "tiny")
    paths = {role: model / f"{role}.safetensors" for role in manifest.files}
    version = registry.put(StoredModel(manifest, paths)).version
    assert registry.verify("tiny", version).files == manifest.files


MIGRATE = """
import os, sys, signal, json
import sqlalchemy as sa
from d3.adapters.sql import Database, upgrade
places = json.loads(sys.argv[1])
for number, place in enumerate(places):
    pid = os.fork()
    if not pid:
        database, left = Database(place), [int(sys.argv[2]) * number + 1]
        def step(*_):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
        for event in ("before_cursor_execute", "commit"):
            sa.event.listen(database.engine, event, step)
        upgrade(database)
        os._exit(0)
    if os.waitpid(pid, 0)[1] == 0:
        print(number)
        break
"""


def test_a_migration_of_a_file(quick: Path) -> None:
    places = [f"sqlite:///{quick}/{number}.db" for number in range(60)]
    done = run(MIGRATE, json.dumps(places), "3")
    assert done > 5
    for place in places[: done + 1]:
        assert_upgrades(place)


@pytest.mark.full
def test_a_migration_on_a_server(postgresql_server: PostgresqlServer) -> None:
    from contextlib import ExitStack

    with ExitStack() as stack:
        places = [stack.enter_context(postgresql_server.database()) for _ in range(14)]
        done = run(MIGRATE, json.dumps(places), "14")
        assert done >= 2
        for place in places[: done + 1]:
            assert_upgrades(place)


def assert_upgrades(place: str) -> None:
    """The database is at the newest schema after an upgrade, whatever was there."""
    database = Database(place)
    upgrade(database)
    assert current_schema(database) == head()
    database.close()
