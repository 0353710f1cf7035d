"""The installed architectures, for whoever imports, lists and checks models."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from d3.adapters.torch.architectures.base import Architecture, Draft
from d3.adapters.torch.architectures.discovery import Installed, said
from d3.domain.errors import ArchitectureUnavailable, CheckpointInvalid, D3Error
from d3.domain.models import Activation, Role, StoredModel
from d3.domain.ports.architectures import ArchitectureInfo

T = TypeVar("T")


class TorchArchitectures:
    """Implements ``Architectures``."""

    def __init__(self, installed: Installed | None = None) -> None:
        self._installed = installed or Installed()

    def list(self) -> builtins.list[ArchitectureInfo]:
        return [self._installed.info(name) for name in self._installed.names()]

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
        used = self._installed.get(architecture)
        if unknown := files.keys() - used.files.keys():
            wanted = " and ".join(f"{role} ({what})" for role, what in used.files.items())
            raise CheckpointInvalid(
                f"The architecture {architecture!r} has no file for a {min(unknown)}.",
                f"It wants {wanted}.",
            )
        draft = Draft(
            name,
            architecture,
            used.package,
            files,
            into,
            heads=heads,
            activation=activation,
            names=called or {},
            encoder=encoder,
            open_clip=open_clip,
        )
        return guarded(used, "read these files", lambda: used.read(draft))

    def check(self, model: StoredModel, called: str) -> None:
        used = self._installed.of(model.manifest)
        guarded(used, f"check {called!r}", lambda: used.check(model, called))


def guarded(used: Architecture, what: str, run: Callable[[], T]) -> T:
    """What an architecture's code gives; what it raises is one of our errors.

    Raises:
        ArchitectureUnavailable: it raises an error that is none of ours.
    """
    try:
        return run()
    except (D3Error, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        package = f" of the package {used.package}" if used.package else ""
        raise ArchitectureUnavailable(
            f"The architecture {used.name!r}{package} failed to {what} ({said(error)}).",
            "Tell the package's authors, or use another model.",
        ) from error
