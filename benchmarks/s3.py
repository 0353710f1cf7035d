"""How fast models come from S3, beside plain minio-py, on a server of its own (s3rver).

    python benchmarks/s3.py [MEGABYTES] [TURNS]

Prints MB/s of each turn and the medians. Ours hashes what comes and puts it in place durably.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from d3.adapters.minio import MinioRegistry
from d3.domain.hashing import file_of
from d3.testing.models import tiny_manifest
from d3.testing.stores import s3_server

BUCKET = "d3-bench"


def main(megabytes: int = 300, turns: int = 5) -> None:
    with tempfile.TemporaryDirectory() as name, s3_server("second") as server:
        folder = Path(name)
        encoder, head = folder / "encoder", folder / "head"
        with encoder.open("wb") as stream:
            for _ in range(megabytes):
                stream.write(os.urandom(2**20))
        head.write_text("a head")
        manifest = tiny_manifest(file_of(encoder), file_of(head), "large")
        MinioRegistry(server.place(BUCKET), folder / "writer").put(manifest, encoder, head)
        key = f"blobs/{manifest.encoder.sha256}.safetensors"
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


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
