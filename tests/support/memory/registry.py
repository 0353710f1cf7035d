"""A model registry in memory; opened models are laid out in a temporary folder."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from d3.adapters.model_files import files_to_store
from d3.domain.errors import ModelDamaged, ModelNotFound, ModelProtected
from d3.domain.models import (
    Manifest,
    ModelFile,
    ModelSummary,
    Role,
    StoredModel,
    checked_name,
    with_encoders_notice,
)

_Summaries: TypeAlias = list[ModelSummary]


class MemoryRegistry:
    """Implements ``ModelRegistry``; for one process, safe for many threads."""

    def __init__(self) -> None:
        self._versions: dict[str, dict[int, Manifest]] = {}
        self._contents: dict[str, bytes] = {}
        self._active: str | None = None
        self._lock = threading.RLock()
        self._folder: Path | None = None

    @property
    def trouble(self) -> None:
        """None: there is no server that could be away."""

    def list(self) -> _Summaries:
        """The newest version of every model, by name."""
        with self._lock:
            return [
                ModelSummary(versions[max(versions)], active=name == self._active, packaged=False)
                for name, versions in sorted(self._versions.items())
            ]

    def describe(self, name: str, version: int | None = None) -> Manifest:
        """The manifest of one version, by default the newest."""
        with self._lock:
            versions = self._versions.get(checked_name(name), {})
            wanted = max(versions, default=None) if version is None else version
            if wanted is None or wanted not in versions:
                raise ModelNotFound(
                    f"There is no model {name!r}" + (f" of version {version}." if version else "."),
                    "`d3 models list` shows all models.",
                )
            return versions[wanted]

    def open(self, name: str, version: int | None = None) -> StoredModel:
        """The model's files, checked against their SHA-256."""
        with self._lock:
            manifest = self.describe(name, version)
            paths: dict[Role, Path] = {}
            for role, file in manifest.files.items():
                content = self._contents.get(file.sha256, b"")
                _check(content, file, f"The {role} of the model {name!r}")
                paths[role] = self._place() / f"{file.sha256}.safetensors"
                paths[role].write_bytes(content)
            return StoredModel(manifest, paths)

    def verify(self, name: str, version: int | None = None) -> Manifest:
        """Compare the files' SHA-256."""
        return self.open(name, version).manifest

    def put(self, model: StoredModel) -> Manifest:
        """Store a model as the next version of its name."""
        contents: dict[str, bytes] = {}
        for _, source, file in files_to_store(model):
            content = source.read_bytes() if source.is_file() else b""
            _check(content, file, f"The file {source.name!r}")
            contents[file.sha256] = content
        with self._lock:
            manifest = with_encoders_notice(model.manifest, (one.manifest for one in self.list()))
            versions = self._versions.setdefault(manifest.name, {})
            stored = replace(
                manifest,
                version=max(versions, default=0) + 1,
                created_at=manifest.created_at
                or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            )
            self._contents |= contents
            versions[stored.version] = stored
            return stored

    def delete(self, name: str, version: int | None = None) -> None:
        """Remove one version or all, and the files no other model needs."""
        with self._lock:
            self.describe(name, version)
            versions = self._versions[name]
            left = {n: one for n, one in versions.items() if version not in (None, n)}
            if not left and name == self._active:
                raise ModelProtected(f"The model {name!r} is in use.", "Choose another first.")
            self._versions[name] = left
            if not left:
                del self._versions[name]
            kept = [one for versions in self._versions.values() for one in versions.values()]
            needed = {file.sha256 for one in kept for file in one.files.values()}
            self._contents = {k: v for k, v in self._contents.items() if k in needed}

    def active(self) -> str | None:
        """The name chosen with :meth:`activate`, if any."""
        return self._active

    def activate(self, name: str) -> None:
        """Make this model the one used when none is named."""
        with self._lock:
            self._active = self.describe(name).name

    def _place(self) -> Path:
        """A folder that goes when the registry does."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="d3-models-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder


def _check(content: bytes, recorded: ModelFile, subject: str) -> None:
    if not content:
        raise ModelDamaged(f"{subject} is missing.", "Remove the model and import it again.")
    if ModelFile(hashlib.sha256(content).hexdigest(), len(content)) != recorded:
        raise ModelDamaged(
            f"{subject} does not match its recorded SHA-256.",
            "Remove the model and import it again.",
        )
