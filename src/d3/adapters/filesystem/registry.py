"""A model registry in a folder: files named by their SHA-256, a manifest for each version.

::

    ROOT/blobs/<sha256>.safetensors      shared by every model with the same file
    ROOT/manifests/<name>/<version>.json written last: what has no manifest does not exist
    ROOT/active                          the name of the model used when none is named
"""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from d3.adapters.model_files import (
    READABLE,
    PackagedModels,
    check,
    checked_model,
    encode_manifest,
    existing,
    files_to_store,
    matches,
    put_file,
    stored_manifest,
    versions_to_remove,
    with_version,
)
from d3.domain.errors import ModelDamaged, ModelNotFound, StorageFailed
from d3.domain.files import replacing, storage_errors
from d3.domain.models import (
    Manifest,
    ModelFile,
    ModelSummary,
    StoredModel,
    checked_name,
    with_encoders_notice,
)

_LOCK_SECONDS = 60
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


class FilesystemRegistry:
    """Implements ``ModelRegistry``; safe for many processes on one machine.

    Args:
        root: made when the first model is stored.
        packaged: folders of read-only models.
    """

    def __init__(self, root: Path, packaged: Sequence[Path] = ()) -> None:
        self._root = root
        self._packaged = PackagedModels(packaged)

    @property
    def trouble(self) -> None:
        """None: there is no server that could be away."""

    def list(self) -> list[ModelSummary]:
        """The newest version of every model, by name; a damaged manifest is left out and warned of.

        A model that another process removes meanwhile is left out too.
        """
        with _usable("read"):
            active = self.active()
            shipped = self._packaged.manifests()
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
        return self._find(name, version)

    def open(self, name: str, version: int | None = None) -> StoredModel:
        with _usable("read"):
            if (shipped := self._packaged.open(name, version)) is not None:
                return shipped
            manifest = self._find(name, version)
            paths = {role: self._blob_path(file) for role, file in manifest.files.items()}
            return checked_model(manifest, paths)

    def verify(self, name: str, version: int | None = None) -> Manifest:
        return self.open(name, version).manifest

    def put(self, model: StoredModel) -> Manifest:
        name = checked_name(model.manifest.name)
        self._packaged.protect(name)
        known = (one.manifest for one in self.list())
        manifest = with_encoders_notice(model.manifest, known)
        with self._locked():
            for _, source, file in files_to_store(model):
                self._put_blob(source, file)
            version = max(self._versions(name), default=0) + 1
            stored = with_version(manifest, version)
            put_file(self._manifest_path(name, version), encode_manifest(stored))
        return stored

    def delete(self, name: str, version: int | None = None) -> None:
        checked_name(name)
        self._packaged.protect(name)
        with self._locked():
            # Manifests are not read here: a damaged one can be removed as well.
            versions = self._versions(name)
            removed = versions_to_remove(name, versions, version, self.active())
            for one in removed:
                self._manifest_path(name, one).unlink(missing_ok=True)
            if len(removed) == len(versions):
                shutil.rmtree(self._manifest_path(name, 1).parent)
            self._collect_garbage()

    def active(self) -> str | None:
        with _usable("read"):
            try:
                text = (self._root / "active").read_text(encoding="utf-8", errors="replace")
                return text.strip() or None
            except FileNotFoundError:
                return None

    def activate(self, name: str) -> None:
        with self._locked():
            self._find(name, None)
            put_file(self._root / "active", f"{name}\n".encode())

    def _find(self, name: str, version: int | None) -> Manifest:
        with _usable("read"):
            if (shipped := self._packaged.find(name, version)) is not None:
                return shipped
            return self._read(name, self._existing(checked_name(name), version))

    def _existing(self, name: str, version: int | None) -> int:
        return existing(name, self._versions(name), version)

    def _read(self, name: str, version: int) -> Manifest:
        text = self._manifest_path(name, version).read_bytes()
        return self._packaged.with_notice(stored_manifest(text, name, version))

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
        check(source, file, f"The file {source.name!r}")
        if matches(target, file):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, READABLE) as unfinished:
            shutil.copyfile(source, unfinished)
            check(unfinished, file, f"The copy of {source.name!r}")

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
        with _usable("written"):
            self._root.mkdir(parents=True, exist_ok=True)
            try:
                with FileLock(self._root / ".lock", timeout=_LOCK_SECONDS):
                    yield
            except Timeout as error:
                raise StorageFailed(
                    "Another process has been writing to the model folder for more than a minute.",
                    "Try again when it has finished.",
                ) from error


def _usable(verb: str) -> AbstractContextManager[None]:
    return storage_errors(
        f"The model folder cannot be {verb}", "Check the permissions and the free space of D3_HOME."
    )
