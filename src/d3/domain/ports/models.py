"""Where models come from and where they are stored."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from d3.domain.models import Manifest, ModelSummary, StoredModel


@runtime_checkable
class ModelRegistry(Protocol):
    """Stores models. Files are known by SHA-256; nothing half written is ever visible."""

    @property
    def trouble(self) -> str | None:
        """Why its store cannot be used, as of the last attempt; None while it can."""
        ...

    def list(self) -> list[ModelSummary]:
        """The newest version of every model, by name."""
        ...

    def describe(self, name: str, version: int | None = None) -> Manifest:
        """The manifest of one version, by default the newest.

        Raises:
            ModelNotFound: there is none.
        """
        ...

    def open(self, name: str, version: int | None = None) -> StoredModel:
        """The model's files, checked against their SHA-256.

        Raises:
            ModelNotFound: there is none.
            ModelDamaged: a file is missing or does not match.
        """
        ...

    def verify(self, name: str, version: int | None = None) -> Manifest:
        """Check the stored files themselves, not a copy, against their SHA-256.

        Raises:
            ModelNotFound: there is none.
            ModelDamaged: a file is missing or does not match.
        """
        ...

    def put(self, model: StoredModel) -> Manifest:
        """Store a model as the next version of its name; its manifest with that version.

        Raises:
            ModelProtected: the name belongs to a packaged model.
            ModelDamaged: a file does not match the manifest, or one is missing.
            StorageFailed: it cannot be written.
        """
        ...

    def delete(self, name: str, version: int | None = None) -> None:
        """Delete one version or all, and the files that no other model needs.

        Raises:
            ModelNotFound: there is none.
            ModelProtected: it is packaged, or the active one.
        """
        ...

    def active(self) -> str | None:
        """The name chosen with :meth:`activate`, if any."""
        ...

    def activate(self, name: str) -> None:
        """Use this model when none is named.

        Raises:
            ModelNotFound: there is none.
        """
        ...
