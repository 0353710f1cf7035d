"""Runs a reference pack: images, weights and permutations with the published code's logits."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from d3.adapters.pillow import PillowDecoder
from d3.network import D3Network, DiscrepancyHead, Encoder
from d3.network.checkpoints import read_encoder, read_head


def score_reference_pack(folder: str | Path) -> dict[str, list[float]]:
    """Our logits for every image of a pack, one per permutation, in float32 on the CPU.

    Args:
        folder: holds ``visual.safetensors``, ``classifier.pth``, ``images/`` and
            ``expected.json``, of which only ``encoder`` and ``shuffle`` are read.

    Returns:
        ``{image_name: [logit per permutation]}``, by name.

    Raises:
        D3Error: a file of the pack cannot be used.
    """
    folder = Path(folder)
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    described = expected["encoder"]
    spec, tensors = read_encoder(
        folder / "visual.safetensors",
        heads=described.get("heads"),
        activation=described.get("activation", "quick_gelu"),
    )
    width, head_tensors = read_head(folder / "classifier.pth")
    network = D3Network(Encoder(spec), DiscrepancyHead(width))
    network.encoder.load_state_dict(tensors)
    network.head.load_state_dict(head_tensors)
    network.eval()
    permutations = torch.tensor(expected["shuffle"]["permutations"])
    decoder = PillowDecoder()
    logits: dict[str, list[float]] = {}
    with torch.inference_mode():
        for image in sorted((folder / "images").iterdir()):
            pixels = torch.from_numpy(decoder.decode(image, spec.image_size).pixels)
            logits[image.name] = network(pixels[None], permutations)[0].tolist()
    return logits
