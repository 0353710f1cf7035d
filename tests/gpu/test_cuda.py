"""What only a GPU can show; the one folder whose tests may skip."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import d3

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 2e-2), ("fp16", 5e-3)]
)
def test_the_gpu_agrees_with_the_cpu(
    pack: Path, tmp_path: Path, precision: str, tolerance: float
) -> None:
    images = sorted((pack / "images").iterdir())
    answers = []
    for device, kind in (("cpu", "fp32"), (0, precision)):
        settings = d3.Settings(home=tmp_path, model="mine", cuda_device=device, precision=kind)
        with d3.D3(settings) as detector:
            if device == "cpu":
                detector.models.import_files(
                    "mine", pack / "visual.safetensors", pack / "classifier.pth"
                )
            answers.append([one.prediction for one in detector.detect_many(images, views=4)])
    assert answers[1] == pytest.approx(answers[0], abs=tolerance)
