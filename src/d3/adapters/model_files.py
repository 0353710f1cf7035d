"""What model registries share: manifests as JSON, checked files, packaged models.

A packaged model (the starter) lies in a read-only folder of its own: ``manifest.json``,
``encoder.safetensors``, ``head.safetensors``. Every registry lists it before its own models.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from d3.domain.errors import D3Error, ModelDamaged, ModelNotFound, ModelProtected
from d3.domain.files import put
from d3.domain.models import (
    Manifest,
    ModelFile,
    Role,
    StoredModel,
    file_of,
    with_encoders_notice,
)

READABLE = 0o644
"""Everybody may read models: nothing in them is secret."""
REIMPORT = "Remove the model, then import or pull it again."


class PackagedModels:
    """Read-only models that ship with D3.

    Args:
        folders: one for each model; one without a manifest is ignored.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self._folders = tuple(folders)

    def manifests(self) -> dict[str, Manifest]:
        return {manifest.name: manifest for manifest, _ in self._all()}

    def find(self, name: str, version: int | None = None) -> Manifest | None:
        """The manifest, if the package has this model and version."""
        manifest = self.manifests().get(name)
        return manifest if manifest and version in (None, manifest.version) else None

    def open(self, name: str, version: int | None = None) -> StoredModel | None:
        """The model with its files checked, if the package has it.

        Raises:
            ModelDamaged: a file is missing or is not the one recorded.
        """
        for manifest, folder in self._all():
            if manifest.name == name and version in (None, manifest.version):
                paths = {role: folder / f"{role}.safetensors" for role in manifest.files}
                return checked_model(manifest, paths)
        return None

    def with_notice(self, manifest: Manifest) -> Manifest:
        """A stored manifest with its encoder's notice, if a packaged model has the same encoder."""
        return with_encoders_notice(manifest, (one for one, _ in self._all()))

    def protect(self, name: str) -> None:
        """Refuse to write to a packaged model.

        Raises:
            ModelProtected: it is one.
        """
        if name in self.manifests():
            raise ModelProtected(
                f"The model {name!r} ships with D3 and cannot be changed.", "Choose another name."
            )

    def _all(self) -> Iterator[tuple[Manifest, Path]]:
        for folder in self._folders:
            if (folder / "manifest.json").exists():
                yield decode_manifest((folder / "manifest.json").read_bytes(), folder.name), folder


def encode_manifest(manifest: Manifest) -> bytes:
    """A manifest as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1)


def decode_manifest(text: bytes, name: str) -> Manifest:
    """Parse a manifest.

    Raises:
        ModelDamaged: it cannot be parsed.
    """
    try:
        return msgspec.json.decode(text, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, D3Error) as error:
        raise unreadable(name) from error


def stored_manifest(text: bytes, name: str, version: int) -> Manifest:
    """Parse the manifest stored under this name and version.

    Raises:
        ModelDamaged: it cannot be parsed, or is another model's.
    """
    manifest = decode_manifest(text, name)
    if (manifest.name, manifest.version) != (name, version):
        raise unreadable(name)
    return manifest


def unreadable(name: str) -> ModelDamaged:
    """The error for a manifest that cannot be parsed."""
    return ModelDamaged(f"The manifest of the model {name!r} is not valid.", REIMPORT)


def not_found(name: str, version: int | None = None) -> ModelNotFound:
    """The error for a model, or a version of it, that does not exist."""
    which = "model" if version is None else f"version {version} of the model"
    return ModelNotFound(f"There is no {which} {name!r}.", "`d3 models list` shows all models.")


def existing(name: str, versions: Sequence[int], version: int | None) -> int:
    """The version asked for, or the newest.

    Raises:
        ModelNotFound: it does not exist.
    """
    wanted = max(versions, default=None) if version is None else version
    if wanted is None or wanted not in versions:
        raise not_found(name, version if versions else None)
    return wanted


def versions_to_remove(
    name: str, versions: Sequence[int], version: int | None, active: str | None
) -> Sequence[int]:
    """The versions to remove: this one, or all.

    Raises:
        ModelNotFound: it does not exist.
        ModelProtected: it is the last version of the active model.
    """
    existing(name, versions, version)
    found = versions if version is None else [version]
    if name == active and set(found) == set(versions):
        raise ModelProtected(
            f"The model {name!r} is in use.", "Choose another with `d3 models use` first."
        )
    return found


def with_version(manifest: Manifest, version: int) -> Manifest:
    """The manifest with its version, and with the current time unless it has one."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return replace(manifest, version=version, created_at=manifest.created_at or now)


def matches(path: Path, recorded: ModelFile) -> bool:
    """Whether the file exists and is the one recorded."""
    try:
        return path.stat().st_size == recorded.size_bytes and file_of(path) == recorded
    except FileNotFoundError:
        return False


def check(path: Path, recorded: ModelFile, subject: str) -> None:
    """Check that the file is the one recorded.

    Raises:
        ModelDamaged: it is not, or is missing.
    """
    if not matches(path, recorded):
        problem = "does not match its recorded SHA-256" if path.exists() else "is missing"
        raise ModelDamaged(f"{subject} {problem}.", REIMPORT)


def checked_model(manifest: Manifest, paths: Mapping[Role, Path]) -> StoredModel:
    """The model whose files lie at these paths, each of them the one recorded.

    Raises:
        ModelDamaged: one is not, or is missing.
    """
    for role, file in manifest.files.items():
        check(paths[role], file, f"The {role} of the model {manifest.name!r}")
    return StoredModel(manifest, paths)


def files_to_store(model: StoredModel) -> list[tuple[Role, Path, ModelFile]]:
    """What a registry takes in of a model, each file with its role and what is recorded of it.

    Raises:
        ModelDamaged: the manifest lists a file that is not there, or the other way round.
    """
    files, paths = model.manifest.files, model.paths
    if files.keys() != paths.keys():
        odd = ", ".join(sorted(files.keys() ^ paths.keys()))
        raise ModelDamaged(
            f"The files of the model {model.manifest.name!r} do not match its manifest ({odd}).",
            REIMPORT,
        )
    return [(role, paths[role], file) for role, file in files.items()]


def put_file(target: Path, content: bytes) -> None:
    """Write a file atomically and durably, with its folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    put(target, content, READABLE)
