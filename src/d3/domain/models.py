"""What a model is: an encoder, a head, and a manifest that says how they give a score."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from d3.domain.errors import ArchitectureUnsuitable, ModelNameInvalid
from d3.domain.inputs import InputSpec
from d3.domain.scoring import MAX_VIEWS, AbstainBand, Calibration, checked_threshold

Activation = Literal["quick_gelu", "gelu"]
Role: TypeAlias = str
"""What a file of a model is to it: ``encoder``, ``head``, ``int8``, or what another architecture
names; small letters, digits and ``_``."""

D3 = "d3"
"""The architecture of a manifest that names none."""

HEADS_ON_CLIP = frozenset({D3, "ufd"})
"""Architectures that are a head on CLIP's encoder: several can be scored in one forward pass."""

STARTER = "starter"
PUBLISHED = "d3-vit-l14"

PAST_NOTICES = {
    "a31e668074d9a2006851fd1482a85487c3f12a0599015b770c601f78d745727f": (
        "The starter model is for trying the software, not for judging real photographs."
    )
}
"""What must be said of encoders that D3 shipped once and ships no more, by their SHA-256."""

DERIVED_NOTICE = (
    "Demo model: it was made from a demo model, and the metrics of that model do not apply to it. "
    "Do not act on it."
)
"""What must be said of another head on the encoder of a model with a notice, or of that model at
another threshold: what was measured of the one says nothing of the other."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ROLE = re.compile(r"[a-z][a-z0-9_]{0,31}")


def checked_name(name: str) -> str:
    """The name, if it can be a model's.

    Raises:
        ModelNameInvalid: it holds anything but letters, digits, ``.``, ``_`` and ``-``, begins
            with a sign, is longer than 100 characters, or has two dots in a row.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise ModelNameInvalid(
            f"{name[:120]!r} cannot be a model's name.",
            "Use 1 to 100 letters, digits, '.', '_' and '-'. The first must be a letter or a "
            "digit.",
        )
    return name


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """The shape of a CLIP vision transformer; the defaults are ViT-L/14's (Radford et al., 2021).

    Attributes:
        image_size: side of the square input, in pixels.
        patch_size: side of a patch, in pixels; divides the image size.
        width: size of a token, and of the feature.
        layers: number of residual attention blocks.
        heads: attention heads; width / 64 in the published family.
        mlp_width: hidden size of a block's MLP.
        projection: columns of CLIP's projection, which D3 does not use; 0 where there is none.
        activation: of the MLP; OpenAI's weights want ``quick_gelu``.
    """

    image_size: int = 224
    patch_size: int = 14
    width: int = 1024
    layers: int = 24
    heads: int = 16
    mlp_width: int = 4096
    projection: int = 768
    activation: Activation = "quick_gelu"

    def __post_init__(self) -> None:
        sizes = (self.image_size, self.patch_size, self.width, self.layers, self.heads)
        if min(*sizes, self.mlp_width) < 1 or self.projection < 0:
            raise ValueError("every size of an encoder is positive")
        if self.image_size % self.patch_size:
            raise ValueError("the patch size must divide the image size")
        if self.width % self.heads:
            raise ValueError("the number of heads must divide the width")

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def patches(self) -> int:
        """Patches of an image."""
        return self.grid**2

    @property
    def operations(self) -> int:
        """Floating-point operations of one encoding: two for each multiplication with an add."""
        tokens, width = self.patches + 1, self.width
        products = tokens * (4 * width * width + 2 * width * self.mlp_width)
        attention = 2 * tokens * tokens * width
        embedding = self.patches * 3 * self.patch_size**2 * width
        return 2 * (self.layers * (products + attention) + embedding)


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One stored file of a model.

    Attributes:
        sha256: hexadecimal, of the stored bytes.
    """

    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.sha256) or self.size_bytes < 1:
            raise ValueError("a model file has 64 hexadecimal digits of SHA-256 and a size")


@dataclass(frozen=True, slots=True)
class Int8Candidate:
    """One way to compute an encoder in int8, and how far it was from fp32 on the same images.

    Attributes:
        name: such as ``"static"``; see :mod:`d3.adapters.openvino.search`.
        seconds: for one image at a time.
        speedup: over fp32, with which it took turns: what counts on a busy machine.
        mean_drift: of a probability, in [0, 1].
        max_drift: likewise.
        flips: the share of images whose probability went over to the other side of the threshold,
            of those outside the abstain band in fp32.
    """

    name: str
    seconds: float
    speedup: float
    mean_drift: float
    max_drift: float
    flips: float


@dataclass(frozen=True, slots=True)
class Int8Form:
    """An encoder's int8 form, for OpenVINO on a CPU, and what was measured when it was made.

    Attributes:
        file: the form.
        group: how many values of an activation share a scale that is found for each image; 0 where
            none is.
        kept: the name of the candidate that it is.
        candidates: that were measured; what was slower than one within the bounds was not.
        fp32_seconds: for one image at a time.
        max_mean_drift: the bound that was asked for.
        max_flips: likewise.
        learnt: images that scales were learnt from.
        measured: other images, which the candidates were measured on.
        images_sha256: one hash over the SHA-256 of all these images.
        base_sha256: :attr:`Manifest.sha256` of the model without the form.
        tools: versions of what made it, and the processor that it was measured on.
    """

    file: ModelFile
    group: int
    kept: str
    candidates: tuple[Int8Candidate, ...]
    fp32_seconds: float
    max_mean_drift: float
    max_flips: float
    learnt: int
    measured: int
    images_sha256: str
    base_sha256: str
    tools: dict[str, str]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything about a model but its weights.

    Attributes:
        name: see :func:`checked_name`.
        version: counts from 1; the same name stored again is the next version.
        spec: the shape of its CLIP encoder; None where its architecture has none.
        encoder: its file, shared by every model with the same one; None likewise.
        head: the file of what was trained for it; None where the architecture names other files.
        permutations: up to 16 orders of the patches; view ``k`` uses the ``k``-th. Output patch
            ``i`` is input patch ``permutation[i]``, patches counted in row-major order. Empty where
            the architecture shuffles nothing.
        permutation_seed: that they were drawn with; for the record only.
        threshold: the model's own, in [0, 1].
        licence: an SPDX expression or a sentence.
        notice: what must be said wherever this model is used; may be empty. It belongs to the
            encoder: see :func:`with_encoders_notice`.
        created_at: ISO 8601 in UTC.
        int8: a quicker form of the encoder, where the model has one.
        architecture: the name of what makes logits of pixels.
        package: the distribution that provides it; empty for what comes with D3.
        input: the pixels that it takes; None for a D3, which squashes to its encoder's size.
        config: what the architecture has to know of its files, such as ``{"dim": 96}``.
        parts: further files by their role.
        own_views: views of an architecture without permutations.
    """

    name: str
    version: int
    spec: EncoderSpec | None = None
    encoder: ModelFile | None = None
    head: ModelFile | None = None
    permutations: tuple[tuple[int, ...], ...] = ()
    permutation_seed: int | None = None
    threshold: float = 0.5
    calibration: Calibration = Calibration()
    abstain_band: AbstainBand = AbstainBand()
    licence: str = "unknown"
    provenance: str = ""
    notice: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    created_at: str = ""
    int8: Int8Form | None = None
    architecture: str = D3
    package: str = ""
    input: InputSpec | None = None
    config: dict[str, Any] = field(default_factory=dict)
    parts: dict[Role, ModelFile] = field(default_factory=dict)
    own_views: int = 1

    def __post_init__(self) -> None:
        checked_name(self.name)
        checked_threshold(self.threshold)
        if self.version < 1:
            raise ValueError("versions count from 1")
        if len(self.permutations) > MAX_VIEWS or not 1 <= self.own_views <= MAX_VIEWS:
            raise ValueError(f"a model has at most {MAX_VIEWS} permutations or views")
        if self.architecture == D3 and not (
            self.spec and self.encoder and self.head and self.permutations
        ):
            raise ValueError("a D3 has an encoder, a head and permutations")
        if self.input is None and self.spec is None:
            raise ValueError("a model without an encoder says what pixels it takes")
        every_patch = list(range(self.spec.patches)) if self.spec is not None else []
        if any(sorted(order) != every_patch for order in self.permutations):
            raise ValueError("each permutation names every patch exactly once")
        if not self.files or any(not _ROLE.fullmatch(role) for role in self.files):
            raise ValueError("a model has files, whose roles are small letters, digits and _")

    @property
    def sha256(self) -> str:
        """One hash over all that decides a logit: the files, the shape, the permutations."""
        decisive = self._decisive_of_d3() if self.architecture == D3 else self._decisive()
        return hashlib.sha256(json.dumps(decisive, separators=(",", ":")).encode()).hexdigest()

    def _decisive_of_d3(self) -> list[Any]:
        spec, files = self.encoder_spec, self.files
        decisive: list[Any] = [
            files["encoder"].sha256,
            files["head"].sha256,
            [spec.image_size, spec.patch_size, spec.heads, spec.activation],
            self.permutations,
        ]
        if self.int8 is not None:
            decisive += [self.int8.file.sha256, self.int8.group]
        if self.input is not None:
            decisive.append(astuple(self.input))
        return decisive

    def _decisive(self) -> list[Any]:
        return [
            self.architecture,
            {role: file.sha256 for role, file in sorted(self.files.items())},
            astuple(self.input_spec),
            None if self.spec is None else astuple(self.spec),
            sorted(self.config.items()),
            self.permutations,
            self.int8.group if self.int8 is not None else 0,
        ]

    @property
    def encoder_spec(self) -> EncoderSpec:
        """The shape of its CLIP encoder.

        Raises:
            ArchitectureUnsuitable: it has none.
        """
        if self.spec is None:
            raise ArchitectureUnsuitable(
                f"The model {self.name!r} is a {self.architecture}, which has no CLIP encoder.",
                "Name a D3 model.",
            )
        return self.spec

    @property
    def input_spec(self) -> InputSpec:
        """The pixels that it takes."""
        return self.input or InputSpec(self.encoder_spec.image_size)

    @property
    def features(self) -> tuple[object, ...]:
        """All that decides its encoder's features; a projection comes after them.

        Raises:
            ArchitectureUnsuitable: it has no encoder.
        """
        return self.encoder, replace(self.encoder_spec, projection=0), self.input_spec

    @property
    def views(self) -> int:
        """The most views that it can average."""
        return len(self.permutations) or self.own_views

    @property
    def files(self) -> dict[Role, ModelFile]:
        """Its files by their role."""
        files: dict[Role, ModelFile | None] = {
            "encoder": self.encoder,
            "head": self.head,
            "int8": None if self.int8 is None else self.int8.file,
            **self.parts,
        }
        return {role: file for role, file in files.items() if file is not None}

    @property
    def reference(self) -> ModelReference:
        """The few words by which a result names its model."""
        return ModelReference(self.name, self.version, self.sha256)


def derived_notice(manifest: Manifest) -> str:
    """What must be said of a model that was made from this one and judges otherwise."""
    return DERIVED_NOTICE if manifest.notice else ""


def notice_of(models: Iterable[Manifest]) -> str:
    """What must be said beside what these models say together; of several, also of which."""
    models, whose = [*models], dict[str, list[str]]()
    for one in models:
        whose.setdefault(one.notice, []).append(one.name)
    told = {notice: f"{' and '.join(names)}: {notice}" for notice, names in whose.items()}
    return " ".join(notice if len(models) == 1 else told[notice] for notice in whose if notice)


def with_encoders_notice(manifest: Manifest, known: Iterable[Manifest]) -> Manifest:
    """The manifest with the notice of its encoder, whoever made a model on it and how.

    Args:
        manifest: keeps a notice of its own.
        known: models, of which some may have the same encoder file and say something of it.
    """
    if manifest.notice or manifest.encoder is None:
        return manifest
    akin = [one for one in known if one.notice and one.encoder == manifest.encoder]
    same = next((one for one in akin if one.head == manifest.head), None)
    if same is not None:
        notice = same.notice
    else:
        notice = DERIVED_NOTICE if akin else PAST_NOTICES.get(manifest.encoder.sha256, "")
    return replace(manifest, notice=notice) if notice else manifest


@dataclass(frozen=True, slots=True)
class ModelReference:
    """Which model gave a result.

    Attributes:
        version: counts from 1.
        sha256: of all that decides a logit (:attr:`Manifest.sha256`).
    """

    name: str
    version: int
    sha256: str


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model whose files lie on this machine and match their hashes.

    Attributes:
        paths: its safetensors files by their role.
        beside: other heads on the same encoder and input, which are scored in the same forward
            pass; see :class:`d3.domain.ports.detector.Detector`.
    """

    manifest: Manifest
    paths: Mapping[Role, Path]
    beside: tuple[StoredModel, ...] = ()

    @property
    def encoder(self) -> Path:
        """The file of the encoder, of a model that has one."""
        return self.paths["encoder"]

    @property
    def head(self) -> Path:
        """The file of the head, of a model that has one."""
        return self.paths["head"]

    @property
    def int8(self) -> Path | None:
        """The file of the encoder's int8 form; None where the model has none."""
        return self.paths.get("int8")


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """One line of a list of models.

    Attributes:
        manifest: of the newest version.
        active: whether it is the one used when none is named.
        packaged: whether it ships with D3 and cannot be removed.
    """

    manifest: Manifest
    active: bool
    packaged: bool


def file_of(path: Path) -> ModelFile:
    """The size and SHA-256 of a file, read once.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
        return ModelFile(digest.hexdigest(), stream.tell())
