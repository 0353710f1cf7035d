"""Heads uploaded to the bucket by hand become models when they are first listed or opened.

Each is checked, bound to an encoder and stored with a manifest. A head that is uploaded again
becomes the next version.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from pathlib import Path
from typing import TypeAlias

from d3.adapters.minio.catalog import BareHead
from d3.adapters.minio.registry import MinioRegistry
from d3.domain.errors import ModelError, ModelNotFound, StorageFailed, StorageUnavailable
from d3.domain.models import Manifest, ModelSummary, StoredModel, checked_name
from d3.domain.services.models import ModelImporter

_LOG = logging.getLogger(__name__)
_Summaries: TypeAlias = list[ModelSummary]


class AdoptingRegistry:
    """Implements ``ModelRegistry`` with a :class:`MinioRegistry`, and imports bare heads."""

    def __init__(self, registry: MinioRegistry, importer: ModelImporter) -> None:
        self._registry = registry
        self._importer = importer
        self._refused: set[BareHead] = set()
        self._one_at_a_time = threading.Lock()

    @property
    def trouble(self) -> str | None:
        return self._registry.trouble

    def list(self) -> _Summaries:
        """The newest version of every model, by name, after importing new heads.

        A head that cannot be imported is left out and logged once; :meth:`open` says why.
        """
        found = self._registry.list()
        known = {one.manifest.name: one.manifest for one in found}
        imported = [
            self._try_import(head) for head in self._registry.bare_heads() if _is_new(head, known)
        ]
        return self._registry.list() if any(imported) else found

    def describe(self, name: str, version: int | None = None) -> Manifest:
        try:
            return self._registry.describe(name, version)
        except ModelNotFound:
            if not self._import_if_new(name, {}):
                raise
            return self._registry.describe(name, version)

    def open(self, name: str, version: int | None = None) -> StoredModel:
        """The model's files; a head that was uploaded since is imported first.

        Raises:
            CheckpointInvalid: the file of this name is no head, or no encoder here fits it.
        """
        if version is None:
            try:
                known = {name: self._registry.describe(name)}
            except ModelNotFound:
                known = {}
            self._import_if_new(name, known)
        return self._registry.open(name, version)

    def verify(self, name: str, version: int | None = None) -> Manifest:
        self.describe(name, version)
        return self._registry.verify(name, version)

    def put(self, model: StoredModel) -> Manifest:
        return self._registry.put(model)

    def delete(self, name: str, version: int | None = None) -> None:
        """Remove one version or all; after the last one also a bare head of that name."""
        self._registry.delete(name, version)
        if self._registry_has(name):
            return
        for head in self._registry.bare_heads():
            if head.name == name:
                self._registry.remove_head(head)

    def active(self) -> str | None:
        return self._registry.active()

    def activate(self, name: str) -> None:
        self.describe(name)
        self._registry.activate(name)

    def _registry_has(self, name: str) -> bool:
        try:
            return bool(self._registry.describe(name))
        except ModelNotFound:
            return False

    def _import_if_new(self, name: str, known: dict[str, Manifest]) -> bool:
        """Import the bare head of this name, if there is a new one."""
        checked_name(name)
        for head in self._registry.bare_heads():
            if head.name == name and _is_new(head, known):
                self._import(head)
                return True
        return False

    def _try_import(self, head: BareHead) -> bool:
        """Import a head; one that was refused before is not tried again."""
        if head in self._refused:
            return False
        try:
            self._import(head)
        except StorageUnavailable:
            return False
        except (ModelError, StorageFailed) as error:
            self._refused.add(head)
            _LOG.warning("%s in the store cannot be used: %s", head.name, error)
            return False
        return True

    def _import(self, head: BareHead) -> Manifest:
        with (
            self._one_at_a_time,
            tempfile.TemporaryDirectory(prefix="d3-head-") as folder,
        ):
            file = self._registry.fetch_head(head, Path(folder))
            # The file's own time, so that only a later upload is new, whatever our clock says.
            return self._importer.import_file(
                head.name,
                file,
                provenance=f"{head.name}, uploaded to the store without D3",
                created_at=head.modified,
                called=head.name,
            )


def _is_new(head: BareHead, known: dict[str, Manifest]) -> bool:
    return head.name not in known or known[head.name].created_at < head.modified
