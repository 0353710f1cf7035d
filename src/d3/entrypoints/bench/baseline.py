"""What D3 is measured against: the published procedure, on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from d3.domain.images import Pixels
from d3.domain.models import EncoderSpec, Manifest, StoredModel, file_of
from d3.network import PLAIN, DiscrepancyHead, Encoder, draw_permutations
from d3.network.checkpoints import load_network, write_tensors
from d3.network.encoder import normalise

SHAPES = {
    "vit-l-14": EncoderSpec(),
    "vit-b-16": EncoderSpec(patch_size=16, width=768, layers=12, heads=12, mlp_width=3072),
    "vit-b-32": EncoderSpec(patch_size=32, width=768, layers=12, heads=12, mlp_width=3072),
}
"""Encoders of CLIP's family that can be measured with random weights."""


def published_procedure(
    model: StoredModel, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Callable[[Pixels], Tensor]:
    """Logits (n) of uint8 pixels (n, S, S, 3) as the authors' code computes them.

    Two forward passes through open_clip's modules, the second on images whose patches were
    shuffled in pixel space with one new permutation a batch.
    """
    spec = model.manifest.spec
    network = load_network(spec, model.encoder, model.head, tricks=PLAIN).to(device)
    network.encoder.to(dtype)
    network.head.float()
    encoder, side = network.encoder, spec.patch_size

    @torch.inference_mode()
    def score(pixels: Pixels) -> Tensor:
        images = normalise(torch.from_numpy(pixels).to(device))
        patches = torch.nn.functional.unfold(images, side, stride=side)
        order = torch.randperm(patches.shape[2], device=device)
        shuffled = torch.nn.functional.fold(
            patches[:, :, order], images.shape[-2:], side, stride=side
        )
        features = [
            encoder.encode(encoder.conv1(one.to(dtype)).flatten(2).mT).float()
            for one in (shuffled, images)
        ]
        logits: Tensor = network.head(*features)
        return logits

    return score


def random_model(folder: Path, name: str, spec: EncoderSpec) -> StoredModel:
    """A model of this shape with random weights and 16 permutations, stored in the folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder, head = Encoder(spec), DiscrepancyHead(spec.width)
        # As wide apart as a trained head's, so that a drift of the features shows in the logits.
        torch.nn.init.normal_(head.fc.weight, std=0.05)
    write_tensors(folder / "encoder.safetensors", encoder.state_dict())
    write_tensors(folder / "head.safetensors", head.state_dict())
    return stored_model(folder, name, spec)


def stored_model(folder: Path, name: str, spec: EncoderSpec) -> StoredModel:
    """The model of :func:`random_model` that lies in the folder."""
    encoder, head = folder / "encoder.safetensors", folder / "head.safetensors"
    manifest = Manifest(
        name=name,
        version=1,
        spec=spec,
        encoder=file_of(encoder),
        head=file_of(head),
        permutations=draw_permutations(0, 16, spec.patches),
        provenance="random weights, for measuring",
    )
    return StoredModel(manifest, encoder, head)
