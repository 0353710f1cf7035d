"""Checkpoints as people have them: every form of the same weights gives the same logits."""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from d3.domain.models import EncoderSpec
from d3.network import D3Network, DiscrepancyHead, Encoder
from d3.network.checkpoints import read_encoder, read_head
from d3.testing.models import TINY
from tests.clips import whole_clip, write_traced

Tensors = dict[str, Tensor]
Save = Callable[[object, Path], None]


def save_legacy(held: object, file: Path) -> None:
    """As torch did before version 1.6."""
    torch.save(held, file, _use_new_zipfile_serialization=False)


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(1)
    return Encoder(TINY).eval()


@pytest.fixture
def head() -> DiscrepancyHead:
    torch.manual_seed(2)
    return DiscrepancyHead(TINY.width)


@torch.no_grad()
def logits(
    encoder: tuple[EncoderSpec, Tensors] | Encoder, head: tuple[int, Tensors] | DiscrepancyHead
) -> Tensor:
    """What a network in float32 says of a few random pixels."""
    if not isinstance(encoder, Encoder):
        spec, tensors = encoder
        encoder = Encoder(spec)
        encoder.load_state_dict(tensors)
    if not isinstance(head, DiscrepancyHead):
        width, tensors = head
        head = DiscrepancyHead(width)
        head.load_state_dict(tensors)
    draw = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (2, 56, 56, 3), dtype=torch.uint8, generator=draw)
    orders = torch.stack([torch.randperm(16, generator=draw) for _ in range(2)])
    network: D3Network = D3Network(encoder.float(), head.float()).eval()
    found: Tensor = network(pixels, orders)
    return found


def under(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def plain(module: nn.Module) -> Tensors:
    return {name: tensor.detach() for name, tensor in module.state_dict().items()}


PREFIXES = (
    "model.",
    "visual.",
    "module.visual.",
    "model.visual.",
    "_orig_mod.visual.",
    "module._orig_mod.",
    "_orig_mod.module.model.visual.",
    "model._orig_mod.visual.",
    "clip_model.visual.",
    "backbone.visual.",
    "image_encoder.",
    "model.model.visual.",
    "_forward_module.model.visual.",
)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_wrappers_in_any_order_are_taken_off(
    prefix: str, encoder: Encoder, head: DiscrepancyHead, tmp_path: Path
) -> None:
    file = tmp_path / "a.safetensors"
    save_file(under(prefix, plain(encoder)) | under("attention_head.", plain(head)), file)
    found = logits(read_encoder(file), read_head(file))
    assert torch.equal(found, logits(encoder, head))


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "net", "model_state_dict", "ema.model"])
def test_weights_are_found_below_whatever_they_were_saved_under(
    wrapper: str, head: DiscrepancyHead, tmp_path: Path
) -> None:
    held: object = under("module.attention_head.", plain(head))
    for word in reversed(wrapper.split(".")):
        held = {word: held, "epoch": 3, "note": "a run"}
    torch.save(held, tmp_path / "a.pth")
    assert torch.equal(read_head(tmp_path / "a.pth")[1]["fc.weight"], head.fc.weight)


class Compiled(nn.Module):
    """Names its module as what ``torch.compile`` gives does, which takes seconds to import."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._orig_mod = module


def test_names_as_dataparallel_and_compile_really_give_them(
    encoder: Encoder, head: DiscrepancyHead, tmp_path: Path
) -> None:
    expected = logits(encoder, head)
    whole = nn.Module()
    whole.model = nn.DataParallel(Compiled(encoder))
    whole.attention_head = Compiled(nn.DataParallel(head))
    held = nn.DataParallel(whole).state_dict()
    assert "module.model.module._orig_mod.conv1.weight" in held
    assert "module.attention_head._orig_mod.module.fc.bias" in held
    torch.save(held, tmp_path / "a.pth")
    found = logits(read_encoder(tmp_path / "a.pth"), read_head(tmp_path / "a.pth"))
    assert torch.equal(found, expected)


def test_blocks_that_were_compiled_one_by_one_are_found(
    encoder: Encoder, head: DiscrepancyHead, tmp_path: Path
) -> None:
    named = {
        name.replace("resblocks.0.", "resblocks.0._orig_mod."): tensor
        for name, tensor in plain(encoder).items()
    }
    torch.save(named, tmp_path / "a.pth")
    assert torch.equal(logits(read_encoder(tmp_path / "a.pth"), head), logits(encoder, head))


@pytest.fixture
def attribute_dict(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class of Lightning's by its name, as checkpoints hold one with their settings in it."""
    module = types.ModuleType("lightning.fabric.utilities.data")
    made = type("AttributeDict", (dict,), {"__module__": module.__name__})
    vars(module)["AttributeDict"] = made
    for name in ("lightning", "lightning.fabric", "lightning.fabric.utilities"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


@pytest.mark.parametrize("save", [torch.save, save_legacy], ids=["zip", "legacy"])
def test_a_checkpoint_of_a_training_gives_the_weights_and_leaves_the_rest(
    save: Save,
    encoder: Encoder,
    head: DiscrepancyHead,
    attribute_dict: type,
    tmp_path: Path,
) -> None:
    expected = logits(encoder, head)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()])
    sum(one.sum() for one in optimiser.param_groups[0]["params"]).backward()
    optimiser.step()
    encoder_now, head_now = plain(encoder), plain(head)
    expected = logits(encoder, head)
    held = {
        "epoch": 4,
        "pytorch-lightning_version": "2.6.0",
        "state_dict": under("model.", encoder_now) | under("model.attention_head.", head_now),
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"dirpath": Path("runs")}},
        "optimizer_states": [optimiser.state_dict()],
        "optimizer": optimiser.state_dict(),
        "hyper_parameters": attribute_dict(lr=1e-3, out=Path("x")),
        "args": argparse.Namespace(lr=1e-3),
        "best_acc": np.float64(0.97),
        "random": (torch.get_rng_state(), np.random.default_rng(0).random(3)),
    }
    file = tmp_path / "last.ckpt"
    save(held, file)
    found = logits(read_encoder(file), read_head(file))
    assert torch.allclose(found, expected, atol=1e-5)


def test_running_averages_beside_the_weights_are_not_taken_for_them(
    encoder: Encoder, head: DiscrepancyHead, tmp_path: Path
) -> None:
    other = {name: tensor + 1 for name, tensor in plain(encoder).items()}
    held = {"model": plain(encoder), "model_ema": other, "visual": plain(encoder)}
    torch.save(held, tmp_path / "a.pth")
    assert torch.equal(logits(read_encoder(tmp_path / "a.pth"), head), logits(encoder, head))


def in_transformers_names(tensors: Tensors) -> Tensors:
    """An encoder as Hugging Face's CLIPModel names it, compared with transformers 5.24."""
    names = {
        "class_embedding": "embeddings.class_embedding",
        "conv1.weight": "embeddings.patch_embedding.weight",
        "positional_embedding": "embeddings.position_embedding.weight",
    }
    found: Tensors = {"embeddings.position_ids": torch.arange(17).unsqueeze(0)}
    for name, tensor in tensors.items():
        renamed = names.get(name, name)
        for ours, theirs in {
            "ln_pre": "pre_layrnorm",
            "ln_post": "post_layernorm",
            "transformer.resblocks": "encoder.layers",
            "ln_1": "layer_norm1",
            "ln_2": "layer_norm2",
            "c_fc": "fc1",
            "c_proj": "fc2",
            "attn.out_proj": "self_attn.out_proj",
        }.items():
            renamed = renamed.replace(ours, theirs)
        if "attn.in_proj_" in renamed:
            stem, kind = renamed.split("attn.in_proj_")
            for one, part in zip("qkv", tensor.chunk(3), strict=True):
                found[f"{stem}self_attn.{one}_proj.{kind}"] = part.clone()
        else:
            found[renamed] = tensor
    return found


@pytest.mark.parametrize("prefix", ["", "vision_model.", "module.clip.vision_model."])
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_the_names_of_transformers_are_understood(
    prefix: str, suffix: str, encoder: Encoder, head: DiscrepancyHead, tmp_path: Path
) -> None:
    held = under(prefix, in_transformers_names(plain(encoder)))
    if prefix:
        held |= {
            "visual_projection.weight": torch.zeros(16, 64),
            "text_model.embeddings.token_embedding.weight": torch.zeros(9, 8),
            "text_model.encoder.layers.0.layer_norm1.weight": torch.zeros(8),
            "logit_scale": torch.ones(()),
        }
    file = tmp_path / f"model.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(held, file)
    assert torch.allclose(logits(read_encoder(file), head), logits(encoder, head), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("save", [torch.save, save_legacy], ids=["zip", "legacy"])
def test_precisions_and_containers_give_the_logits_of_the_same_safetensors(
    dtype: torch.dtype, save: Save, encoder: Encoder, head: DiscrepancyHead, tmp_path: Path
) -> None:
    held = {name: tensor.to(dtype) for name, tensor in plain(encoder).items()}
    save_file(held, tmp_path / "a.safetensors")
    save(held, tmp_path / "a.pth")
    found = read_encoder(tmp_path / "a.pth")
    assert {tensor.dtype for tensor in found[1].values()} == {dtype}
    expected = logits(read_encoder(tmp_path / "a.safetensors"), head)
    assert torch.equal(logits(found, head), expected)


@pytest.mark.parametrize("save", [torch.save, save_legacy], ids=["zip", "legacy"])
def test_tensors_of_a_gpu_that_is_not_here_are_read(
    save: Save, head: DiscrepancyHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "cuda:7")
    save(plain(head), tmp_path / "a.pth")
    assert b"cuda:7" in (tmp_path / "a.pth").read_bytes()
    assert torch.equal(read_head(tmp_path / "a.pth")[1]["fc.weight"], head.fc.weight)


def test_parameters_views_and_shared_storages_keep_their_values(
    head: DiscrepancyHead, tmp_path: Path
) -> None:
    held = plain(head)
    joined = torch.stack([held["query.weight"], held["key.weight"]])
    held |= {
        "query.weight": joined[0],  # two of one storage
        "key.weight": joined[1],
        "value.weight": held["value.weight"].T.contiguous().T,  # not in row-major order
        "fc.bias": nn.Parameter(held["fc.bias"]),
    }
    torch.save(held, tmp_path / "a.pth")
    found = read_head(tmp_path / "a.pth")[1]
    assert all(torch.equal(found[name], tensor) for name, tensor in plain(head).items())


def test_a_whole_clip_as_openai_published_theirs(head: DiscrepancyHead, tmp_path: Path) -> None:
    torch.manual_seed(4)
    saved = write_traced(tmp_path / "ViT.pt", whole_clip(TINY))
    del saved["proj"]
    spec, found = read_encoder(tmp_path / "ViT.pt")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float16, torch.float32}
    assert found.keys() == saved.keys()
    assert all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
        for name, tensor in saved.items()
    )
    save_file(saved, tmp_path / "plain.safetensors")
    expected = logits(read_encoder(tmp_path / "plain.safetensors"), head)
    assert torch.equal(logits((spec, found), head), expected)


@pytest.mark.parametrize("form", ["whole.pth", "whole.safetensors"])
def test_one_file_of_the_authors_whole_model_holds_both(
    form: str, encoder: Encoder, head: DiscrepancyHead, tmp_path: Path
) -> None:
    clip = whole_clip(TINY, plain(encoder))
    held = under("model.", plain(clip)) | under("attention_head.", plain(head))
    (save_file if form.endswith("safetensors") else torch.save)(held, tmp_path / form)
    found = logits(read_encoder(tmp_path / form), read_head(tmp_path / form))
    assert torch.allclose(found, logits(encoder, head), atol=1e-5)
