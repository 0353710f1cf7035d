"""The files of a finished starter beside its weights: the manifest, and examples."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image as PillowImage
from torch import nn

from d3.domain.models import EncoderSpec, Manifest, file_of
from d3.domain.scoring import Calibration, Reference
from d3.evaluation.calibration import Fitted
from d3.training.starter.generators import Family, Pictures, redraw
from d3.training.starter.photographs import Collection, Part, Photograph, opened
from d3.training.starter.postprocessing import MULTIPLE, to_pixels

LICENCE = "Apache-2.0"


def write_manifest(
    folder: Path,
    *,
    name: str,
    spec: EncoderSpec,
    permutations: tuple[tuple[int, ...], ...],
    permutation_seed: int,
    fitted: Fitted,
    reference: Reference,
    provenance: str,
    notice: str,
    metrics: Mapping[str, Any],
) -> Manifest:
    """Write ``manifest.json`` beside ``encoder.safetensors`` and ``head.safetensors``."""
    manifest = Manifest(
        name=name,
        version=1,
        spec=spec,
        encoder=file_of(folder / "encoder.safetensors"),
        head=file_of(folder / "head.safetensors"),
        permutations=permutations,
        permutation_seed=permutation_seed,
        threshold=fitted.threshold,
        calibration=Calibration(fitted.scale, fitted.bias, name, reference=reference),
        abstain_band=fitted.band,
        licence=LICENCE,
        provenance=provenance,
        notice=notice,
        metrics=dict(metrics),
        created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest) + b"\n")
    return manifest


LONGER_SIDE = 320
_SUFFIXES = ("jpg", "png", "webp", "jpg", "webp")
_QUALITY = 90
_FREE = ("CC0", "CC-BY-1", "CC-BY-2", "CC-BY-3", "CC-BY-4", "public domain")


def write_examples(
    folder: Path, generators: Mapping[Family, nn.Module], photographs: Collection, *, seed: int
) -> list[tuple[Path, Photograph]]:
    """Write five test photographs and five forgeries; return the files and whose they are.

    Only photographs that may be passed on are taken: credited, and of a free licence. Each is
    redone by another family. Both files of a photograph have the same size, format and quality, so
    neither tells the kind: `camera-01.jpg`, `generated-01-transposed.jpg`, `camera-02.png`, ...
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = [one for one in photographs.of(Part.TEST) if may_be_passed_on(one[0])]
    files = []
    for number, ((photograph, file), family, suffix) in enumerate(
        zip(free, Family, _SUFFIXES, strict=False), start=1
    ):
        original = _smaller(opened(file))
        forgery = redraw(generators[family], original[None], seed=seed + number)[0]
        for name, pixels in (
            (f"camera-{number:02}", original),
            (f"generated-{number:02}-{family}", to_pixels(forgery)),
        ):
            target = folder / f"{name}.{suffix}"
            PillowImage.fromarray(pixels).save(target, quality=_QUALITY)
            files.append((target, photograph))
    return files


def may_be_passed_on(photograph: Photograph) -> bool:
    """Whether the licence asks for no more than credit, and who is to be credited is known."""
    return bool(photograph.author) and photograph.licence.startswith(_FREE)


def _smaller(image: PillowImage.Image) -> Pictures:
    """Return at most `LONGER_SIDE` pixels a side, both sides multiples of eight."""
    scale = min(1.0, LONGER_SIDE / max(image.size))
    width, height = (int(scale * side) // MULTIPLE * MULTIPLE for side in image.size)
    return np.asarray(image.resize((width, height), PillowImage.Resampling.LANCZOS))
