"""Keeping models: list them, import them from files, choose, verify and remove them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from d3.domain.errors import CheckpointInvalid, ModelProtected
from d3.domain.hashing import file_of
from d3.domain.models import STARTER, Activation, Manifest, ModelSummary, checked_name
from d3.domain.ports.models import CheckpointFile, Checkpoints, ModelRegistry
from d3.domain.scoring import MAX_VIEWS
from d3.domain.services.binding import HeadBinder
from d3.domain.services.copying import versions_of
from d3.domain.services.model_host import ModelHost

IMPORT_SEED = 2025
"""Permutations of imported models come from this seed, so that the same files give the same model
on every machine."""


_Manifests: TypeAlias = list[Manifest]  # within the class, list is a method


class ModelService:
    """What people do with models."""

    def __init__(
        self,
        registry: ModelRegistry,
        checkpoints: Callable[[], Checkpoints],
        host: ModelHost,
        encoder: str | None = None,
    ) -> None:
        self._registry = registry
        self._checkpoints = checkpoints
        self._host = host
        self._encoder = encoder

    def list(self) -> list[ModelSummary]:
        """The newest version of every model, by name; the one in use is marked active."""
        chosen = self._host.chosen()
        return [replace(one, active=one.manifest.name == chosen) for one in self._registry.list()]

    def info(self, name: str, version: int | None = None) -> Manifest:
        """One model's manifest.

        Raises:
            ModelNotFound: there is none of that name and version.
        """
        return self._registry.describe(name, version)

    def versions(self, name: str) -> _Manifests:
        """The manifests of all versions, oldest first.

        Raises:
            ModelNotFound: there is none of that name.
            ModelDamaged: one cannot be read.
        """
        return versions_of(self._registry, name) or [self._registry.describe(name)]

    def import_files(
        self,
        name: str,
        encoder: Path,
        head: Path,
        *,
        heads: int | None = None,
        activation: Activation = "quick_gelu",
        provenance: str = "",
        licence: str = "unknown",
        metrics: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Make a model of local checkpoint files, as the next version of its name.

        Args:
            name: see :func:`d3.domain.models.checked_name`.
            encoder: holds a CLIP vision transformer, ``.safetensors`` or ``.pth``.
            head: holds a D3 head, likewise; it may be the same file.
            heads: the encoder's attention heads; its width / 64 unless said.
            activation: of the encoder's MLPs; OpenAI's weights want ``quick_gelu``.
            provenance: where the files came from; their names unless said.
            licence: of the files.
            metrics: measured figures.

        Raises:
            CheckpointInvalid: a file is not what it should be, or the two do not fit together.
            ModelNameInvalid: the name cannot be a model's.
            ModelProtected: it is a packaged model's.
        """
        names = dict.fromkeys((encoder.name, head.name))
        return self._import(
            name,
            lambda folder: self._checkpoints().read_encoder(encoder, folder, heads, activation),
            head,
            provenance=provenance or f"imported from {' and '.join(names)}",
            licence=licence,
            metrics=metrics,
        )

    def import_open_clip(self, name: str, encoder: str, head: Path) -> Manifest:
        """Make a model of an encoder of open_clip's table, which open_clip fetches, and a head.

        Args:
            name: see :func:`d3.domain.models.checked_name`.
            encoder: ``MODEL:TAG``, such as ``ViT-L-14:openai``.
            head: ``.safetensors`` or ``.pth``.

        Raises:
            CheckpointInvalid: there is no such encoder, it is no plain vision transformer of CLIP,
                or the head is none or does not fit it.
            SourceUnavailable: its weights are neither in open_clip's cache nor to be had.
            ModelNameInvalid: the name cannot be a model's.
            ModelProtected: it is a packaged model's.
        """
        return self._import(
            name,
            lambda folder: self._checkpoints().read_open_clip(encoder, folder),
            head,
            provenance=f"imported from open_clip's {encoder} and {head.name}",
        )

    def _import(
        self,
        name: str,
        read_encoder: Callable[[Path], CheckpointFile],
        head: Path,
        *,
        provenance: str,
        licence: str = "unknown",
        metrics: Mapping[str, Any] | None = None,
    ) -> Manifest:
        if checked_name(name) == STARTER:
            raise ModelProtected("The starter model ships with D3.", "Choose another name.")
        with tempfile.TemporaryDirectory(prefix="d3-import-") as folder:
            checkpoints = self._checkpoints()
            top = checkpoints.read_head(head, Path(folder))
            body = read_encoder(Path(folder))
            assert body.spec is not None
            if top.width != body.width:
                raise CheckpointInvalid(
                    f"The head in {head.name!r} takes features of width {top.width}, "
                    f"the encoder makes {body.width}.",
                    "Use the encoder that the head was trained on; the published head wants "
                    "CLIP ViT-L/14, width 1024.",
                )
            manifest = Manifest(
                name=name,
                version=1,
                spec=body.spec,
                encoder=file_of(body.path),
                head=file_of(top.path),
                permutations=checkpoints.draw_permutations(
                    IMPORT_SEED, MAX_VIEWS, body.spec.patches
                ),
                permutation_seed=IMPORT_SEED,
                provenance=provenance,
                licence=licence,
                metrics=dict(metrics or {}),
            )
            return self._registry.put(manifest, body.path, top.path)

    def import_head(
        self, name: str, head: Path, *, provenance: str = "", called: str | None = None
    ) -> Manifest:
        """Make a model of a head alone, bound to an encoder that is there already.

        Args:
            name: see :func:`d3.domain.models.checked_name`.
            head: ``.safetensors`` or ``.pth``.
            provenance: where it came from; its file's name unless said.
            called: what to blame the file as; its name unless said.

        Raises:
            CheckpointInvalid: it is no head, or no encoder here makes features of its width.
            ModelNotFound: the model that ``D3_ENCODER`` names is not there.
            ModelNameInvalid: the name cannot be a model's.
            ModelProtected: it is a packaged model's.
        """
        binder = HeadBinder(self._registry, self._checkpoints, self._encoder)
        return binder.bind(name, head, provenance=provenance or head.name, called=called)

    def use(self, name: str) -> Manifest:
        """Make this model the one that answers when none is named; it is verified first.

        Raises:
            ModelNotFound: there is none.
            ModelDamaged: its files do not match their hashes.
        """
        manifest = self.verify(name)
        self._registry.activate(name)
        return manifest

    def verify(self, name: str, version: int | None = None) -> Manifest:
        """Check the stored files against their SHA-256.

        Raises:
            ModelNotFound: there is none.
            ModelDamaged: a file is missing or is not the one recorded.
        """
        return self._registry.verify(name, version)

    def remove(self, name: str, version: int | None = None) -> None:
        """Remove a model, or one version of it.

        Raises:
            ModelNotFound: there is none.
            ModelProtected: it ships with D3, or is the active one.
        """
        self._registry.delete(name, version)
