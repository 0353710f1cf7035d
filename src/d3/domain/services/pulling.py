"""Pulls the published detector: fetches its files, verifies them, makes a model.

The authors' repository has no licence file, so D3 does not redistribute it: each user fetches
it from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from d3.domain.errors import ModelDamaged, ModelNotFound, SourceMismatch, SourceUnavailable
from d3.domain.files import storage_errors
from d3.domain.models import PUBLISHED, Manifest
from d3.domain.ports.models import ModelRegistry
from d3.domain.services.models import ModelService
from d3.domain.text import without_secrets

_CHUNK = 2**20
HEAD_BLOB = "06d99cf7212cf5c5dc81df87de6b691d4ccbc67f"
HEAD_SHA256 = "c0bb66e0de538b0330613da1865da025756c1dc7a7290990d5343c35290ab63b"
HEAD_URL = "https://raw.githubusercontent.com/BigAandSmallq/D3/HEAD/ckpt/classifier.pth"

LICENCE = (
    "encoder: OpenAI's CLIP, whose repository has the MIT licence; head: none stated, because the "
    "authors' repository (BigAandSmallq/D3) has no licence file"
)
FIGURES = {
    "paper, accuracy in-domain (%)": 96.6,
    "paper, accuracy out-of-domain (%)": 86.7,
    "paper, accuracy total (%)": 90.7,
    "RRDataset, balanced accuracy on original images (%)": 79.2,
    "RRDataset, balanced accuracy on re-digitised images (%)": 62.0,
}
"""The paper's, and those of an independent benchmark with the official weights in the wild."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to fetch.

    Attributes:
        name: also on a mirror.
        url: where its makers publish it.
        most_bytes: its size at most.
        sha256: that it must have; None if another hash decides.
        git_blob: its git blob id (SHA-1), which decides in the same way.
        recorded_sha256: as one user recorded it; a difference is only worth a warning.
    """

    name: str
    url: str
    most_bytes: int
    sha256: str | None = None
    git_blob: str | None = None
    recorded_sha256: str | None = None

    def __post_init__(self) -> None:
        if self.sha256 is None and self.git_blob is None:
            raise ValueError("a source file is known by a hash")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The files of a model to fetch, and its manifest's entries."""

    encoder: SourceFile
    head: SourceFile
    name: str = PUBLISHED
    licence: str = LICENCE
    metrics: dict[str, Any] = field(default_factory=lambda: dict(FIGURES))


def published_source(encoder_url: str) -> ModelSource:
    """The published detector's files.

    Args:
        encoder_url: of OpenAI's CLIP ViT-L/14; the last folder is the file's SHA-256.
    """
    *_, sha256, name = encoder_url.split("/")
    encoder = SourceFile(name, encoder_url, 2 * 2**30, sha256=sha256)
    head = SourceFile(
        "classifier.pth",
        HEAD_URL,
        64 * 2**20,
        git_blob=HEAD_BLOB,
        recorded_sha256=HEAD_SHA256,
    )
    return ModelSource(encoder, head)


@dataclass(frozen=True, slots=True)
class Pulled:
    """The result of a pull.

    Attributes:
        new: False if the model was there already.
        doubts: warnings.
    """

    manifest: Manifest
    new: bool
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Hashes:
    sha256: str
    git_blob: str


class PullService:
    """Fetches the published detector.

    Args:
        fetch: downloads an address to a path, of so many bytes at most; returns whether it resumed
            an earlier download.
        folder: where files lie until the model is made of them.
        origin: the address or folder to fetch from, unless a pull names another; None is where
            their makers publish them.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        models: ModelService,
        fetch: Callable[[str, Path, int], bool],
        source: Callable[[], ModelSource],
        *,
        folder: Path,
        origin: str | None = None,
    ) -> None:
        self._registry = registry
        self._models = models
        self._fetch = fetch
        self._source = source
        self._folder = folder
        self._origin = origin

    def pull(self, name: str, origin: str | None = None) -> Pulled:
        """Make the model, unless it is there and sound.

        Args:
            name: there is one, ``d3-vit-l14``.
            origin: a folder, or the address of one, that holds both files under their own names.

        Raises:
            ModelNotFound: there is nothing of that name to pull.
            SourceMismatch: a file has another hash; nothing is stored.
            SourceUnavailable: a file is missing, or the connection keeps breaking.
            CheckpointInvalid: a file has the right hash and still cannot be read.
            StorageFailed: there is no room.
        """
        source = self._source()
        if name != source.name:
            raise ModelNotFound(
                f"There is no model {name!r} to pull.", f"Run `d3 models pull {source.name}`."
            )
        if (there := self._sound(name)) is not None:
            return Pulled(there, new=False)
        origin = origin or self._origin
        encoder, encoder_from, encoder_hashes = self._file(source.encoder, origin)
        head, head_from, head_hashes = self._file(source.head, origin)
        manifest = self._models.import_files(
            name,
            encoder,
            head,
            provenance=(
                f"encoder {encoder_from}, SHA-256 {encoder_hashes.sha256}; "
                f"head {head_from}, SHA-256 {head_hashes.sha256}, git blob {head_hashes.git_blob}"
            ),
            licence=source.licence,
            metrics=source.metrics,
        )
        for file in (source.encoder, source.head):
            (self._folder / file.name).unlink(missing_ok=True)
        return Pulled(manifest, new=True, doubts=_doubts(source.head, head_hashes))

    def _sound(self, name: str) -> Manifest | None:
        """The model, if it is there and verified."""
        try:
            return self._registry.verify(name)
        except (ModelNotFound, ModelDamaged):
            return None

    def _file(self, file: SourceFile, origin: str | None) -> tuple[Path, str, _Hashes]:
        """The verified file, where it came from, and its hashes."""
        if origin is not None and not origin.startswith(("http://", "https://")):
            return self._local(file, Path(origin).expanduser())
        url = file.url if origin is None else _joined(origin, file.name)
        target = self._folder / file.name
        if target.is_file() and _is(file, hashes := _hashes_of(target)):
            return target, without_secrets(url), hashes
        resumed = self._fetch(url, target, file.most_bytes)
        if not _is(file, hashes := _hashes_of(target)) and resumed:
            # What lay here may have been the bad part: once more, from the beginning.
            target.unlink()
            self._fetch(url, target, file.most_bytes)
            hashes = _hashes_of(target)
        if not _is(file, hashes):
            target.unlink()
            raise _mismatch(file, without_secrets(url), hashes)
        return target, without_secrets(url), hashes

    def _local(self, file: SourceFile, folder: Path) -> tuple[Path, str, _Hashes]:
        path = folder / file.name
        with storage_errors(
            f"{path} cannot be read",
            f"Use --from to name the folder or web address that holds {file.name} from {file.url}.",
            SourceUnavailable,
        ):
            hashes = _hashes_of(path)
        if not _is(file, hashes):
            raise _mismatch(file, str(path), hashes)
        return path, f"{file.url} from a folder", hashes


def _hashes_of(path: Path) -> _Hashes:
    sha256, blob = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
    with path.open("rb") as stream:
        blob.update(b"blob %d\0" % path.stat().st_size)
        while content := stream.read(_CHUNK):
            sha256.update(content)
            blob.update(content)
    return _Hashes(sha256.hexdigest(), blob.hexdigest())


def _is(file: SourceFile, found: _Hashes) -> bool:
    """Whether the file has every hash that is known of it."""
    return file.sha256 in (None, found.sha256) and file.git_blob in (None, found.git_blob)


def _mismatch(file: SourceFile, where: str, found: _Hashes) -> SourceMismatch:
    known, got = (
        (f"SHA-256 {file.sha256}", found.sha256)
        if file.sha256 is not None
        else (f"git blob id {file.git_blob}", found.git_blob)
    )
    return SourceMismatch(
        f"{where} is not the expected file {file.name}: expected {known}, received {got}. Nothing "
        "was stored.",
        "The file was changed or damaged, or its authors replaced it. Do not use it. Try another "
        "source with --from.",
    )


def _doubts(file: SourceFile, found: _Hashes) -> tuple[str, ...]:
    if file.recorded_sha256 in (None, found.sha256):
        return ()
    doubt = (
        f"{file.name} has the expected git blob id, but not the SHA-256 that one user recorded "
        f"({file.recorded_sha256}). The manifest names its actual SHA-256."
    )
    return (doubt,)


def _joined(address: str, name: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise SourceUnavailable(
            "The source is not a web address.", "Start it with https:// or http:// and a host."
        ) from error
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))
