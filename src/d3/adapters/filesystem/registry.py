"""A model registry in a folder: files named by their SHA-256, a manifest for each version.

::

    ROOT/blobs/<sha256>.safetensors      shared by every model with the same file
    ROOT/manifests/<name>/<version>.json written last: what has no manifest does not exist
    ROOT/active                          the name of the model used when none is named

A packaged model (the starter) lies in a folder of its own, read-only: ``manifest.json``,
``encoder.safetensors``, ``head.safetensors``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from d3.domain.errors import (
    D3Error,
    ModelDamaged,
    ModelNotFound,
    ModelProtected,
    StorageFailed,
)
from d3.domain.hashing import file_of
from d3.domain.models import Manifest, ModelFile, ModelSummary, Role, StoredModel, checked_name

_LOCK_SECONDS = 60


class FilesystemRegistry:
    """Fills :class:`d3.domain.ports.ModelRegistry`; safe for many processes on one machine.

    Args:
        root: made when the first model is stored.
        packaged: folders of read-only models.
    """

    def __init__(self, root: Path, packaged: Sequence[Path] = ()) -> None:
        self._root = root
        self._packaged = tuple(packaged)

    def list(self) -> list[ModelSummary]:
        """The newest version of every model, by name."""
        with _translated("read"):
            active = self.active()
            names = {folder.name for folder in (self._root / "manifests").glob("*/")}
            shipped = {manifest.name for manifest, _ in self._shipped()}
            return [
                ModelSummary(self.describe(name), active=name == active, packaged=name in shipped)
                for name in sorted(names | shipped)
                if name in shipped or self._versions(name)
            ]

    def describe(self, name: str, version: int | None = None) -> Manifest:
        """The manifest of one version, by default the newest."""
        return self._find(name, version)[0]

    def open(self, name: str, version: int | None = None) -> StoredModel:
        """The model's files, checked against their SHA-256."""
        manifest, place = self._find(name, version)
        files = {role: place(role, file) for role, file in manifest.files.items()}
        with _translated("read"):
            for role, recorded in manifest.files.items():
                _check(files[role], recorded, f"The {role} of the model {name!r}")
        return StoredModel(manifest, files["encoder"], files["head"])

    def put(self, manifest: Manifest, encoder: Path, head: Path) -> Manifest:
        """Store a model as the next version of its name."""
        name = checked_name(manifest.name)
        if any(shipped.name == name for shipped, _ in self._shipped()):
            raise ModelProtected(f"The model {name!r} ships with D3.", "Choose another name.")
        with self._locked():
            for source, file in ((encoder, manifest.encoder), (head, manifest.head)):
                self._put_blob(source, file)
            version = max(self._versions(name), default=0) + 1
            stored = replace(
                manifest,
                version=version,
                created_at=manifest.created_at
                or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            )
            text = msgspec.json.format(msgspec.json.encode(stored), indent=1)
            self._write(self._manifest_path(name, version), text)
        return stored

    def delete(self, name: str, version: int | None = None) -> None:
        """Remove one version or all, and the files no other model needs."""
        self._find(name, version)
        if any(shipped.name == name for shipped, _ in self._shipped()):
            raise ModelProtected(f"The model {name!r} ships with D3 and stays.")
        with self._locked():
            versions = self._versions(name)
            doomed = [version] if version is not None else versions
            if name == self.active() and set(doomed) == set(versions):
                raise ModelProtected(
                    f"The model {name!r} is in use.", "Choose another with `d3 models use` first."
                )
            for one in doomed:
                self._manifest_path(name, one).unlink(missing_ok=True)
            if set(doomed) == set(versions):
                self._manifest_path(name, 1).parent.rmdir()
            self._collect_garbage()

    def active(self) -> str | None:
        """The name chosen with :meth:`activate`, if any."""
        with _translated("read"):
            try:
                return (self._root / "active").read_text(encoding="utf-8").strip() or None
            except FileNotFoundError:
                return None

    def activate(self, name: str) -> None:
        """Make this model the one used when none is named."""
        self._find(name, None)
        with self._locked():
            self._write(self._root / "active", f"{name}\n".encode())

    def _find(
        self, name: str, version: int | None
    ) -> tuple[Manifest, Callable[[Role, ModelFile], Path]]:
        """A manifest, and where its files lie."""
        for manifest, folder in self._shipped():
            if manifest.name == name and version in (None, manifest.version):
                return manifest, partial(_packaged_file, folder)
        with _translated("read"):
            versions = self._versions(checked_name(name))
            wanted = version if version is not None else max(versions, default=None)
            if wanted is None or wanted not in versions:
                which = f"version {version} of the model" if version and versions else "model"
                raise ModelNotFound(
                    f"There is no {which} {name!r}.", "`d3 models list` shows those there are."
                )
            path = self._manifest_path(name, wanted)
            return _read_manifest(path), lambda _, file: self._blob_path(file)

    def _shipped(self) -> Iterator[tuple[Manifest, Path]]:
        for folder in self._packaged:
            yield _read_manifest(folder / "manifest.json"), folder

    def _versions(self, name: str) -> Sequence[int]:
        found = (self._root / "manifests" / name).glob("*.json")
        return sorted(int(path.stem) for path in found if path.stem.isdecimal())

    def _manifest_path(self, name: str, version: int) -> Path:
        return self._root / "manifests" / name / f"{version}.json"

    def _blob_path(self, file: ModelFile) -> Path:
        return self._root / "blobs" / f"{file.sha256}.safetensors"

    def _put_blob(self, source: Path, file: ModelFile) -> None:
        target = self._blob_path(file)
        _check(source, file, f"The file {source.name!r}")
        if target.exists() and file_of(target) == file:
            return
        with _temporary_beside(target) as unfinished:
            shutil.copyfile(source, unfinished)
            _check(unfinished, file, f"The copy of {source.name!r}")

    def _write(self, target: Path, content: bytes) -> None:
        with _temporary_beside(target) as unfinished:
            unfinished.write_bytes(content)

    def _collect_garbage(self) -> None:
        manifests = (_read_manifest(p) for p in (self._root / "manifests").glob("*/*.json"))
        needed = {file.sha256 for manifest in manifests for file in manifest.files.values()}
        for blob in (self._root / "blobs").iterdir():
            if blob.stem not in needed:
                blob.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, across processes; readers need no lock."""
        with _translated("written"):
            self._root.mkdir(parents=True, exist_ok=True)
            try:
                with FileLock(self._root / ".lock", timeout=_LOCK_SECONDS):
                    yield
            except Timeout as error:
                raise StorageFailed(
                    "Another process has been writing to the model folder for a minute.",
                    "Try again when it has finished.",
                ) from error


@contextmanager
def _temporary_beside(target: Path) -> Iterator[Path]:
    """A file to fill that takes its place in one step, or leaves nothing behind."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".partial-")
    os.close(handle)
    unfinished = Path(name)
    try:
        yield unfinished
        unfinished.chmod(0o644)
        with unfinished.open("rb") as stream:
            os.fsync(stream.fileno())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _check(path: Path, recorded: ModelFile, subject: str) -> None:
    remedy = "Remove the model and import or fetch it again."
    try:
        found = file_of(path) if path.stat().st_size else None
    except FileNotFoundError as error:
        raise ModelDamaged(f"{subject} is missing.", remedy) from error
    if found != recorded:
        raise ModelDamaged(f"{subject} does not match its recorded SHA-256.", remedy)


def _packaged_file(folder: Path, role: Role, _: ModelFile) -> Path:
    return folder / f"{role}.safetensors"


def _read_manifest(path: Path) -> Manifest:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, D3Error) as error:
        raise ModelDamaged(
            f"The manifest of the model {path.parent.name!r} cannot be understood.",
            "Remove the model and import or fetch it again.",
        ) from error


@contextmanager
def _translated(verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(
            f"The model folder cannot be {verb} ({error.strerror or type(error).__name__}).",
            "Check D3_HOME: its permissions and the free space.",
        ) from error
