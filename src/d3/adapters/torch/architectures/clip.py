"""Architectures that are a head on CLIP's encoder: D3 and UniversalFakeDetect.

They share the encoder's fast way, on torch and OpenVINO; several of them on one encoder share its
forward pass.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from d3.adapters.torch.architectures.base import Architecture, Draft
from d3.adapters.torch.clip_table import fetch_entry, find_entry
from d3.domain.errors import CheckpointInvalid, ProjectionMissing
from d3.domain.inputs import Fit, InputSpec
from d3.domain.models import EncoderSpec, StoredModel
from d3.domain.scoring import MAX_VIEWS
from d3.network import DiscrepancyHead, ProbeHead, checkpoints, draw_permutations
from d3.network.encoder import with_normalisation

IMPORT_SEED = 2025
"""Permutations of imported models come from this seed, so that the same files give the same model
on every machine."""

PROJECTION = "projection"
_ENCODER = "CLIP's vision transformer"


class OnClip(Architecture):
    """A head on CLIP's encoder."""

    @abstractmethod
    def head(self, model: StoredModel) -> DiscrepancyHead | ProbeHead:
        """The head of a stored model, in evaluation mode, its weights on the CPU.

        Raises:
            CheckpointInvalid: the files do not match the manifest.
        """

    def check(self, model: StoredModel, called: str) -> None:
        self._check_files(model)
        spec = model.manifest.encoder_spec
        found, _, _ = checkpoints.read_clip(model.encoder, spec.heads, called=called)
        if replace(found, projection=spec.projection, activation=spec.activation) != spec:
            raise _not_the_manifests(called)
        if PROJECTION in model.paths:
            _check_projection(model.paths[PROJECTION], spec, called)

    def _encoder(self, draft: Draft) -> tuple[EncoderSpec, str]:
        """Keep the encoder, and CLIP's projection where it has one; its shape, and what it is."""
        if draft.encoder is not None:
            kept = (role for role in ("encoder", PROJECTION) if role in draft.encoder.paths)
            draft.paths.update({role: draft.encoder.paths[role] for role in kept})
            manifest = draft.encoder.manifest
            return manifest.encoder_spec, f"the encoder of {manifest.name!r}"
        if draft.open_clip is not None:
            spec, tensors, projection = _from_open_clip(draft.open_clip)
            called = draft.open_clip
        else:
            called = draft.called("encoder")
            spec, tensors, projection = checkpoints.read_clip(
                draft.file("encoder"), draft.heads, draft.activation, called=called
            )
        draft.keep("encoder", tensors)
        if projection is not None and _is_sound(projection, spec):
            draft.keep(PROJECTION, {"proj": projection})
        return spec, "the encoder"


class D3(OnClip):
    """D3: an image and its patch-shuffled versions, compared by an attention head."""

    files: ClassVar = {"encoder": _ENCODER, "head": "D3's head: query, key, value and fc"}
    views: ClassVar = MAX_VIEWS
    explains: ClassVar = True

    def read(self, draft: Draft) -> StoredModel:
        width, head = checkpoints.read_head(draft.file("head"), called=draft.called("head"))
        draft.keep("head", head)
        spec, encoder = self._encoder(draft)
        if width != spec.width:
            raise CheckpointInvalid(
                f"The head in {draft.called('head')!r} needs features of width {width}, but "
                f"{encoder} produces width {spec.width}.",
                "Use the encoder that the head was trained on. The published head needs CLIP "
                "ViT-L/14 with width 1024.",
            )
        fields: dict[str, Any] = {
            "permutations": draw_permutations(IMPORT_SEED, MAX_VIEWS, spec.patches),
            "permutation_seed": IMPORT_SEED,
        }
        if draft.encoder is not None and draft.encoder.manifest.permutations:
            donor = draft.encoder.manifest
            fields = {one: getattr(donor, one) for one in (*fields, "input")}
        return draft.model(spec=spec, **fields)

    def check(self, model: StoredModel, called: str) -> None:
        super().check(model, called)
        width, _ = checkpoints.read_head(model.head, called=called)
        if width != model.manifest.encoder_spec.width:
            raise _not_the_manifests(called)

    def head(self, model: StoredModel) -> DiscrepancyHead:
        self._check_files(model)
        return checkpoints.load_head(model.manifest.encoder_spec.width, model.head)


class Ufd(OnClip):
    """UniversalFakeDetect (Ojha et al., CVPR 2023): a linear layer on CLIP's projected feature."""

    files: ClassVar = {"encoder": f"{_ENCODER} with its projection", "head": "the linear layer"}

    def read(self, draft: Draft) -> StoredModel:
        columns, head = checkpoints.read_probe(draft.file("head"), called=draft.called("head"))
        draft.keep("head", head)
        spec, encoder = self._encoder(draft)
        if PROJECTION in draft.paths:
            spec = replace(spec, projection=_columns(draft.paths[PROJECTION]))
        elif _may_project(spec, columns):
            raise ProjectionMissing(
                f"A {self.name} needs CLIP's projection, which {encoder} does not have.",
                "Name a file that has it (`proj`) with --encoder, such as OpenAI's ViT-L/14.",
            )
        else:
            spec = replace(spec, projection=0)
        if columns != spec.projection:
            raise CheckpointInvalid(
                f"The head in {draft.called('head')!r} needs {columns} projected features, but "
                f"{encoder} has width {spec.width} and produces {spec.projection or 'none'}.",
                "Use the encoder that the head was trained on. The published head needs CLIP "
                "ViT-L/14 with 768.",
            )
        return draft.model(spec=spec, input=InputSpec(spec.image_size, Fit.CROP))

    def check(self, model: StoredModel, called: str) -> None:
        super().check(model, called)
        columns, _ = checkpoints.read_probe(model.head, called=called)
        if PROJECTION not in model.paths or columns != model.manifest.encoder_spec.projection:
            raise _not_the_manifests(called)

    def head(self, model: StoredModel) -> ProbeHead:
        self._check_files(model)
        spec = model.manifest.encoder_spec
        if PROJECTION not in model.paths:
            raise _not_the_manifests(model.manifest.name)
        return checkpoints.load_probe(
            spec.width, spec.projection, model.paths[PROJECTION], model.head
        )


def _may_project(spec: EncoderSpec, columns: int) -> bool:
    """Whether a projection to so many columns may be this encoder's, which was kept without one."""
    if spec.projection in {0, EncoderSpec().projection}:  # written where nobody looked at it
        return columns <= spec.width <= 2 * columns  # as in every published CLIP
    return columns == spec.projection


def _from_open_clip(name: str) -> tuple[EncoderSpec, Mapping[str, Tensor], Tensor | None]:
    entry = find_entry(name)
    file = fetch_entry(entry.name)
    spec, tensors, projection = checkpoints.read_clip(
        file, entry.spec.heads, entry.spec.activation, called=f"{entry.name} ({file.name})"
    )
    if replace(spec, projection=entry.spec.projection) != entry.spec:
        raise CheckpointInvalid(
            f"The shapes of the weights of {entry.name} do not match open_clip's table.",
            "Download them again, or import the file with --encoder.",
        )
    return spec, with_normalisation(tensors, entry.mean, entry.std), projection


def _is_sound(projection: Tensor, spec: EncoderSpec) -> bool:
    """Whether this is the encoder's projection; a D3 can do without."""
    try:
        checkpoints.check_projection(projection, spec.width)
    except CheckpointInvalid:
        return False
    return True


def _check_projection(file: Path, spec: EncoderSpec, called: str) -> None:
    tensors = checkpoints.read_tensors(file, called=called)
    if tensors.keys() != {"proj"}:
        raise _not_the_manifests(called)
    checkpoints.check_projection(tensors["proj"], spec.width, called)


def _columns(projection: Path) -> int:
    return checkpoints.read_tensors(projection)["proj"].shape[1]


def _not_the_manifests(called: str) -> CheckpointInvalid:
    return CheckpointInvalid(
        f"The shapes of the weights in {called!r} do not match the manifest.",
        "Get the model again from where it was made.",
    )
