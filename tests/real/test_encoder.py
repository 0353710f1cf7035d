"""CLIP's ViT-B/16 on real photographs: D3's features beside open_clip's and ONNX Runtime's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import open_clip
import pytest
import torch

from d3.container import Container
from d3.domain.images import Pixels
from d3.domain.models import EncoderSpec, StoredModel
from d3.network import Encoder
from d3.network.checkpoints import load_encoder, read_encoder, read_tensors
from d3.network.encoder import normalise
from d3.network.precision import arithmetics
from d3.settings import Settings
from tests.published import head_logit, shuffled
from tests.real import clip
from tests.real.conftest import Home, Trained

VIT_B_16 = EncoderSpec(patch_size=16, width=768, layers=12, heads=12, mlp_width=3072)
PROMISED = {"fp32": 1e-4, "bf16": 0.05}
"""How far a probability may lie from the published procedure's; bf16 was seen at 0.043."""


@pytest.fixture(scope="module")
def encoder(home: Home) -> Encoder:
    """The tower as D3 stored it."""
    stored = stored_model(home, "clip-b16")
    return load_encoder(stored.manifest.encoder_spec, stored.encoder)


def stored_model(home: Home, name: str) -> StoredModel:
    model: StoredModel = Container(settings=Settings(home=home.path)).registry().open(name)
    return model


@pytest.fixture(scope="module")
def vit(data: Path) -> torch.nn.Module:
    """open_clip's own module with the same weights, giving the class token after ``ln_post``."""
    visual = open_clip.create_model("ViT-B-16-quickgelu").visual
    weights = read_tensors(data / clip.TOWER)
    visual.load_state_dict({name.removeprefix("visual."): one for name, one in weights.items()})
    visual.proj = None
    module: torch.nn.Module = visual.eval()
    return module


def test_the_towers_shape_is_read_off_its_tensors(data: Path) -> None:
    spec, tensors = read_encoder(data / clip.TOWER)
    assert spec == VIT_B_16
    assert sum(one.numel() for one in tensors.values()) == 85_799_424


@torch.inference_mode()
def test_features_are_open_clips(encoder: Encoder, vit: torch.nn.Module, pixels: Pixels) -> None:
    images = torch.from_numpy(pixels)
    expected, found = vit(normalise(images)), encoder.encode(encoder.embed(images))
    assert expected.abs().max() > 1
    assert (found - expected).abs().max() < 1e-4


@torch.inference_mode()
def test_embeddings_are_the_shipped_onnx_files(
    encoder: Encoder, data: Path, pixels: Pixels
) -> None:
    """That file rounds activations to 8 bits too, by the largest: a busy picture loses more."""
    images = torch.from_numpy(pixels)
    oracle = onnxruntime.InferenceSession(data / clip.ORACLE)
    expected = [
        oracle.run(["image_embeds"], {"pixel_values": one[None].numpy()})[0][0]
        for one in normalise(images)
    ]
    projection = read_tensors(data / clip.TOWER)["visual.proj"]
    found = encoder.encode(encoder.embed(images)) @ projection
    cosines = torch.cosine_similarity(found, torch.from_numpy(np.stack(expected)))
    assert cosines.mean() > 0.97
    assert cosines.min() > 0.93


@pytest.fixture(scope="module")
def published(trained: Trained, vit: torch.nn.Module, pixels: Pixels) -> np.ndarray:
    """Probabilities (n, 2 views) by the published procedure: pixels shuffled, a forward each."""
    model = stored_model(trained.home, "ours")
    head, orders = dict(read_tensors(model.head)), model.manifest.permutations[:2]
    images = normalise(torch.from_numpy(pixels))
    with torch.inference_mode():
        original = vit(images)
        views = [
            vit(torch.stack([shuffled(one, list(order), VIT_B_16.patch_size) for one in images]))
            for order in orders
        ]
    logits = [
        [head_logit(head, view[row], original[row]) for view in views]
        for row in range(len(original))
    ]
    return sigmoid(np.array(logits))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    probabilities: np.ndarray = 1 / (1 + np.exp(-logits))
    return probabilities


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("precision", arithmetics("cpu"))
def test_probabilities_stay_within_the_stated_drift(
    engine: str, precision: str, trained: Trained, published: np.ndarray, pixels: Pixels
) -> None:
    settings = Settings(
        home=trained.home.path,
        engine=engine,  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        cuda_device="cpu",
    )
    detector = Container(settings=settings).engine().load(stored_model(trained.home, "ours"))
    assert (detector.engine, detector.precision) == (engine, precision)
    found = sigmoid(detector.score(pixels, 2))
    detector.close()
    assert np.ptp(published) > 0.1
    drift = np.abs(found - published).max()
    assert drift < PROMISED[precision]
    print(f"{engine}, {precision}: {drift:.1e}")  # noqa: T201  for the record
