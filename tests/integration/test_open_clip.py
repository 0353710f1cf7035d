"""Encoders of open_clip's table: brought by open_clip itself, served as its configuration says."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from d3.adapters.torch import TorchArchitectures
from d3.adapters.torch.clip_table import find_entry
from d3.domain.errors import CheckpointInvalid, SourceUnavailable
from d3.domain.inputs import CLIP_MEAN
from d3.domain.models import StoredModel
from d3.network import DiscrepancyHead
from d3.network.checkpoints import load_encoder, write_tensors
from tests.clips import whole_clip
from tests.sources import mirroring

SMALL = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 56,
        "layers": 2,
        "width": 96,
        "head_width": 32,
        "patch_size": 14,
        "mlp_ratio": 1.5,
    },
    "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """open_clip's table of weights, to which one small model of the test's own is added."""
    import open_clip
    from open_clip import factory, pretrained

    file = tmp_path / "configs" / "D3-test.json"
    file.parent.mkdir()
    file.write_text(json.dumps(SMALL))
    monkeypatch.setattr(factory, "_MODEL_CONFIG_PATHS", [*factory._MODEL_CONFIG_PATHS])
    monkeypatch.setattr(factory, "_MODEL_CONFIGS", {})
    open_clip.add_model_config(file)
    tags: dict[str, dict[str, Any]] = {}
    monkeypatch.setitem(pretrained._PRETRAINED, "D3-test", tags)
    return tags


def entry(*said: Any, **more: Any) -> dict[str, Any]:
    """A line of that table."""
    from open_clip import pretrained

    line: dict[str, Any] = pretrained._pcfg(*said, **more)
    return line


def write_weights(file: Path) -> None:
    """What open_clip's own trainings leave: a state dict under ``module.`` beside an epoch."""
    torch.manual_seed(5)
    spec = find_entry("D3-test:own").spec
    held = {f"module.{name}": one for name, one in whole_clip(spec).state_dict().items()}
    torch.save({"epoch": 32, "state_dict": held, "optimizer": {"state": {}}}, file)


def read_open_clip(name: str, into: Path) -> StoredModel:
    """A D3 on an encoder of the table."""
    write_tensors(into / "own-head.safetensors", DiscrepancyHead(96).state_dict())
    files = {"head": into / "own-head.safetensors"}
    return TorchArchitectures().read("d3", "own", files, into, open_clip=name)


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("inception", [True, False])
def test_features_are_those_of_open_clip(
    quick: bool,  # noqa: FBT001
    inception: bool,  # noqa: FBT001
    table: dict[str, dict[str, Any]],
    tmp_path: Path,
) -> None:
    file = tmp_path / "weights.pt"
    normal: dict[str, Any] = {"mean": (0.5, 0.4, 0.3), "std": (0.5, 0.3, 0.2)} if inception else {}
    table["own"] = entry("file", quick_gelu=quick, **normal) | {"file": str(file)}
    write_weights(file)
    found = read_open_clip("D3-test:own", tmp_path)
    spec = found.manifest.encoder_spec
    assert (spec.heads, spec.image_size, spec.patch_size) == (3, 56, 14)
    assert spec.activation == ("quick_gelu" if quick else "gelu")
    ours = load_encoder(spec, found.encoder)

    import open_clip

    model = open_clip.create_model("D3-test", pretrained="own", force_quick_gelu=quick).eval()
    model.visual.proj = None
    draw = torch.Generator().manual_seed(6)
    pixels = torch.randint(0, 256, (3, 56, 56, 3), dtype=torch.uint8, generator=draw)
    shown = model.visual.preprocess_cfg
    assert shown["mean"] == (normal or {"mean": CLIP_MEAN})["mean"]
    with torch.no_grad():
        expected = model.visual(normalised(pixels, shown["mean"], shown["std"]))
        features = ours.encode(ours.embed(pixels))
    assert torch.allclose(features, expected, atol=1e-5)


def normalised(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    values = pixels.permute(0, 3, 1, 2).float() / 255
    return (values - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def test_the_hub_cache_serves_without_a_network(
    table: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    table["own"] = entry(hf_hub="someone/small-clip/")
    snapshot = tmp_path / "hub/models--someone--small-clip/snapshots/0123abcd"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("0123abcd")
    torch.manual_seed(5)
    clip = whole_clip(find_entry("D3-test:own").spec)
    held = {k: v.detach().contiguous() for k, v in clip.state_dict().items()}
    save_file(held, snapshot / "open_clip_model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    found = read_open_clip("D3-test:own", tmp_path)
    assert found.manifest.encoder_spec.width == 96

    table["other"] = entry(hf_hub="someone/not-there/")
    with pytest.raises(SourceUnavailable, match=r"D3-test:other .*HF_HUB_OFFLINE"):
        read_open_clip("D3-test:other", tmp_path)


def test_what_is_not_here_is_fetched_into_open_clips_cache_once(
    table: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "served").mkdir()
    table["own"] = entry("later")
    write_weights(tmp_path / "served/small.pt")
    with mirroring(tmp_path / "served") as mirror:
        table["own"] = entry(f"{mirror.url}/small.pt")
        read_open_clip("D3-test:own", tmp_path)
        assert (tmp_path / "home/.cache/clip/small.pt").is_file()
        read_open_clip("D3-test:own", tmp_path)
        assert len(mirror.asked) == 1


def test_weights_of_another_shape_than_the_table_says_are_refused(
    table: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    table["own"] = entry("file") | {"file": str(tmp_path / "a.pt")}
    spec = replace(find_entry("D3-test:own").spec, image_size=70)
    torch.save(whole_clip(spec).state_dict(), tmp_path / "a.pt")
    with pytest.raises(CheckpointInvalid, match="do not match open_clip's table"):
        read_open_clip("D3-test:own", tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("RN50:openai", "its vision tower is a ResNet"),
        ("convnext_base:laion400m_s13b_b51k", "its vision tower is timm's convnext_base"),
        ("ViT-B-16-SigLIP:webli", "its vision tower is timm's vit_base_patch16_siglip_224"),
        ("coca_ViT-B-32:laion2b_s13b_b90k", "it pools its tokens by attention"),
        ("ViT-L-14-CLIPA:datacomp1b", "does not pool its tokens with the class token"),
        ("ViT-L-14", "Choose one of: ViT-L-14:openai"),
        ("ViT-L-14:opnai", "no weights 'opnai' for ViT-L-14"),
        ("ViT-L14:openai", "Did you mean .*ViT-L-14"),
        ("", "no model ''"),
    ],
)
def test_what_d3_cannot_serve_is_refused_before_anything_is_fetched(name: str, words: str) -> None:
    with pytest.raises(CheckpointInvalid, match=words):
        find_entry(name)


@pytest.mark.parametrize(
    ("name", "width", "heads", "activation"),
    [
        ("ViT-L-14:openai", 1024, 16, "quick_gelu"),
        ("ViT-L-14:laion2b_s32b_b82k", 1024, 16, "gelu"),
        ("ViT-B-16:dfn2b", 768, 12, "quick_gelu"),
        ("ViT-H-14:laion2b_s32b_b79k", 1280, 16, "gelu"),
        ("ViT-bigG-14:laion2b_s39b_b160k", 1664, 16, "gelu"),
        ("roberta-ViT-B-32:laion2b_s12b_b32k", 768, 12, "quick_gelu"),
    ],
)
def test_heads_and_activation_are_those_that_the_weights_were_trained_with(
    name: str, width: int, heads: int, activation: str
) -> None:
    spec = find_entry(name).spec
    assert (spec.width, spec.heads, spec.activation) == (width, heads, activation)


def test_every_plain_vision_transformer_of_the_table_can_be_an_encoder() -> None:
    import open_clip

    served, refused = [], []
    for model, tag in open_clip.list_pretrained():
        try:
            found = find_entry(f"{model}:{tag}")
        except CheckpointInvalid as error:
            refused.append(error.problem)
            continue
        served.append(found)
        spec = found.spec
        visual: dict[str, Any] = open_clip.get_model_config(model)["vision_cfg"]
        assert (spec.width, spec.layers) == (visual["width"], visual["layers"])
    assert len(served) > 80
    assert all("as an encoder" in problem for problem in refused)


@pytest.mark.parametrize(
    ("program", "words", "remedy"),
    [
        ("raise ImportError('none')", "cannot be read here: none", "Install open_clip_torch"),
        ("raise RuntimeError('operator torchvision::nms does not exist')", "nms", "same index"),
    ],
)
def test_without_open_clip_its_table_is_refused_with_what_to_do(
    program: str, words: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [one for one in sys.modules if one.partition(".")[0] == "open_clip"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "open_clip.py").write_text(program)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SourceUnavailable, match=words) as refused:
        find_entry("ViT-L-14:openai")
    assert re.search(remedy, refused.value.remedy)
