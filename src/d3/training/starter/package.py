"""The manifest that makes a folder of weights a packaged model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from d3.domain.hashing import file_of
from d3.domain.models import EncoderSpec, Manifest
from d3.domain.scoring import Calibration
from d3.evaluation.calibration import Fitted

LICENCE = "Apache-2.0"


def write_manifest(
    folder: Path,
    *,
    name: str,
    spec: EncoderSpec,
    permutations: tuple[tuple[int, ...], ...],
    permutation_seed: int,
    fitted: Fitted,
    provenance: str,
    notice: str,
    metrics: Mapping[str, Any],
) -> Manifest:
    """Write ``manifest.json`` beside ``encoder.safetensors`` and ``head.safetensors``.

    Args:
        folder: holds both files; read by the registry as it stands.
        name: the model's.
        spec: the encoder's shape.
        permutations: up to 16 orders of the patches.
        permutation_seed: where they came from.
        fitted: calibration, threshold and abstain band.
        provenance: how the weights were made.
        notice: what every face says when the model answers.
        metrics: the figures that `d3 models info` shows.
    """
    manifest = Manifest(
        name=name,
        version=1,
        spec=spec,
        encoder=file_of(folder / "encoder.safetensors"),
        head=file_of(folder / "head.safetensors"),
        permutations=permutations,
        permutation_seed=permutation_seed,
        threshold=fitted.threshold,
        calibration=Calibration(fitted.scale, fitted.bias, name),
        abstain_band=fitted.band,
        licence=LICENCE,
        provenance=provenance,
        notice=notice,
        metrics=dict(metrics),
        created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest) + b"\n")
    return manifest
