"""Models small enough to make in a test: a D3 on 56 pixels, a probe beside it, a FerretNet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from d3.domain.inputs import Fit, InputSpec
from d3.domain.models import EncoderSpec, Manifest, ModelFile, StoredModel, file_of

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

TINY = EncoderSpec(
    image_size=56, patch_size=14, width=64, layers=2, heads=1, mlp_width=96, projection=0
)
"""The shape of :func:`tiny_model`'s encoder unless another is asked for."""


def tiny_manifest(
    encoder: ModelFile, head: ModelFile, name: str = "tiny", *, spec: EncoderSpec = TINY
) -> Manifest:
    """A manifest of 16 permutations for two files; what they hold is not looked at."""
    draw = np.random.default_rng(7)
    return Manifest(
        name=name,
        version=1,
        spec=spec,
        encoder=encoder,
        head=head,
        permutations=tuple(tuple(draw.permutation(spec.patches).tolist()) for _ in range(16)),
    )


def tiny_model(
    folder: Path, name: str = "tiny", *, seed: int = 0, spec: EncoderSpec = TINY
) -> StoredModel:
    """A complete D3 with random weights, written into the folder."""
    from d3.network import DiscrepancyHead, Encoder

    modules = _made(seed, lambda: {"encoder": Encoder(spec), "head": DiscrepancyHead(spec.width)})
    paths = {role: _written(folder / role, module.state_dict()) for role, module in modules.items()}
    manifest = tiny_manifest(file_of(paths["encoder"]), file_of(paths["head"]), name, spec=spec)
    return StoredModel(manifest, paths)


def tiny_ufd(
    folder: Path,
    name: str = "tiny-ufd",
    *,
    beside: StoredModel,
    seed: int = 0,
    fit: Fit = Fit.CROP,
) -> StoredModel:
    """A UniversalFakeDetect with random weights on the encoder of another model.

    Args:
        folder: for its own files.
        name: its own.
        beside: it shares the file of this model's encoder.
        seed: of the weights.
        fit: of its input; with ``squash`` it takes the same pixels as a D3.
    """
    from d3.network import ProbeHead

    spec = replace(beside.manifest.encoder_spec, projection=32)
    probe = _made(seed, lambda: ProbeHead(spec.width, spec.projection))
    paths = {
        "encoder": beside.encoder,
        "projection": _written(folder / f"{name}-projection", {"proj": probe.proj}),
        "head": _written(folder / f"{name}-head", probe.fc.state_dict()),
    }
    manifest = Manifest(
        name=name,
        version=1,
        architecture="ufd",
        spec=spec,
        input=InputSpec(spec.image_size, fit),
        encoder=beside.manifest.encoder,
        head=file_of(paths["head"]),
        parts={"projection": file_of(paths["projection"])},
    )
    return StoredModel(manifest, paths)


def tiny_ferretnet(
    folder: Path, name: str = "tiny-ferretnet", *, seed: int = 0, size: int = 48
) -> StoredModel:
    """A FerretNet of one stage with random weights, which crops to ``size`` pixels."""
    from d3.network import FerretNet

    network = _written(folder / name, _made(seed, lambda: FerretNet(8, [1])).state_dict())
    manifest = Manifest(
        name=name,
        version=1,
        architecture="ferretnet",
        input=InputSpec(size, Fit.CROP),
        config={"dim": 8, "depths": [1], "window": 3},
        parts={"network": file_of(network)},
    )
    return StoredModel(manifest, {"network": network})


def _made(seed: int, make: Callable[[], T]) -> T:
    """What is made, its random weights the same for the same seed."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def _written(stem: Path, tensors: Mapping[str, Tensor]) -> Path:
    from d3.network.checkpoints import write_tensors

    file = stem.with_name(f"{stem.name}.safetensors")
    write_tensors(file, {name: one for name, one in tensors.items() if one.is_floating_point()})
    return file
