"""Architectures: what makes logits of a model's pixels, built in or from another package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from d3.domain.errors import ArchitectureUnavailable
from d3.domain.models import Activation, Manifest, Role, StoredModel


@dataclass(frozen=True, slots=True)
class ArchitectureInfo:
    """An architecture that is installed.

    Attributes:
        name: by which manifests name it.
        package: the distribution that provides it; empty for what comes with D3.
        files: which files it wants by their role, and what each holds, in a few words.
        views: the most that it can average.
        explains: whether it can draw heat maps.
        trouble: why it cannot be used, and what to do; None where it can.
    """

    name: str
    package: str = ""
    files: Mapping[Role, str] | None = None
    views: int = 1
    explains: bool = False
    trouble: str | None = None


def not_installed(model: Manifest) -> ArchitectureUnavailable:
    """The error for a model whose architecture is not here: it says what to install."""
    return ArchitectureUnavailable(
        f"The model {model.name!r} needs the architecture {model.architecture!r}, which is not "
        "installed.",
        f"The package {model.package!r} provides it: install or update it from a source that you "
        "trust."
        if model.package
        else "Update D3, which may have it by now, or use another model.",
    )


@runtime_checkable
class Architectures(Protocol):
    """The architectures that are installed, and what they make of foreign checkpoints."""

    def list(self) -> list[ArchitectureInfo]:
        """All of them by name, those that cannot be used with their trouble."""
        ...

    def read(
        self,
        architecture: str,
        name: str,
        files: Mapping[Role, Path],
        into: Path,
        *,
        heads: int | None = None,
        activation: Activation = "quick_gelu",
        called: Mapping[Role, str] | None = None,
        encoder: StoredModel | None = None,
        open_clip: str | None = None,
    ) -> StoredModel:
        """Check foreign checkpoints (``.safetensors`` or ``.pth``) and convert them.

        Args:
            architecture: its name.
            name: of the model.
            files: by role; one file may be several roles'.
            into: an existing folder for the converted files.
            heads: of an encoder's attention; width / 64 unless given.
            activation: of an encoder's MLPs.
            called: the files' names in errors; their own unless given.
            encoder: a stored model whose encoder is used, in place of a file.
            open_clip: ``MODEL:TAG`` of the encoder in open_clip's table, in place of a file.

        Returns:
            A model of version 1 whose manifest says all that the files tell.

        Raises:
            ArchitectureUnavailable: it is not installed, or cannot be used.
            CheckpointInvalid: a file is missing, or is not what it should be.
            SourceUnavailable: open_clip cannot fetch the encoder.
        """
        ...

    def check(self, model: StoredModel, called: str) -> None:
        """Check that a model's files are sound and hold what its manifest says.

        Args:
            model: with files in D3's own form.
            called: what it came from, for errors.

        Raises:
            ArchitectureUnavailable: its architecture is not installed, or cannot be used.
            CheckpointInvalid: they are not.
        """
        ...
