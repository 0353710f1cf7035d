"""The device that all contestants use: one that sleeps a + b * n seconds, or a real ViT-L/14."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from d3.adapters.pillow import PillowDecoder
from d3.domain.images import Pixels
from d3.domain.models import EncoderSpec, Manifest, StoredModel
from d3.domain.ports.detector import Detector, Logits

SPEC = EncoderSpec()
FIXED = float(os.environ.get("BENCHMARK_FIXED", "0.020"))
EACH = float(os.environ.get("BENCHMARK_EACH", "0.010"))
BATCH = 32
DEADLINE = 1.0
"""Seconds a request has, in which alone its answer counts."""


_decoder = PillowDecoder()


def decoded(data: bytes) -> Pixels:
    """Pixels for the device."""
    return _decoder.decode(data, SPEC.image_size).pixels


class Sleeping:
    """A detector that sleeps."""

    engine, device, precision = "sleeping", "none", "fp32"
    weights_bytes = 0

    def score(self, pixels: Pixels, views: int) -> Logits:
        time.sleep(FIXED + EACH * len(pixels))
        return np.zeros((len(pixels), views))

    def close(self) -> None:
        pass


def device() -> Detector:
    """What BENCHMARK_DEVICE says."""
    if os.environ.get("BENCHMARK_DEVICE") == "vit":
        return vit()
    return Sleeping()


def vit() -> Detector:
    """ViT-L/14 with random weights on the CPU, in the precision that is quicker there."""
    from d3.adapters.torch import TorchEngine

    return TorchEngine("cpu", "bf16", BATCH).load(stored(Path(os.environ["BENCHMARK_FOLDER"])))


def stored(folder: Path) -> StoredModel:
    """The model in the folder, made if need be."""
    import torch

    from d3.domain.models import file_of
    from d3.network import DiscrepancyHead, Encoder, draw_permutations
    from d3.network.checkpoints import write_tensors

    encoder, head = folder / "encoder.safetensors", folder / "head.safetensors"
    if not head.exists():
        torch.manual_seed(0)
        write_tensors(encoder, Encoder(SPEC).state_dict())
        write_tensors(head, DiscrepancyHead(SPEC.width).state_dict())
    manifest = Manifest(
        name="random",
        version=1,
        spec=SPEC,
        encoder=file_of(encoder),
        head=file_of(head),
        permutations=draw_permutations(0, 1, SPEC.patches),
    )
    return StoredModel(manifest, {"encoder": encoder, "head": head})
