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
import re
import shutil
import tempfile
import time
import warnings
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
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


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
        """The newest version of every model, by name; a damaged manifest is left out and warned of.

        A model that another process removes meanwhile is left out too.
        """
        with _translated("read"):
            active = self.active()
            shipped = {manifest.name: manifest for manifest, _ in self._shipped()}
            found = shipped | {
                name: manifest
                for name in self._names() - shipped.keys()
                if (manifest := self._newest(name)) is not None
            }
            return [
                ModelSummary(found[name], active=name == active, packaged=name in shipped)
                for name in sorted(found)
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
        checked_name(name)
        if any(shipped.name == name for shipped, _ in self._shipped()):
            raise ModelProtected(f"The model {name!r} ships with D3 and stays.")
        with self._locked():
            # Manifests are not read here: a damaged one can be removed as well.
            self._existing(name, version)
            versions = self._versions(name)
            doomed = [version] if version is not None else versions
            if name == self.active() and set(doomed) == set(versions):
                raise ModelProtected(
                    f"The model {name!r} is in use.", "Choose another with `d3 models use` first."
                )
            for one in doomed:
                self._manifest_path(name, one).unlink(missing_ok=True)
            if set(doomed) == set(versions):
                shutil.rmtree(self._manifest_path(name, 1).parent)
            self._collect_garbage()

    def active(self) -> str | None:
        """The name chosen with :meth:`activate`, if any."""
        with _translated("read"):
            try:
                text = (self._root / "active").read_text(encoding="utf-8", errors="replace")
                return text.strip() or None
            except FileNotFoundError:
                return None

    def activate(self, name: str) -> None:
        """Make this model the one used when none is named."""
        with self._locked():
            self._find(name, None)
            self._write(self._root / "active", f"{name}\n".encode())

    def _find(
        self, name: str, version: int | None
    ) -> tuple[Manifest, Callable[[Role, ModelFile], Path]]:
        """A manifest, and where its files lie."""
        for manifest, folder in self._shipped():
            if manifest.name == name and version in (None, manifest.version):
                return manifest, partial(_packaged_file, folder)
        with _translated("read"):
            found = self._existing(checked_name(name), version)
            return self._read(name, found), lambda _, file: self._blob_path(file)

    def _existing(self, name: str, version: int | None) -> int:
        """The version asked for, or the newest."""
        versions = self._versions(name)
        wanted = max(versions, default=None) if version is None else version
        if wanted is None or wanted not in versions:
            which = (
                "model" if version is None or not versions else f"version {version} of the model"
            )
            raise ModelNotFound(
                f"There is no {which} {name!r}.", "`d3 models list` shows those there are."
            )
        return wanted

    def _read(self, name: str, version: int) -> Manifest:
        manifest = _read_manifest(self._manifest_path(name, version), name)
        if (manifest.name, manifest.version) != (name, version):
            raise _unreadable(name)
        return manifest

    def _shipped(self) -> Iterator[tuple[Manifest, Path]]:
        for folder in self._packaged:
            if not (folder / "manifest.json").exists():
                continue
            yield _read_manifest(folder / "manifest.json", folder.name), folder

    def _names(self) -> set[str]:
        return {folder.name for folder in (self._root / "manifests").glob("*/")}

    def _newest(self, name: str) -> Manifest | None:
        try:
            return self._read(name, self._existing(name, None))
        except (ModelNotFound, FileNotFoundError):
            return None
        except ModelDamaged as error:
            warnings.warn(str(error), RuntimeWarning, stacklevel=4)
            return None

    def _versions(self, name: str) -> Sequence[int]:
        found = (self._root / "manifests" / name).glob("*.json")
        return sorted(int(path.stem) for path in found if _VERSION.fullmatch(path.stem))

    def _manifest_path(self, name: str, version: int) -> Path:
        return self._root / "manifests" / name / f"{version}.json"

    def _blob_path(self, file: ModelFile) -> Path:
        return self._root / "blobs" / f"{file.sha256}.safetensors"

    def _put_blob(self, source: Path, file: ModelFile) -> None:
        target = self._blob_path(file)
        _check(source, file, f"The file {source.name!r}")
        if _matches(target, file):
            return
        with _temporary_beside(target) as unfinished:
            shutil.copyfile(source, unfinished)
            _check(unfinished, file, f"The copy of {source.name!r}")

    def _write(self, target: Path, content: bytes) -> None:
        with _temporary_beside(target) as unfinished:
            unfinished.write_bytes(content)

    def _collect_garbage(self) -> None:
        try:
            manifests = [
                self._read(name, version)
                for name in self._names()
                for version in self._versions(name)
            ]
        except ModelDamaged:
            return  # what a manifest that cannot be read needs is not known: keep everything
        needed = {file.sha256 for manifest in manifests for file in manifest.files.values()}
        for blob in (self._root / "blobs").glob("*"):
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


def _matches(path: Path, recorded: ModelFile) -> bool:
    """Whether the file is there and is the one recorded."""
    try:
        return path.stat().st_size == recorded.size_bytes and file_of(path) == recorded
    except FileNotFoundError:
        return False


def _check(path: Path, recorded: ModelFile, subject: str) -> None:
    if not _matches(path, recorded):
        problem = "does not match its recorded SHA-256" if path.exists() else "is missing"
        raise ModelDamaged(
            f"{subject} {problem}.", "Remove the model and import or fetch it again."
        )


def _packaged_file(folder: Path, role: Role, _: ModelFile) -> Path:
    return folder / f"{role}.safetensors"


def _read_manifest(path: Path, name: str) -> Manifest:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, D3Error) as error:
        raise _unreadable(name) from error


def _unreadable(name: str) -> ModelDamaged:
    return ModelDamaged(
        f"The manifest of the model {name!r} cannot be understood.",
        "Remove the model and import or fetch it again.",
    )


@contextmanager
def _translated(verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(
            f"The model folder cannot be {verb} ({error.strerror or type(error).__name__}).",
            "Check D3_HOME: its permissions and the free space.",
        ) from error
