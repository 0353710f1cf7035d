"""The network computes what the published code computes."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import open_clip
import pytest
import torch

from d3.adapters.pillow import PillowDecoder
from d3.domain.models import EncoderSpec
from d3.network import D3Network, DiscrepancyHead, Encoder, draw_permutations
from d3.network.checkpoints import infer_spec, read_encoder
from d3.network.encoder import normalise
from d3.testing import score_reference_pack
from published import head_logit, head_weights, shuffled, vision_transformer, write_pack
from tests.support.images import noise

VIT_L_14 = EncoderSpec()


def test_all_logits_of_the_reference_pack_agree(pack: Path) -> None:
    cases = json.loads((pack / "expected.json").read_text())["cases"]
    logits = score_reference_pack(str(pack))
    assert logits.keys() == {case["image"] for case in cases}
    assert sum(map(len, logits.values())) == 27
    for case in cases:
        expected = [view["logit"] for view in case["views"]]
        assert logits[case["image"]] == pytest.approx(expected, abs=1e-4)


def test_features_of_the_reference_pack_agree(pack: Path) -> None:
    expected = json.loads((pack / "expected.json").read_text())
    spec, tensors = read_encoder(pack / "visual.safetensors", heads=1)
    network = D3Network(Encoder(spec), DiscrepancyHead(spec.width)).eval()
    network.encoder.load_state_dict(tensors)
    permutations = torch.tensor(expected["shuffle"]["permutations"])
    for case in expected["cases"]:
        image = pack / "images" / case["image"]
        pixels = torch.from_numpy(PillowDecoder().decode(image, spec.image_size).pixels)
        with torch.inference_mode():
            original, branches = network.features(pixels[None], permutations)
        assert original[0].tolist() == pytest.approx(case["original_features"], abs=1e-4)
        for branch, view in zip(branches[0], case["views"], strict=True):
            assert branch[:8].tolist() == pytest.approx(view["shuffled_features_first8"], abs=1e-4)


@pytest.mark.parametrize(
    ("spec", "views"),
    [
        (EncoderSpec(width=128, layers=3, heads=2, mlp_width=512), 5),
        (EncoderSpec(image_size=64, patch_size=16, width=48, layers=1, heads=3, mlp_width=80), 16),
    ],
)
def test_a_pack_of_another_shape_agrees_with_the_published_procedure(
    spec: EncoderSpec, views: int, tmp_path: Path
) -> None:
    expected = write_pack(tmp_path / "pack", spec, views, seed=5)
    logits = score_reference_pack(tmp_path / "pack")
    assert logits.keys() == expected.keys()
    for name, found in logits.items():
        assert len(set(found)) == views
        assert found == pytest.approx(expected[name], abs=1e-4)


def test_permuting_patches_equals_shuffling_pixels() -> None:
    torch.manual_seed(0)
    spec = EncoderSpec(image_size=56, width=64, layers=1, heads=1, mlp_width=64)
    encoder = Encoder(spec).eval()
    (order,) = draw_permutations(3, 1, spec.patches)
    pixels = torch.from_numpy(noise(56, 56))
    moved = shuffled(pixels.permute(2, 0, 1), list(order), 14).permute(1, 2, 0)
    with torch.inference_mode():
        permuted = encoder.embed(pixels[None])[:, list(order)]
        assert torch.allclose(encoder.embed(moved[None].contiguous()), permuted, atol=1e-6)


def test_each_image_may_have_permutations_of_its_own() -> None:
    torch.manual_seed(0)
    spec = EncoderSpec(image_size=56, width=64, layers=1, heads=1, mlp_width=64)
    network = D3Network(Encoder(spec), DiscrepancyHead(64)).eval()
    pixels = torch.stack([torch.from_numpy(noise(56, 56, seed)) for seed in range(2)])
    orders = torch.tensor(draw_permutations(3, 4, spec.patches)).view(2, 2, -1)
    with torch.inference_mode():
        together = network(pixels, orders)
        for one in range(2):
            alone = network(pixels[one : one + 1], orders[one])
            assert torch.allclose(together[one], alone[0], atol=1e-6)


def test_the_encoder_of_clip_vit_l_14_has_open_clips_own_names_and_shapes() -> None:
    with torch.device("meta"):
        ours = Encoder(VIT_L_14).state_dict()
        theirs = open_clip.create_model(
            "ViT-L-14-quickgelu", pretrained=None, load_weights=False, device="meta"
        ).visual.state_dict()
    theirs.pop("proj")
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_the_shape_of_clip_vit_l_14_is_read_off_its_tensors() -> None:
    with torch.device("meta"):
        tensors = Encoder(VIT_L_14).state_dict()
    found = infer_spec(tensors)
    assert (found.width, found.layers, found.heads, found.image_size, found.patch_size) == (
        1024,
        24,
        16,
        224,
        14,
    )
    assert found.mlp_width == 4096
    assert found.activation == "quick_gelu"


def test_clip_vit_l_14_agrees_with_the_published_procedure() -> None:
    with torch.device("meta"):
        encoder, vit = Encoder(VIT_L_14), vision_transformer(VIT_L_14)
    torch.manual_seed(0)
    stock = torch.randn(2**20 + 7) / 40
    weights = {name: tiled(stock, tensor) for name, tensor in encoder.state_dict().items()}
    encoder.load_state_dict(weights, assign=True)
    vit.load_state_dict(weights, assign=True)
    head = DiscrepancyHead(1024)
    head.load_state_dict(published := head_weights(1024))
    (order,) = draw_permutations(1, 1, 256)
    pixels = torch.from_numpy(noise(224, 224))
    with torch.inference_mode():
        logits = D3Network(encoder.eval(), head)(pixels[None], torch.tensor([order]))
        image = normalise(pixels[None])[0]
        pair = torch.stack([shuffled(image, list(order), 14), image])
        expected = head_logit(published, *(vit(one[None])[0] for one in pair))
    assert logits.item() == pytest.approx(expected, abs=1e-4)


def tiled(stock: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Random-looking weights of a large shape without drawing each of them."""
    rounds = -(-like.numel() // len(stock))
    return stock.repeat(rounds)[: like.numel()].view(like.shape).clone()


@pytest.mark.parametrize(("seed", "scale"), list(itertools.product(range(3), (1.0, 30.0))))
def test_the_head_is_the_published_one(seed: int, scale: float) -> None:
    torch.manual_seed(seed)
    weights = head_weights(32)
    head = DiscrepancyHead(32)
    head.load_state_dict(weights)
    pairs = torch.randn(5, 2, 32) * scale**0.5
    with torch.inference_mode():
        logits = head(pairs[:, 0], pairs[:, 1])
    for logit, (first, second) in zip(logits.tolist(), pairs, strict=True):
        assert logit == pytest.approx(head_logit(weights, first, second), abs=1e-4)


def test_permutations_of_a_seed_never_change() -> None:
    # From PCG64's raw words, argsorted; a change here changes the score of every imported model.
    drawn = json.dumps(draw_permutations(2025, 16, 256), separators=(",", ":"))
    assert hashlib.sha256(drawn.encode()).hexdigest() == (
        "13e5cb3f2deb3b09a8e620247ae12fdd2273b3924ebf0a287d45c97cbf20355b"
    )
    assert draw_permutations(0, 2, 6) == ((3, 2, 1, 0, 4, 5), (5, 2, 0, 1, 4, 3))


def test_the_order_of_the_two_features_matters() -> None:
    torch.manual_seed(0)
    head = DiscrepancyHead(64)
    head.load_state_dict(head_weights(64))
    first, second = torch.randn(2, 64)
    with torch.inference_mode():
        assert abs(head(first, second) - head(second, first)) > 1e-2
