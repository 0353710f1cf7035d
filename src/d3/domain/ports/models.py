"""Where models come from and where they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from d3.domain.models import Activation, EncoderSpec, Manifest, ModelSummary, StoredModel


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """A checkpoint found sound and converted.

    Attributes:
        path: a safetensors file with the field's key names, lying in the folder asked for.
        width: of the features it makes (encoder) or takes (head).
        spec: of an encoder; None for a head.
    """

    path: Path
    width: int
    spec: EncoderSpec | None = None


@runtime_checkable
class Checkpoints(Protocol):
    """Reads checkpoints that came from elsewhere, safely, and converts them."""

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
            file: holds it, by itself or among other things.
            into: a folder that is there.
            heads: of the attention; width / 64 unless said.
            activation: of the MLPs.
            called: what to blame the file as; its name unless said.

        Raises:
            CheckpointInvalid: wrong format, names, shapes, or values that are not finite.
        """
        ...

    def read_head(self, file: Path, into: Path, *, called: str | None = None) -> CheckpointFile:
        """Likewise for a head."""
        ...

    def read_open_clip(self, name: str, into: Path) -> CheckpointFile:
        """Likewise for an encoder of open_clip's table, ``MODEL:TAG``, which open_clip fetches.

        Raises:
            CheckpointInvalid: there is none, or it is no plain vision transformer of CLIP.
            SourceUnavailable: its weights are neither in open_clip's cache nor to be had.
        """
        ...

    def draw_permutations(self, seed: int, count: int, patches: int) -> tuple[tuple[int, ...], ...]:
        """``count`` orders of ``patches`` patches, the same for the same seed everywhere."""
        ...


@runtime_checkable
class ModelRegistry(Protocol):
    """Where models are kept. Nothing half written is ever visible; files are known by SHA-256."""

    @property
    def trouble(self) -> str | None:
        """Why the store cannot be used."""
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
            ModelDamaged: a file is missing or is not the one recorded.
        """
        ...

    def verify(self, name: str, version: int | None = None) -> Manifest:
        """Read the stored files themselves, not a copy, and compare their SHA-256.

        Raises:
            ModelNotFound: there is none.
            ModelDamaged: a file is missing or is not the one recorded.
        """
        ...

    def put(self, manifest: Manifest, encoder: Path, head: Path) -> Manifest:
        """Store a model as the next version of its name; its manifest comes back with the version.

        Raises:
            ModelProtected: the name belongs to a packaged model.
            ModelDamaged: a file is not the one the manifest records.
            StorageFailed: it cannot be written.
        """
        ...

    def delete(self, name: str, version: int | None = None) -> None:
        """Remove one version or all, and the files no other model needs.

        Raises:
            ModelNotFound: there is none.
            ModelProtected: it belongs to the package, or is the active one.
        """
        ...

    def active(self) -> str | None:
        """The name chosen with :meth:`activate`, if any."""
        ...

    def activate(self, name: str) -> None:
        """Make this model the one used when none is named.

        Raises:
            ModelNotFound: there is none.
        """
        ...
