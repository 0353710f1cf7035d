"""A web server of stand-ins for the published detector's files, which misbehaves on demand."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from d3.domain.services.pulling import ModelSource, SourceFile
from d3.network.checkpoints import read_encoder
from tests.clips import whole_clip, write_traced
from tests.sites import Answering, web_server

KNOWING = """
import json, sys
from dependency_injector import providers
from d3.container import Container
from d3.domain.services.pulling import ModelSource, SourceFile
from d3.entrypoints.cli import main
said = json.loads(sys.argv.pop(1))
files = {role: SourceFile(**said[role]) for role in ("encoder", "head")}
Container.source.override(providers.Object(ModelSource(**files)))
sys.exit(main())
"""


def d3_knowing(source: ModelSource) -> list[str]:
    """The command `d3` as it is, but for what it knows of the published detector's files."""
    return [sys.executable, "-c", KNOWING, json.dumps(asdict(source))]


def write_stand_ins(folder: Path, pack: Path) -> ModelSource:
    """Both files in the folder, made of the reference pack; what is known of them."""
    folder.mkdir(parents=True, exist_ok=True)
    spec, visual = read_encoder(pack / "visual.safetensors")
    write_traced(folder / "ViT-L-14.pt", whole_clip(spec, visual))
    (folder / "classifier.pth").write_bytes((pack / "classifier.pth").read_bytes())
    return stand_ins(folder)


def stand_ins(folder: Path) -> ModelSource:
    """What is known of the two files in a folder."""
    encoder, head = folder / "ViT-L-14.pt", (folder / "classifier.pth").read_bytes()
    with encoder.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return ModelSource(
        SourceFile(
            "ViT-L-14.pt",
            "https://clip.invalid/ViT-L-14.pt",
            2 * encoder.stat().st_size,
            sha256=sha256,
        ),
        SourceFile(
            "classifier.pth",
            "https://authors.invalid/classifier.pth",
            max(2**20, 2 * len(head)),
            git_blob=hashlib.sha1(b"blob %d\0" % len(head) + head).hexdigest(),
            recorded_sha256=hashlib.sha256(head).hexdigest(),
        ),
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
