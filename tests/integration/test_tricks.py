"""What the encoder saves changes no score: each trick alone, and all of them together."""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from d3.domain.models import EncoderSpec
from d3.network import (
    PLAIN,
    D3Network,
    DiscrepancyHead,
    Encoder,
    Tricks,
    draw_permutations,
    packing,
)
from d3.network.checkpoints import load_network
from d3.testing.models import tiny_model
from tests.support.images import noise

EXACT = 1e-5
SHAPES = [
    EncoderSpec(image_size=56, width=64, layers=3, heads=2, mlp_width=256),
    EncoderSpec(image_size=64, patch_size=16, width=48, layers=1, heads=3, mlp_width=80),
    EncoderSpec(image_size=56, width=96, layers=2, heads=1, mlp_width=100, activation="gelu"),
]
NAMES = [field.name for field in fields(Tricks)]


def with_only(name: str) -> Tricks:
    needs = {"class_token_only": True} if name == "folded_keys" else {}
    return replace(PLAIN, **{name: True}, **needs)


@pytest.fixture(autouse=True)
def _wide_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packing is under test on processors too where it does not pay."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


ALL = {"all": Tricks()} | {name: with_only(name) for name in NAMES}
ALL |= {f"all but {name}": replace(Tricks(), **{name: False}) for name in NAMES}


def plain_network(spec: EncoderSpec) -> D3Network:
    torch.manual_seed(0)
    network = D3Network(Encoder(spec, PLAIN), DiscrepancyHead(spec.width))
    for parameter in network.encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.1) if parameter.ndim == 1 else None
    return network.eval().requires_grad_(False)


def with_tricks(network: D3Network, tricks: Tricks) -> D3Network:
    changed = copy.deepcopy(network)
    changed.encoder.tricks = tricks
    return changed


def pixels_of(spec: EncoderSpec, count: int) -> torch.Tensor:
    side = spec.image_size
    return torch.stack([torch.from_numpy(noise(side, side, seed)) for seed in range(count)])


@pytest.mark.parametrize("spec", SHAPES, ids=lambda spec: f"{spec.width}-{spec.activation}")
@pytest.mark.parametrize("tricks", ALL.values(), ids=ALL)
def test_a_trick_changes_no_logit(spec: EncoderSpec, tricks: Tricks) -> None:
    network = plain_network(spec)
    changed = with_tricks(network, tricks)
    packed = changed.encoder.pack(2)
    blocks = spec.layers - tricks.class_token_only
    assert packed == (tricks.packed_weights and blocks > 0)
    orders = torch.tensor(draw_permutations(1, 4, spec.patches))
    with torch.inference_mode():
        for count, views in ((1, 1), (3, 1), (2, 4), (1, 3)):
            pixels = pixels_of(spec, count)
            expected = network(pixels, orders[:views])
            assert (expected != 0).all()
            assert (changed(pixels, orders[:views]) - expected).abs().max() < EXACT


@pytest.mark.parametrize("tricks", [Tricks(), with_only("permuted_positions")])
def test_permutations_of_each_images_own_agree_too(tricks: Tricks) -> None:
    spec = SHAPES[0]
    network = plain_network(spec)
    orders = torch.tensor(draw_permutations(1, 6, spec.patches)).view(3, 2, -1)
    with torch.inference_mode():
        found = with_tricks(network, tricks)(pixels_of(spec, 3), orders)
        assert (found - network(pixels_of(spec, 3), orders)).abs().max() < EXACT


def test_all_tricks_stay_near_in_bfloat16() -> None:
    spec = SHAPES[0]
    network = plain_network(spec)
    changed = with_tricks(network, Tricks())
    changed.encoder.bfloat16()
    assert changed.encoder.pack(2) == torch.ops.mkldnn._is_mkldnn_bf16_supported()
    orders = torch.tensor(draw_permutations(1, 4, spec.patches))
    with torch.inference_mode():
        expected, found = (one(pixels_of(spec, 3), orders) for one in (network, changed))
    assert (found.sigmoid() - expected.sigmoid()).abs().max() < 0.01


def test_a_trick_leaves_training_as_it_is() -> None:
    spec = SHAPES[0]
    plain = plain_network(spec).train()
    orders = torch.tensor(draw_permutations(1, 2, spec.patches))
    assert torch.equal(
        with_tricks(plain, Tricks())(pixels_of(spec, 2), orders),
        plain(pixels_of(spec, 2), orders),
    )


def test_a_gradient_goes_through_every_trick_but_packing() -> None:
    spec = SHAPES[0]
    network = with_tricks(plain_network(spec), Tricks()).requires_grad_()
    network(
        pixels_of(spec, 2), torch.tensor(draw_permutations(1, 2, spec.patches))
    ).sum().backward()
    assert all(one.grad is not None for one in network.parameters())


@pytest.mark.parametrize("fault", ["missing", "refusing", "wrong"])
def test_packing_is_left_alone_where_it_does_not_work(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = packing._product

    def product(weight: torch.Tensor, *arguments: object) -> object:
        if fault == "wrong":
            return lambda tokens: 1.1 * right(weight, *arguments)(tokens)  # type: ignore[arg-type]
        raise AttributeError if fault == "missing" else RuntimeError("not on this processor")

    monkeypatch.setattr(packing, "_product", product)
    spec = SHAPES[0]
    network = plain_network(spec)
    changed = with_tricks(network, Tricks())
    assert not changed.encoder.pack(2)
    orders = torch.tensor(draw_permutations(1, 1, spec.patches))
    with torch.inference_mode():
        found = changed(pixels_of(spec, 2), orders) - network(pixels_of(spec, 2), orders)
    assert found.abs().max() < EXACT


@pytest.mark.parametrize(
    ("capability", "mkl", "packed"),
    [("AVX2", "there", False), ("AVX2", "missing", True), ("AVX512", "there", True)],
)
def test_float32_is_packed_unless_mkl_has_the_quicker_kernels(
    capability: str, mkl: str, packed: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: mkl == "there")
    network = with_tricks(plain_network(SHAPES[0]), Tricks())
    assert network.encoder.pack(2) == packed


def test_half_precision_is_not_packed() -> None:
    network = with_tricks(plain_network(SHAPES[0]), Tricks())
    network.encoder.half()
    assert not network.encoder.pack(2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_copied_one_by_one_are_those_of_the_file(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    model = tiny_model(tmp_path)
    mapped = load_network(model.manifest.spec, model.encoder, model.head)
    copied = load_network(model.manifest.spec, model.encoder, model.head, dtype=dtype)
    ours = copied.encoder.state_dict()
    assert ours.keys() == mapped.encoder.state_dict().keys()
    for name, tensor in mapped.encoder.state_dict().items():
        assert torch.equal(ours[name], tensor.to(dtype))
    assert {one.dtype for one in copied.head.parameters()} == {torch.float32}
