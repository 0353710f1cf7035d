"""Models small enough to make in a test: a vision transformer of two layers on 56 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from d3.domain.models import EncoderSpec, Manifest, ModelFile, StoredModel, file_of

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
    """A complete model with random weights, written into the folder."""
    import torch

    from d3.network import DiscrepancyHead, Encoder
    from d3.network.checkpoints import write_tensors

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        modules = {"encoder": Encoder(spec), "head": DiscrepancyHead(spec.width)}
    for role, module in modules.items():
        write_tensors(folder / f"{role}.safetensors", module.state_dict())
    encoder, head = folder / "encoder.safetensors", folder / "head.safetensors"
    manifest = tiny_manifest(file_of(encoder), file_of(head), name, spec=spec)
    return StoredModel(manifest, {"encoder": encoder, "head": head})
