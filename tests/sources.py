"""A web server of stand-ins for the published detectors' files, which misbehaves on demand."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import torch

from d3.domain.services.pulling import SourceFile, Sources, published_sources
from d3.network import FerretNet
from d3.network.checkpoints import read_encoder
from tests.clips import whole_clip, write_traced
from tests.sites import Answering, web_server

KNOWING = """
import sys
import msgspec
from dependency_injector import providers
from d3.container import Container
from d3.domain.services.pulling import ModelSource
from d3.entrypoints.cli import main
sources = msgspec.json.decode(sys.argv.pop(1), type=dict[str, ModelSource])
Container.sources.override(providers.Object(sources))
sys.exit(main())
"""


def d3_knowing(sources: Sources) -> list[str]:
    """The command `d3` as it is, but for what it knows of the published detectors' files."""
    return [sys.executable, "-c", KNOWING, msgspec.json.encode(sources).decode()]


def write_stand_ins(folder: Path, pack: Path) -> Sources:
    """Every file to pull in the folder, made of the reference pack; what is known of them."""
    folder.mkdir(parents=True, exist_ok=True)
    spec, visual = read_encoder(pack / "visual.safetensors")
    write_traced(folder / "ViT-L-14.pt", whole_clip(spec, visual))
    (folder / "classifier.pth").write_bytes((pack / "classifier.pth").read_bytes())
    torch.save(torch.nn.Linear(16, 1).state_dict(), folder / "fc_weights.pth")
    network = FerretNet(8, [1, 1])
    torch.save({"model": network.state_dict()}, folder / "ferretnet-s-median-3.pth")
    return stand_ins(folder)


def stand_ins(folder: Path) -> Sources:
    """What is known of the files in a folder that bear the names of those to pull."""
    sources = {}
    for name, one in published_sources().items():
        if all((folder / file.name).is_file() for file in one.files.values()):
            files = {role: _known(file, folder) for role, file in one.files.items()}
            sources[name] = replace(one, files=files)
    return sources


def _known(file: SourceFile, folder: Path) -> SourceFile:
    content = (folder / file.name).read_bytes()
    sha256, blob = hashlib.sha256(content).hexdigest(), b"blob %d\0" % len(content)
    return replace(
        file,
        url=f"https://authors.invalid/{file.name}",
        most_bytes=max(2**20, 2 * len(content)),
        sha256=None if file.sha256 is None else sha256,
        git_blob=None if file.git_blob is None else hashlib.sha1(blob + content).hexdigest(),
        recorded_sha256=None if file.recorded_sha256 is None else sha256,
    )


@dataclass
class Mirror:
    """What the server holds and how it behaves.

    Attributes:
        url: the folder's address.
        files: by their names.
        ranges: whether it heeds Range.
        cuts: after how many bytes of a body the next answers break off, each once.
        busy: how many of the next answers are 503.
        lies: of the Content-Length, by name.
        asked: the name, Range and If-Range of every request.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    busy: int = 0
    lies: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)


@contextmanager
def mirroring(folder: Path) -> Iterator[Mirror]:
    """A server of the folder's files on a free port."""
    mirror = Mirror(files={one.name: one.read_bytes() for one in folder.iterdir()})

    class Handler(Answering):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.close_connection = True
            name = self.path.split("?")[0].rsplit("/", 1)[-1]
            range_, if_range = self.headers.get("Range"), self.headers.get("If-Range")
            mirror.asked.append((name, range_, if_range))
            if mirror.busy:
                mirror.busy -= 1
                self._head(503, 0)
                return
            if name not in mirror.files:
                self._head(404, 0)
                return
            content = memoryview(mirror.files[name])
            tag = f'"{hashlib.md5(content).hexdigest()}"'
            start = 0
            if range_ and mirror.ranges and if_range in (None, tag):
                start = int(re.fullmatch(r"bytes=(\d+)-", range_)[1])
                if start >= len(content):
                    self._head(416, 0, {"Content-Range": f"bytes */{len(content)}"})
                    return
            more = {"ETag": tag}
            if start:
                more["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            length = mirror.lies.get(name, len(content) - start)
            self._head(206 if start else 200, length, more)
            body = content[start:]
            self.wfile.write(body[: mirror.cuts.pop(0)] if mirror.cuts else body)

        def _head(self, status: int, length: int, more: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in ({"Content-Length": str(length)} | (more or {})).items():
                self.send_header(key, value)
            self.end_headers()

    with web_server(Handler) as port:
        mirror.url = f"http://127.0.0.1:{port}/mirror"
        yield mirror
