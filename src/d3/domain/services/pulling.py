"""Pulling the published detector: fetched or taken from a folder, verified, then made a model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from d3.domain.errors import ModelDamaged, ModelNotFound, SourceMismatch, SourceUnavailable
from d3.domain.models import Manifest
from d3.domain.ports.model_files import Fetcher
from d3.domain.ports.models import ModelRegistry
from d3.domain.published import ModelSource, SourceFile
from d3.domain.services.models import ModelService
from d3.domain.text import without_secrets

_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class Pulled:
    """What came of a pull.

    Attributes:
        manifest: the model's, as it is stored.
        new: False where it was there already.
        doubts: what is not an error and should be said.
    """

    manifest: Manifest
    new: bool
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Hashes:
    sha256: str
    git_blob: str


class PullService:
    """Brings the published detector here.

    Args:
        registry: where the model goes.
        models: makes it of the files.
        fetcher: for sources on the network.
        source: which files make which model.
        folder: where files lie until the model is made of them.
        origin: the address or folder that has them, unless a pull says another; None is where
            their makers keep them.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        models: ModelService,
        fetcher: Fetcher,
        source: Callable[[], ModelSource],
        *,
        folder: Path,
        origin: str | None = None,
    ) -> None:
        self._registry = registry
        self._models = models
        self._fetcher = fetcher
        self._source = source
        self._folder = folder
        self._origin = origin

    def pull(self, name: str, origin: str | None = None) -> Pulled:
        """Make the model, unless it is there and sound.

        Args:
            name: there is one, ``d3-vit-l14``.
            origin: a folder, or the address of one, that holds both files under their own names.

        Raises:
            ModelNotFound: nothing of that name can be pulled.
            SourceMismatch: a file is not the one known; nothing is stored.
            SourceUnavailable: a file is not there, or the connection keeps breaking.
            CheckpointInvalid: a file cannot be read, though it is the one known.
            StorageFailed: there is no room.
        """
        source = self._source()
        if name != source.name:
            raise ModelNotFound(
                f"There is no model {name!r} to pull.", f"`d3 models pull {source.name}` is known."
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
        """The model, if it is there and its files are those recorded."""
        try:
            return self._registry.verify(name)
        except (ModelNotFound, ModelDamaged):
            return None

    def _file(self, file: SourceFile, origin: str | None) -> tuple[Path, str, _Hashes]:
        """A file that is the one known, where it came from, and its hashes."""
        if origin is not None and not origin.startswith(("http://", "https://")):
            return self._local(file, Path(origin).expanduser())
        url = file.url if origin is None else _joined(origin, file.name)
        target = self._folder / file.name
        if target.is_file() and _is(file, hashes := _hashes_of(target)):
            return target, without_secrets(url), hashes
        resumed = self._fetcher.fetch(url, target, file.most_bytes)
        if not _is(file, hashes := _hashes_of(target)) and resumed:
            # What lay here may have been the bad part: once more, from the beginning.
            target.unlink()
            self._fetcher.fetch(url, target, file.most_bytes)
            hashes = _hashes_of(target)
        if not _is(file, hashes):
            target.unlink()
            raise _mismatch(file, without_secrets(url), hashes)
        return target, without_secrets(url), hashes

    def _local(self, file: SourceFile, folder: Path) -> tuple[Path, str, _Hashes]:
        path = folder / file.name
        try:
            hashes = _hashes_of(path)
        except OSError as error:
            raise SourceUnavailable(
                f"{path} cannot be read ({error.strerror or type(error).__name__}).",
                f"Say with --from the folder, or the address of one, that holds {file.name} "
                f"from {file.url}.",
            ) from error
        if not _is(file, hashes):
            raise _mismatch(file, str(path), hashes)
        return path, f"{file.url} by way of a folder", hashes


def _hashes_of(path: Path) -> _Hashes:
    sha256, blob = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
    with path.open("rb") as stream:
        blob.update(b"blob %d\0" % path.stat().st_size)
        while content := stream.read(_CHUNK):
            sha256.update(content)
            blob.update(content)
    return _Hashes(sha256.hexdigest(), blob.hexdigest())


def _is(file: SourceFile, found: _Hashes) -> bool:
    """Whether every hash that is known of the file is the one found."""
    return file.sha256 in (None, found.sha256) and file.git_blob in (None, found.git_blob)


def _mismatch(file: SourceFile, where: str, found: _Hashes) -> SourceMismatch:
    known, got = (
        (f"SHA-256 {file.sha256}", found.sha256)
        if file.sha256 is not None
        else (f"git blob id {file.git_blob}", found.git_blob)
    )
    return SourceMismatch(
        f"{where} is not the file known as {file.name}: {known} was expected, {got} came. Nothing "
        "was stored.",
        "It was changed or damaged on the way, or its makers put another in its place: try another "
        "source with --from, and do not use this one.",
    )


def _doubts(file: SourceFile, found: _Hashes) -> tuple[str, ...]:
    if file.recorded_sha256 in (None, found.sha256):
        return ()
    doubt = (
        f"{file.name} has the git blob id that is known, and not the SHA-256 that one user "
        f"recorded ({file.recorded_sha256}); the manifest names the one it has."
    )
    return (doubt,)


def _joined(address: str, name: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise SourceUnavailable(
            "The source is no address.", "Begin it with https:// or http:// and a host."
        ) from error
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))
