"""Runs reference packs: images, weights and permutations with the published code's logits."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from d3.adapters.pillow import PillowDecoder
from d3.adapters.torch import TorchArchitectures, TorchEngine
from d3.domain.models import Manifest
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


def score_second_pack(folder: str | Path) -> dict[str, dict[str, float]]:
    """Our logits for every image of a pack of other detectors, in float32 on the CPU.

    Args:
        folder: holds ``expected.json``, of which only what describes the networks is read, and
            their files; the encoder, ``visual.safetensors``, and ``images/`` lie beside it.

    Returns:
        ``{image_name: {"ferretnet": logit, "ufd": logit}}``, by name.

    Raises:
        D3Error: a file of the pack cannot be used.
    """
    folder = Path(folder)
    described = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    beside = folder.parent / "expected.json"
    encoder = json.loads(beside.read_text(encoding="utf-8"))["encoder"] if beside.is_file() else {}
    decoder, engine = PillowDecoder(), TorchEngine("cpu", "fp32")
    scores: dict[str, dict[str, float]] = {
        image.name: {} for image in sorted((folder.parent / "images").iterdir())
    }
    with tempfile.TemporaryDirectory(prefix="d3-pack-") as made:
        for architecture, files in (
            ("ferretnet", {"network": folder / described["ferretnet"]["file"]}),
            (
                "ufd",
                {
                    "encoder": folder.parent / "visual.safetensors",
                    "head": folder / described["ufd"]["file"],
                },
            ),
        ):
            model = TorchArchitectures().read(
                architecture,
                architecture,
                files,
                Path(made),
                heads=encoder.get("heads"),
                activation=encoder.get("activation", "quick_gelu"),
            )
            manifest = _as_described(model.manifest, described[architecture])
            detector = engine.load(replace(model, manifest=manifest))
            wanted = manifest.input_spec.pixels
            for name, logits in scores.items():
                pixels = decoder.decode(folder.parent / "images" / name, wanted).pixels
                logits[architecture] = float(detector.score(pixels[None], 1)[0, 0])
            detector.close()
    return scores


def _as_described(manifest: Manifest, described: Mapping[str, Any]) -> Manifest:
    """The manifest with what weights do not tell."""
    told = {one: described[one] for one in ("window",) if one in described}
    size = described.get("crop", manifest.input_spec.size)
    return replace(
        manifest,
        config={**manifest.config, **told},
        input=replace(manifest.input_spec, size=size),
    )
