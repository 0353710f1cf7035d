"""Where models come from and where they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from d3.domain.models import Activation, EncoderSpec, Manifest, ModelSummary, StoredModel


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """A checkpoint that was checked and converted.

    Attributes:
        path: a safetensors file with the field's key names, in the folder asked for.
        width: of the features that it makes (encoder) or takes (head).
        spec: of an encoder; None for a head.
    """

    path: Path
    width: int
    spec: EncoderSpec | None = None


@runtime_checkable
class Checkpoints(Protocol):
    """Reads foreign checkpoints safely, and converts them."""

    def read_encoder(
        self,
        file: Path,
        into: Path,
        heads: int | None = None,
        activation: Activation = "quick_gelu",
        *,
        called: str | None = None,
    ) -> CheckpointFile:
        """Check an encoder (``.safetensors`` or ``.pth``) and convert it into the folder ``into``.

        Args:
            file: holds it, alone or among other things.
            into: an existing folder.
            heads: of the attention; width / 64 unless given.
            activation: of the MLPs.
            called: the file's name in errors; its own unless given.

        Raises:
            CheckpointInvalid: wrong format, names, shapes, or values that are not finite.
        """
        ...

    def read_head(self, file: Path, into: Path, *, called: str | None = None) -> CheckpointFile:
        """The same for a head."""
        ...

    def read_open_clip(self, name: str, into: Path) -> CheckpointFile:
        """The same for an encoder of open_clip's table, ``MODEL:TAG``, which open_clip fetches.

        Raises:
            CheckpointInvalid: there is none, or it is no plain vision transformer of CLIP.
            SourceUnavailable: its weights are not in open_clip's cache and cannot be fetched.
        """
        ...

    def draw_permutations(self, seed: int, count: int, patches: int) -> tuple[tuple[int, ...], ...]:
        """``count`` orders of ``patches`` patches, the same for the same seed everywhere."""
        ...


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
