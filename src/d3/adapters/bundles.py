"""Bundles: a model in one file, written from a registry and imported into one.

A bundle is a zip archive without compression that holds these entries and no others.

::

    manifest.json          first
    ROLE.safetensors       for each file that the manifest names, such as encoder and head
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from d3.adapters.model_files import (
    READABLE,
    checked_model,
    decode_manifest,
    encode_manifest,
)
from d3.domain.errors import BundleInvalid, CheckpointInvalid, ModelDamaged, StorageFailed
from d3.domain.files import Progress, no_progress, replacing, storage_errors
from d3.domain.models import Role, StoredModel, with_encoders_notice
from d3.domain.ports.architectures import Architectures
from d3.domain.ports.models import ModelRegistry
from d3.domain.services.copying import Copied, substance, versions_of

_MANIFEST = "manifest.json"
_NEEDED = "must hold exactly a manifest and the files that it names"
_MANIFEST_BYTES = 16 * 2**20
_CHUNK = 2**20
_AGAIN = "Create it again with `d3 models bundle`, or download it again."


class BundleService:
    """Exports models of a registry as bundles, and imports bundles."""

    def __init__(
        self,
        registry: ModelRegistry,
        architectures: Callable[[], Architectures],
        progress: Progress | None = None,
    ) -> None:
        self._registry = registry
        self._architectures = architectures
        self._progress = progress or no_progress

    def write(self, name: str, target: Path, version: int | None = None) -> StoredModel:
        """Write a model, by default its newest version, to a file that does not exist yet.

        Raises:
            ModelNotFound: there is none.
            ModelDamaged: its files do not match their hashes.
            StorageFailed: the target exists, or cannot be written.
        """
        model = self._registry.open(name, version)
        with storage_errors(f"{str(target)!r} cannot be written"):
            if target.exists():
                raise StorageFailed(
                    f"The file {str(target)!r} already exists.", "Choose another file with --out."
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target, READABLE) as unfinished:
                self._fill(unfinished, model)
        return model

    def read(self, file: Path) -> Copied:
        """Store a bundle's model as the next version of its name, unless it is there already.

        Raises:
            BundleInvalid: the file is no bundle, or its weights are not sound or not what its
                manifest says.
            ArchitectureUnavailable: what makes its scores is not installed, or cannot be used.
            ModelProtected: its name is a packaged model's.
            StorageFailed: it cannot be stored.
        """
        with tempfile.TemporaryDirectory(prefix="d3-bundle-") as folder:
            model = self._unpacked(file, Path(folder))
            models = (one.manifest for one in self._registry.list())
            manifest = with_encoders_notice(model.manifest, models)
            for known in versions_of(self._registry, manifest.name):
                if substance(known) == substance(manifest):
                    return Copied(manifest, known.version, new=False)
            try:
                self._architectures().check(model, file.name)
            except CheckpointInvalid as error:
                raise BundleInvalid(error.problem, _AGAIN) from error
            stored = self._registry.put(replace(model, manifest=manifest))
            return Copied(manifest, stored.version, new=True)

    def _unpacked(self, file: Path, into: Path) -> StoredModel:
        """Unpack under fixed names; paths in the archive are ignored."""
        with storage_errors(f"{str(file)!r} cannot be unpacked"), _opened(file) as archive:
            entries = _checked_entries(file, archive)
            try:
                manifest = decode_manifest(archive.read(entries[_MANIFEST]), file.name)
            except ModelDamaged as error:
                raise _invalid(file, "has an invalid manifest") from error
            sizes = {_entry(role): one.size_bytes for role, one in manifest.files.items()}
            if entries.keys() != {_MANIFEST, *sizes}:
                raise _invalid(file, _NEEDED)
            for name, size in sizes.items():
                if entries[name].file_size != size:
                    raise _invalid(file, f"holds a different {name} than its manifest says")
            self._check_room(into, sum(sizes.values()))
            for name, size in sizes.items():
                with archive.open(entries[name]) as entry, (into / name).open("wb") as stream:
                    self._copy(entry, stream, name, size)
        try:
            return checked_model(manifest, {role: into / _entry(role) for role in manifest.files})
        except ModelDamaged as error:
            raise _invalid(file, "does not match the SHA-256 in its manifest") from error

    def _fill(self, target: Path, model: StoredModel) -> None:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(zipfile.ZipInfo(_MANIFEST), encode_manifest(model.manifest))
            for role, source in model.paths.items():
                name, size = _entry(role), source.stat().st_size
                info = zipfile.ZipInfo(name)  # of 1980: the same model, the same bytes
                info.file_size = size
                with source.open("rb") as stream, archive.open(info, "w") as entry:
                    self._copy(stream, entry, name, size)

    def _copy(self, source: IO[bytes], target: IO[bytes], what: str, size: int) -> None:
        done = 0
        while content := source.read(_CHUNK):
            target.write(content)
            done += len(content)
            self._progress(what, done, size)

    def _check_room(self, folder: Path, needed: int) -> None:
        if (free := shutil.disk_usage(folder).free) < needed:
            raise StorageFailed(
                f"Unpacking needs {needed:,} bytes, but the temporary folder has only {free:,} "
                "bytes free.",
                "Free some space, or set TMPDIR to a folder on a larger disk.",
            )


def _entry(role: Role) -> str:
    return f"{role}.safetensors"


def _checked_entries(file: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Its entries: not compressed, and together no larger than the file."""
    entries = {one.filename: one for one in archive.infolist()}
    if len(archive.infolist()) != len(entries) or _MANIFEST not in entries:
        raise _invalid(file, _NEEDED)
    stored = all(
        one.compress_type == zipfile.ZIP_STORED and one.file_size == one.compress_size
        for one in entries.values()
    )
    if not stored or sum(one.file_size for one in entries.values()) > file.stat().st_size:
        raise _invalid(file, "would unpack to more bytes than it has")
    if entries[_MANIFEST].file_size > _MANIFEST_BYTES:
        raise _invalid(file, f"has a manifest of more than {_MANIFEST_BYTES:,} bytes")
    return entries


@contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    """Open the archive, and translate all zip errors, also later ones, to BundleInvalid."""
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
        raise _invalid(file, "is not a D3 bundle, or is damaged") from error


def _invalid(file: Path, problem: str) -> BundleInvalid:
    return BundleInvalid(f"The file {file.name!r} {problem}.", _AGAIN)
