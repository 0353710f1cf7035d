"""A web server of stand-ins for the published detector's files, which misbehaves on demand."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from d3.domain.published import ModelSource, SourceFile
from tests.sites import Answering, web_server


class _Scripted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


def write_torchscript(file: Path, tensors: dict[str, Tensor]) -> None:
    """Tensors as OpenAI's CLIP files hold them: parameters of nested modules, in TorchScript."""
    root = _Scripted()
    for name, tensor in tensors.items():
        *parents, last = name.split(".")
        module: nn.Module = root
        for parent in parents:
            if parent not in dict(module.named_children()):
                module.add_module(parent, nn.Module())
            module = module.get_submodule(parent)
        module.register_parameter(last, nn.Parameter(tensor, requires_grad=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have another format
        torch.jit.trace(root, torch.ones(1)).save(str(file))


def write_stand_ins(folder: Path, pack: Path) -> ModelSource:
    """Both files in the folder, made of the reference pack; what is known of them."""
    folder.mkdir(parents=True, exist_ok=True)
    visual = load_file(pack / "visual.safetensors")
    whole = {f"visual.{name}": tensor.half() for name, tensor in visual.items()}
    whole["logit_scale"] = torch.ones(())
    write_torchscript(folder / "ViT-L-14.pt", whole)
    encoder = (folder / "ViT-L-14.pt").read_bytes()
    head = (pack / "classifier.pth").read_bytes()
    (folder / "classifier.pth").write_bytes(head)
    blob = hashlib.sha1(b"blob %d\0" % len(head) + head).hexdigest()
    return ModelSource(
        SourceFile(
            "ViT-L-14.pt",
            "https://clip.invalid/ViT-L-14.pt",
            8 * 2**20,
            sha256=hashlib.sha256(encoder).hexdigest(),
        ),
        SourceFile(
            "classifier.pth",
            "https://authors.invalid/classifier.pth",
            2**20,
            git_blob=blob,
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
            content = mirror.files[name]
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
