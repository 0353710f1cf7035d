"""Lists, imports, chooses, verifies and removes models.

A head alone becomes a model on an encoder that is there already.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from d3.domain.errors import (
    ArchitectureUnavailable,
    ArchitectureUnsuitable,
    CheckpointInvalid,
    ModelProtected,
    ProjectionMissing,
)
from d3.domain.models import (
    D3,
    PUBLISHED,
    STARTER,
    Activation,
    Manifest,
    ModelSummary,
    Role,
    StoredModel,
    checked_name,
    derived_notice,
)
from d3.domain.ports.architectures import ArchitectureInfo, Architectures, not_installed
from d3.domain.ports.models import ModelRegistry
from d3.domain.services.copying import versions_of
from d3.domain.services.model_host import ModelHost

_Manifests: TypeAlias = list[Manifest]  # within the class, list is a method
_Infos: TypeAlias = list[ArchitectureInfo]


class ModelService:
    """What people do with models.

    Args:
        encoder: see :class:`ModelImporter`.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        architectures: Callable[[], Architectures],
        host: ModelHost,
        encoder: str | None = None,
    ) -> None:
        self._registry = registry
        self._architectures = architectures
        self._host = host
        self._importer = ModelImporter(registry, architectures, encoder)

    def list(self) -> list[ModelSummary]:
        chosen = self._host.chosen()
        return [replace(one, active=one.manifest.name == chosen) for one in self._registry.list()]

    def architectures(self) -> _Infos:
        """What is installed, by name."""
        return self._architectures().list()

    def trouble(self, manifest: Manifest) -> ArchitectureUnavailable | None:
        """Why a model cannot be used here, and what to do; None where its architecture is there.

        It is quick for what comes with D3; another package has to be imported to know.
        """
        if not manifest.package:
            return None
        name = manifest.architecture
        info = next((one for one in self.architectures() if one.name == name), None)
        if info is not None:
            return ArchitectureUnavailable(info.trouble) if info.trouble else None
        return not_installed(manifest)

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
        encoder: Path | None = None,
        head: Path | None = None,
        *,
        architecture: str = D3,
        files: Mapping[Role, Path] | None = None,
        open_clip: str | None = None,
        encoder_of: StoredModel | None = None,
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
            head: holds a head of the architecture; may be the same file.
            architecture: see :meth:`architectures`.
            files: by their role, for architectures that want others.
            open_clip: ``MODEL:TAG`` of open_clip's table, such as ``ViT-L-14:openai``, in place of
                the encoder's file; open_clip fetches it.
            encoder_of: a stored model whose encoder is used, likewise.
            heads: the encoder's attention heads; its width / 64 unless given.
            activation: of the encoder's MLPs; OpenAI's weights want ``quick_gelu``.
            provenance: where the files came from; their names unless given.
            licence: of the files.
            metrics: measured figures.

        Raises:
            ArchitectureUnavailable: the architecture is not installed, or cannot be used.
            CheckpointInvalid: a file is missing or is not what it should be, or two do not fit
                together.
            SourceUnavailable: open_clip's weights are not in its cache and cannot be fetched.
            ModelNameInvalid: the name is not valid.
            ModelProtected: it is a packaged model's.
        """
        given: dict[Role, Path | None] = {"encoder": encoder, "head": head, **(files or {})}
        found = {role: file for role, file in given.items() if file is not None}
        names = dict.fromkeys(file.name for file in found.values())
        open_clips = [f"open_clip's {open_clip}"] if open_clip is not None else []
        said = " and ".join([*open_clips, *names])
        return self._importer.import_files(
            name,
            architecture,
            found,
            {"provenance": provenance or f"imported from {said}"}
            | {"licence": licence, "metrics": dict(metrics or {})},
            heads=heads,
            activation=activation,
            open_clip=open_clip,
            encoder=encoder_of,
        )

    def import_file(
        self,
        name: str,
        file: Path,
        *,
        architecture: str = D3,
        provenance: str = "",
        called: str | None = None,
    ) -> Manifest:
        """Make a model of one file: see :meth:`ModelImporter.import_file`."""
        return self._importer.import_file(
            name,
            file,
            architecture=architecture,
            provenance=provenance or f"imported from {file.name}",
            called=called,
        )

    def use(self, name: str) -> Manifest:
        """Use this model when none is named; it is verified first.

        Raises:
            ModelNotFound: there is none.
            ModelDamaged: its files do not match their hashes.
            ArchitectureUnavailable: what makes its scores is not installed, or cannot be used.
        """
        manifest = self.verify(name)
        if (trouble := self.trouble(manifest)) is not None:
            raise trouble
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


class ModelImporter:
    """Makes models of files, and of heads on encoders that are there already.

    Args:
        encoder: the model whose encoder a head alone gets; by default one that fits it: the
            published detector's before others, a packaged one before a user's.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        architectures: Callable[[], Architectures],
        encoder: str | None = None,
    ) -> None:
        self._registry = registry
        self._architectures = architectures
        self._encoder = encoder

    def import_files(
        self,
        name: str,
        architecture: str,
        files: Mapping[Role, Path],
        manifest: Mapping[str, Any],
        **options: Any,
    ) -> Manifest:
        """Store a model of files, as the next version of the name.

        Args:
            name: see :func:`d3.domain.models.checked_name`.
            architecture: its name.
            files: by their role.
            manifest: fields that the files do not tell.
            options: see :meth:`d3.domain.ports.architectures.Architectures.read`.
        """
        _check_own(name)
        with tempfile.TemporaryDirectory(prefix="d3-import-") as folder:
            read = self._architectures().read(architecture, name, files, Path(folder), **options)
            return self._registry.put(replace(read, manifest=replace(read.manifest, **manifest)))

    def import_file(
        self,
        name: str,
        file: Path,
        *,
        provenance: str,
        architecture: str = D3,
        created_at: str = "",
        called: str | None = None,
    ) -> Manifest:
        """Store a model of one file, as the next version of the name.

        The file is all that its architecture wants, or a head, which gets an encoder that is there.

        Args:
            name: see :func:`d3.domain.models.checked_name`.
            file: ``.safetensors`` or ``.pth``.
            provenance: where it came from.
            architecture: its name.
            created_at: ISO 8601 in UTC; now unless given.
            called: the file's name in errors; its own unless given.

        Raises:
            ArchitectureUnavailable: the architecture is not installed, or cannot be used.
            ArchitectureUnsuitable: it wants more files than one.
            CheckpointInvalid: the file is not what it should be, or no encoder here fits it.
            ModelNotFound: there is no model with the encoder to use.
            ModelNameInvalid: the name is not valid.
            ModelProtected: it is a packaged model's.
        """
        role = self._role_of_one_file(architecture)
        fields = {"provenance": provenance, "created_at": created_at}
        options = {} if called is None else {"called": {role: called}}
        if role != "head":
            return self.import_files(name, architecture, {role: file}, fields, **options)
        _check_own(name)
        refused: CheckpointInvalid | None = None
        incomplete: list[str] = []
        for donor in self._donors():
            on = f"{provenance}, on the encoder of {donor.manifest.name}"
            fields |= {"provenance": on, "notice": derived_notice(donor.manifest)}
            try:
                return self.import_files(
                    name, architecture, {role: file}, fields, encoder=donor, **options
                )
            except ProjectionMissing:
                incomplete.append(repr(donor.manifest.name))
            except CheckpointInvalid as error:
                refused = refused or error
        if incomplete:
            names = " and ".join(incomplete)
            whose = (
                f"the encoder of {names}, whose width fits, is stored without it"
                if len(incomplete) == 1
                else f"the encoders of {names}, whose widths fit, are stored without it"
            )
            raise ProjectionMissing(
                f"A {architecture} needs CLIP's projection, and {whose}.",
                "Import the encoder again from a file that has it (`proj`), such as OpenAI's "
                f"ViT-L/14: `d3 models import NAME --architecture {architecture} --encoder FILE "
                "--head FILE`.",
            )
        assert refused is not None
        raise refused

    def _role_of_one_file(self, architecture: str) -> Role:
        """What a single file is to an architecture."""
        infos = {one.name: one for one in self._architectures().list()}
        wanted = infos[architecture].files if architecture in infos else None
        roles = list(wanted or {"head": ""})  # the architecture itself says why it cannot be used
        if len(roles) == 1:
            return roles[0]
        if set(roles) == {"encoder", "head"}:
            return "head"
        raise ArchitectureUnsuitable(
            f"A {architecture} is made of {' and '.join(roles)}, not of one file.",
            f"Run `d3 models import NAME --architecture {architecture}` with --file ROLE=FILE for "
            "each.",
        )

    def _donors(self) -> Iterator[StoredModel]:
        """Models whose encoder a head alone may get: one for each encoder, the first that fits."""
        if self._encoder is not None:
            yield self._registry.open(self._encoder)
            return
        there = [one for one in self._registry.list() if one.manifest.encoder is not None]
        there.sort(key=lambda one: (one.manifest.name != PUBLISHED, not one.packaged))
        if not there:
            raise CheckpointInvalid(
                "A head alone needs an encoder, and no model here has one.",
                "Import one first: `d3 models import NAME --encoder FILE --head FILE`.",
            )
        seen = set()
        for one in there:
            files = one.manifest.files
            has = (files["encoder"].sha256, "projection" in files)
            if has not in seen:
                seen.add(has)
                yield self._registry.open(one.manifest.name)


def _check_own(name: str) -> None:
    """Check that a user may store a model under this name."""
    if checked_name(name) == STARTER:
        raise ModelProtected("The starter model ships with D3.", "Choose another name.")
