"""How fast models come from S3, beside plain minio-py, and what memory moving them takes.

The server is one of its own (s3rver), which keeps what it gets on disk. Ours hashes what comes and
puts it in its place in one step.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.stores import s3_server

from d3.adapters.minio import MinioRegistry, S3Place
from d3.domain.models import StoredModel, file_of
from d3.testing.models import tiny_manifest

BUCKET = "d3-bench"


def compare(megabytes: int, turns: int) -> None:
    """Print MB/s of each turn and the medians."""
    with tempfile.TemporaryDirectory() as name, s3_server("second") as server:
        folder = Path(name)
        encoder, head = files(folder, megabytes)
        manifest = tiny_manifest(file_of(encoder), file_of(head), "large")
        model = StoredModel(manifest, {"encoder": encoder, "head": head})
        MinioRegistry(server.place(BUCKET), folder / "writer").put(model)
        key = f"blobs/{file_of(encoder).sha256}.safetensors"
        ours: list[float] = []
        plain: list[float] = []
        for turn in range(turns):
            begun = time.perf_counter()
            server.client().fget_object(BUCKET, key, str(folder / "plain"))
            plain.append(megabytes / (time.perf_counter() - begun))
            registry = MinioRegistry(server.place(BUCKET), folder / f"cache {turn}")
            begun = time.perf_counter()
            opened = registry.open("large")
            ours.append(megabytes / (time.perf_counter() - begun))
            opened.encoder.unlink()
            print(f"turn {turn + 1}: plain {plain[-1]:.0f} MB/s, D3 {ours[-1]:.0f} MB/s")
        middle = statistics.median(plain), statistics.median(ours)
        print(f"median: plain {middle[0]:.0f} MB/s, D3 {middle[1]:.0f} MB/s: ", end="")
        print(f"{middle[1] / middle[0]:.2f} of plain minio-py")


def watch_memory(megabytes: int) -> None:
    """Print how much a process grows that stores such a model and opens it again."""
    with tempfile.TemporaryDirectory() as folder, s3_server("second") as server:
        arguments = (server.endpoint, server.key, server.secret, folder, megabytes)
        done = subprocess.run(
            [sys.executable, __file__, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=True,
        )
        up, down = map(int, done.stdout.split())
        print(f"{megabytes} MB moved: {up} MB more memory going up, {down} MB in all (under 200)")


def files(folder: Path, megabytes: int) -> tuple[Path, Path]:
    """An encoder of this size that cannot be compressed, and a head."""
    encoder, head = folder / "encoder", folder / "head"
    with encoder.open("wb") as stream:
        for _ in range(megabytes):
            stream.write(os.urandom(2**20))
    head.write_text("a head")
    return encoder, head


def move(endpoint: str, key: str, secret: str, name: str, megabytes: str) -> None:
    """Store and open a model; print by how many MB the process grew at its peaks."""
    folder = Path(name)
    place = S3Place(endpoint=endpoint, bucket=BUCKET, access_key=key, secret_key=secret)
    encoder, head = files(folder, int(megabytes))
    manifest = tiny_manifest(file_of(encoder), file_of(head), "large")
    registry = MinioRegistry(place, folder / "cache")
    registry.list()  # what has to be imported is
    before = peak()
    registry.put(StoredModel(manifest, {"encoder": encoder, "head": head}))
    up = peak() - before
    registry.open("large")
    print(up, peak() - before)


def peak() -> int:
    """The most memory that this process ever had, in MB; getrusage would tell the parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    move(*sys.argv[1:])
