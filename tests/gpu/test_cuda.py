"""What only a GPU can show; the one folder whose tests may skip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.images import noise

import d3
from d3.adapters.torch import TorchEngine
from d3.adapters.torch.engine import TorchDetector
from d3.domain.inputs import Fit
from d3.domain.models import StoredModel
from d3.domain.ports.detector import Logits
from d3.testing.models import tiny_ferretnet, tiny_model, tiny_ufd

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
    # A compiler warns of much; made an error, it would stop it.
    pytest.mark.filterwarnings("default"),
]


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


@pytest.fixture
def model(tmp_path: Path) -> StoredModel:
    return tiny_model(tmp_path)


PIXELS = np.stack([noise(56, 56, seed) for seed in range(8)])


def test_graphs_give_what_eager_gives(model: StoredModel) -> None:
    detector = TorchEngine(0, "fp32", 8).load(model)
    assert detector._graphs is not None
    eager = detector.score(PIXELS, 2)[:, :1]
    detector.settle(300)
    assert detector._graphs.ready == [1, 2, 4, 8]
    assert detector._graphs.trouble() is None
    for count in (1, 2, 3, 5, 8):
        assert np.abs(detector.score(PIXELS[:count], 1) - eager[:count]).max() < 1e-3
    detector.close()


def test_passes_begun_early_give_what_each_gives_alone(model: StoredModel) -> None:
    detector = TorchEngine(0, "fp32", 8).load(model)
    assert detector.start(PIXELS[:1], 2) is None
    assert detector._graphs is not None
    detector.settle(300)
    batches = [PIXELS[:count][::step] for count in (8, 5, 8, 3) for step in (1, -1)]
    alone = [detector.score(batch, 1) for batch in batches]
    begun: list[Callable[[], Logits]] = []
    together = []
    for batch in batches:
        wait = detector.start(batch, 1)
        assert wait is not None
        begun.append(wait)
        if len(begun) == 2:
            together.append(begun.pop(0)())
    together.append(begun.pop()())
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one - other).max() < 1e-6
    detector.close()


def test_heads_beside_one_another_and_a_probe_alone_have_graphs_too(
    model: StoredModel, tmp_path: Path
) -> None:
    probe = tiny_ufd(tmp_path, beside=model, fit=Fit.SQUASH)
    for loaded, heads in ((replace(model, beside=(probe,)), 2), (probe, 1)):
        expected = TorchEngine("cpu").load(loaded).score(PIXELS, 1)
        detector = TorchEngine(0, "fp32", 8).load(loaded)
        assert isinstance(detector, TorchDetector)
        assert np.abs(detector.score(PIXELS, 1) - expected).max() < 1e-3
        detector.settle(300)
        assert detector._graphs is not None
        assert detector._graphs.ready == [1, 2, 4, 8]
        found = detector.score(PIXELS, 1)
        assert found.shape == (8, heads)
        assert np.abs(found - expected).max() < 1e-3
        detector.close()


def test_a_network_of_its_own_agrees_with_the_cpu(tmp_path: Path) -> None:
    model = tiny_ferretnet(tmp_path)
    pixels = np.stack([noise(48, 48, seed) for seed in range(8)])
    expected = TorchEngine("cpu").load(model).score(pixels, 1)
    detector = TorchEngine(0, "auto", 8).load(model)
    assert (detector.device, detector.precision) == ("cuda:0", "fp32")
    assert np.abs(detector.score(pixels, 1) - expected).max() < 1e-4
    detector.close()


def test_eager_serves_while_graphs_are_made(model: StoredModel) -> None:
    detector = TorchEngine(0, "bf16", 8).load(model)
    first = detector.score(PIXELS[:1], 1)
    assert np.isfinite(first).all()
    detector.close()


def test_a_compiler_that_fails_is_one_line_and_graphs_without_it(
    model: StoredModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> object:
        def forward(*_: object) -> None:
            raise RuntimeError("no compiler here")

        return forward

    monkeypatch.setattr(torch, "compile", refuses)
    detector = TorchEngine(0, "fp32", 2).load(model)
    assert detector._graphs is not None
    detector.settle(300)
    with pytest.warns(RuntimeWarning, match=r"torch.compile failed .*no compiler here"):
        found = detector.score(PIXELS[:2], 1)
    assert np.abs(found - TorchEngine("cpu").load(model).score(PIXELS[:2], 1)).max() < 1e-3
    detector.close()
