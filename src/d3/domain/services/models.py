"""Lists, imports, chooses, verifies and removes models.

A head alone becomes a model on an encoder that is there already.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from d3.domain.errors import CheckpointInvalid, ModelProtected
from d3.domain.models import (
    PUBLISHED,
    STARTER,
    Activation,
    Manifest,
    ModelSummary,
    StoredModel,
    checked_name,
    derived_notice,
    file_of,
)
from d3.domain.ports.models import CheckpointFile, Checkpoints, ModelRegistry
from d3.domain.scoring import MAX_VIEWS, AbstainBand, Calibration
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
        chosen = self._host.chosen()
        return [replace(one, active=one.manifest.name == chosen) for one in self._registry.list()]

    def info(self, name: str, version: int | None = None) -> Manifest:
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
            head: holds a D3 head; may be the same file.
            heads: the encoder's attention heads; its width / 64 unless given.
            activation: of the encoder's MLPs; OpenAI's weights want ``quick_gelu``.
            provenance: where the files came from; their names unless given.
            licence: of the files.
            metrics: measured figures.

        Raises:
            CheckpointInvalid: a file is not what it should be, or the two do not fit together.
            ModelNameInvalid: the name is not valid.
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
            SourceUnavailable: its weights are not in open_clip's cache and cannot be fetched.
            ModelNameInvalid: the name is not valid.
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
        _check_own(name)
        with tempfile.TemporaryDirectory(prefix="d3-import-") as folder:
            checkpoints = self._checkpoints()
            top = checkpoints.read_head(head, Path(folder))
            body = read_encoder(Path(folder))
            assert body.spec is not None
            if top.width != body.width:
                raise CheckpointInvalid(
                    f"The head in {head.name!r} needs features of width {top.width}, but the "
                    f"encoder produces width {body.width}.",
                    "Use the encoder that the head was trained on. The published head needs CLIP "
                    "ViT-L/14 with width 1024.",
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
            return self._registry.put(
                StoredModel(manifest, {"encoder": body.path, "head": top.path})
            )

    def import_head(
        self, name: str, head: Path, *, provenance: str = "", called: str | None = None
    ) -> Manifest:
        """Make a model of a head alone, on an encoder that is there already.

        Args:
            name: see :func:`d3.domain.models.checked_name`.
            head: ``.safetensors`` or ``.pth``.
            provenance: where it came from; its file's name unless given.
            called: the file's name in errors; its own unless given.

        Raises:
            CheckpointInvalid: it is no head, or no encoder here makes features of its width.
            ModelNotFound: there is no model of the name in ``D3_ENCODER``.
            ModelNameInvalid: the name is not valid.
            ModelProtected: it is a packaged model's.
        """
        binder = HeadBinder(self._registry, self._checkpoints, self._encoder)
        return binder.bind(name, head, provenance=provenance or head.name, called=called)

    def use(self, name: str) -> Manifest:
        """Use this model when none is named; it is verified first.

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
            ModelDamaged: a file is missing or does not match.
        """
        return self._registry.verify(name, version)

    def remove(self, name: str, version: int | None = None) -> None:
        """Remove a model, or one version of it.

        Raises:
            ModelNotFound: there is none.
            ModelProtected: it ships with D3, or is the active one.
        """
        self._registry.delete(name, version)


class HeadBinder:
    """Makes models of heads and encoders that are there already.

    Args:
        encoder: the model whose encoder is used; by default one of the head's width: the published
            detector's before others, a packaged one before a user's.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        checkpoints: Callable[[], Checkpoints],
        encoder: str | None = None,
    ) -> None:
        self._registry = registry
        self._checkpoints = checkpoints
        self._encoder = encoder

    def bind(
        self,
        name: str,
        head: Path,
        *,
        provenance: str,
        created_at: str = "",
        called: str | None = None,
    ) -> Manifest:
        """Store the head with the fitting encoder, as the next version of the name.

        Args:
            name: see :func:`d3.domain.models.checked_name`.
            head: ``.safetensors`` or ``.pth``.
            provenance: where it came from.
            created_at: ISO 8601 in UTC; now unless given.
            called: the file's name in errors; its own unless given.

        Raises:
            CheckpointInvalid: it is no head, or no encoder here makes features of its width.
            ModelNotFound: there is no model with the encoder to use.
            ModelNameInvalid: the name is not valid.
            ModelProtected: it is a packaged model's.
        """
        _check_own(name)
        with tempfile.TemporaryDirectory(prefix="d3-import-") as folder:
            top = self._checkpoints().read_head(head, Path(folder), called=called)
            donor = self._donor(top.width)
            manifest = replace(
                donor.manifest,
                name=name,
                version=1,
                head=file_of(top.path),
                threshold=0.5,
                calibration=Calibration(),
                abstain_band=AbstainBand(),
                licence="unknown",
                provenance=f"{provenance}, on the encoder of {donor.manifest.name}",
                notice=derived_notice(donor.manifest),
                metrics={},
                created_at=created_at,
                int8=None,
            )
            return self._registry.put(
                StoredModel(manifest, {"encoder": donor.encoder, "head": top.path})
            )

    def _donor(self, width: int) -> StoredModel:
        """The model whose encoder a head of this width gets."""
        if self._encoder is not None:
            donor = self._registry.open(self._encoder)
            if donor.manifest.encoder_spec.width == width:
                return donor
            raise CheckpointInvalid(
                f"The head needs features of width {width}, but the encoder of {self._encoder!r} "
                f"(D3_ENCODER) produces width {donor.manifest.encoder_spec.width}.",
                "Use a head trained on that encoder, or change D3_ENCODER.",
            )
        fitting = [one for one in self._registry.list() if one.manifest.encoder_spec.width == width]
        fitting.sort(key=lambda one: (one.manifest.name != PUBLISHED, not one.packaged))
        if fitting:
            return self._registry.open(fitting[0].manifest.name)
        raise CheckpointInvalid(
            f"The head needs features of width {width}, and no encoder in the registry produces "
            "them.",
            "Import the encoder first: `d3 models import NAME --encoder FILE --head FILE`. The "
            "published head needs CLIP ViT-L/14 with width 1024.",
        )


def _check_own(name: str) -> None:
    """Check that a user may store a model under this name."""
    if checked_name(name) == STARTER:
        raise ModelProtected("The starter model ships with D3.", "Choose another name.")
