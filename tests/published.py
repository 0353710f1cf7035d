"""The published procedure written plainly, apart from D3's own network, to compare with.

The image is cut up and shuffled as pixels, each branch is a forward of its own through open_clip's
``VisionTransformer``, and the head is written out with ``einsum``. FerretNet is written as
functions of its tensors.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional

from d3.domain.models import EncoderSpec
from tests.images import encoded, picture

if TYPE_CHECKING:
    from open_clip.transformer import VisionTransformer

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def vision_transformer(spec: EncoderSpec) -> VisionTransformer:
    """open_clip's own, giving the class token after ``ln_post``."""
    from open_clip.transformer import QuickGELU, VisionTransformer

    vit = VisionTransformer(
        image_size=spec.image_size,
        patch_size=spec.patch_size,
        width=spec.width,
        layers=spec.layers,
        heads=spec.heads,
        mlp_ratio=spec.mlp_width / spec.width,
        output_dim=32,
        act_layer=QuickGELU,
    )
    vit.proj = None
    return vit.eval()


def head_weights(width: int) -> dict[str, torch.Tensor]:
    """A random head in the published checkpoint's names."""
    weights = {}
    for name in ("query", "key", "value"):
        weights[f"{name}.weight"] = torch.randn(width, width) / width**0.5
        weights[f"{name}.bias"] = torch.randn(width) / 10
    return weights | {"fc.weight": torch.randn(1, 2 * width), "fc.bias": torch.randn(1)}


def tensor_of(image: Image.Image, side: int) -> torch.Tensor:
    """The normalised input (3, side, side)."""
    return normalised(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))


def normalised(rgb: Image.Image) -> torch.Tensor:
    """The input (3, height, width) of an image that is cut already."""
    values = torch.from_numpy(np.array(rgb)).permute(2, 0, 1).float() / 255
    return (values - MEAN) / STD


def shuffled(tensor: torch.Tensor, order: list[int], patch: int) -> torch.Tensor:
    """The image (3, S, S) with patch ``order[i]`` put where patch ``i`` was."""
    result = torch.empty_like(tensor)
    grid = tensor.shape[1] // patch
    for target, source in enumerate(order):
        to = [slice(patch * at, patch * (at + 1)) for at in divmod(target, grid)]
        fro = [slice(patch * at, patch * (at + 1)) for at in divmod(source, grid)]
        result[:, to[0], to[1]] = tensor[:, fro[0], fro[1]]
    return result


def head_logit(
    weights: dict[str, torch.Tensor], first: torch.Tensor, second: torch.Tensor
) -> float:
    """The logit of two features (width): shuffled, then original."""
    pair = torch.stack([first, second])
    query, key, value = (
        torch.einsum("tw,vw->tv", pair, weights[f"{name}.weight"]) + weights[f"{name}.bias"]
        for name in ("query", "key", "value")
    )
    scores = torch.einsum("qw,kw->qk", query, key) / pair.shape[1] ** 0.5
    over_queries = scores.exp() / scores.exp().sum(0, keepdim=True)
    attended = torch.einsum("qk,kw->qw", over_queries, value)
    return float(weights["fc.weight"][0] @ attended.reshape(-1) + weights["fc.bias"][0])


@torch.no_grad()
def write_pack(folder: Path, spec: EncoderSpec, views: int, seed: int) -> dict[str, list[float]]:
    """A reference pack of this shape, and the logits that belong to it."""
    torch.manual_seed(seed)
    vit, head = vision_transformer(spec), head_weights(spec.width)
    orders = [torch.randperm(spec.patches).tolist() for _ in range(views)]
    pictures = {
        "wide.png": encoded(picture(300, 31, seed), "PNG"),
        "grey.jpg": encoded(picture(100, 120, seed).convert("L"), "JPEG"),
        "alpha.webp": encoded(picture(64, 64, seed).convert("RGBA"), "WEBP"),
        "first-frame.gif": encoded(picture(90, 40, seed), "GIF"),
    }
    (folder / "images").mkdir(parents=True)
    for name, data in pictures.items():
        (folder / "images" / name).write_bytes(data)
    save_file(dict(vit.state_dict()), folder / "visual.safetensors")
    torch.save(head, folder / "classifier.pth")
    described = {
        "encoder": {"heads": spec.heads, "width": spec.width, "layers": spec.layers},
        "shuffle": {"patch_size": spec.patch_size, "permutations": orders},
    }
    (folder / "expected.json").write_text(json.dumps(described))
    logits: dict[str, list[float]] = {}
    for name, data in pictures.items():
        image = tensor_of(Image.open(io.BytesIO(data)), spec.image_size)
        original = vit(image[None])[0]
        logits[name] = [
            head_logit(head, vit(shuffled(image, order, spec.patch_size)[None])[0], original)
            for order in orders
        ]
    return logits


@torch.no_grad()
def write_second_pack(
    folder: Path, spec: EncoderSpec, depths: list[int], *, dim: int, window: int, crop: int
) -> dict[str, dict[str, float]]:
    """Two other detectors beside a reference pack of this encoder, and the logits of both."""
    write_pack(folder.parent, spec, 1, seed=7)
    weights = load_file(folder.parent / "visual.safetensors")
    projection = torch.randn(spec.width, 24) / spec.width**0.5
    save_file({**weights, "proj": projection}, folder.parent / "visual.safetensors")
    vit = vision_transformer(spec)
    vit.load_state_dict(weights)
    layer = {"weight": torch.randn(1, 24), "bias": torch.randn(1)}
    ferret = ferret_weights(dim, depths)
    folder.mkdir()
    torch.save(layer, folder / "probe.pth")
    save_file(ferret, folder / "ferret.safetensors")
    sizes = {"dim": dim, "depths": depths, "window": window, "crop": crop}
    described = {
        "ferretnet": {"file": "ferret.safetensors", **sizes},
        "ufd": {"file": "probe.pth", "crop": spec.image_size},
    }
    (folder / "expected.json").write_text(json.dumps(described))
    logits = {}
    for file in sorted((folder.parent / "images").iterdir()):
        image = Image.open(io.BytesIO(file.read_bytes())).convert("RGB")
        feature = vit(normalised(cropped(image, spec.image_size))[None])[0]
        logits[file.name] = {
            "ferretnet": ferret_logit(ferret, normalised(cropped(image, crop)), window),
            "ufd": float(layer["weight"][0] @ (feature @ projection) + layer["bias"][0]),
        }
    return logits


def cropped(rgb: Image.Image, side: int) -> Image.Image:
    """The published crop."""
    from torchvision.transforms import CenterCrop  # type: ignore[import-untyped]

    crop: Image.Image = CenterCrop(side)(rgb)
    return crop


def ferret_weights(dim: int, depths: list[int]) -> dict[str, torch.Tensor]:
    """A random FerretNet in the published checkpoint's names."""
    weights: dict[str, torch.Tensor] = {}

    def convolution(name: str, *shape: int) -> None:
        weights[f"{name}.weight"] = torch.randn(*shape) / (shape[1] * shape[2] * shape[3]) ** 0.5

    def normalisation(name: str, channels: int) -> None:
        weights[f"{name}.weight"] = 0.5 + torch.rand(channels)
        weights[f"{name}.bias"] = torch.randn(channels) / 5
        weights[f"{name}.running_mean"] = torch.randn(channels) / 5
        weights[f"{name}.running_var"] = 0.5 + torch.rand(channels)
        weights[f"{name}.num_batches_tracked"] = torch.tensor(9)

    convolution("cbr1.0", dim // 2, 3, 3, 3)
    normalisation("cbr1.1", dim // 2)
    convolution("cbr2.0", dim, dim // 2, 3, 3)
    normalisation("cbr2.1", dim)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name, wide = f"feature.{stage}.{block}", 2 * dim
            convolution(f"{name}.layers.0.conv1", wide, 1, 3, 3)
            convolution(f"{name}.layers.0.conv2", wide, 1, 3, 3)
            convolution(f"{name}.layers.0.conv3", wide, wide, 1, 1)
            normalisation(f"{name}.layers.1", wide)
            convolution(f"{name}.layers.3.depth_wise", wide, 1, 3, 3)
            convolution(f"{name}.layers.3.point_wise", wide, wide, 1, 1)
            normalisation(f"{name}.layers.4", wide)
            if block == 0:
                convolution(f"{name}.shortcut.0", wide, dim, 1, 1)
                weights[f"{name}.shortcut.0.bias"] = torch.randn(wide) / 5
                normalisation(f"{name}.shortcut.1", wide)
        dim *= 2
    convolution(f"feature.{len(depths)}", dim, dim, 1, 1)
    return weights | {"logit.1.weight": torch.randn(1, dim), "logit.1.bias": torch.randn(1)}


def ferret_logit(weights: dict[str, torch.Tensor], image: torch.Tensor, window: int) -> float:
    """The logit of a normalised image (3, S, S), layer by layer."""

    def convolved(values: torch.Tensor, name: str, stride: int = 1, **more: int) -> torch.Tensor:
        bias = weights.get(f"{name}.bias")
        return functional.conv2d(values, weights[f"{name}.weight"], bias, stride, **more)

    def normal(values: torch.Tensor, name: str) -> torch.Tensor:
        mean, spread, scale, shift = (
            weights[f"{name}.{one}"][:, None, None]
            for one in ("running_mean", "running_var", "weight", "bias")
        )
        return (values - mean) / (spread + 1e-5).sqrt() * scale + shift

    around = functional.pad(image[None], [window // 2] * 4)
    patches = functional.unfold(around, window).view(3, window**2, -1).clone()
    patches[:, window**2 // 2] = 0
    values = image[None] - patches.median(dim=1).values.view_as(image)
    values = normal(convolved(values, "cbr1.0", padding=1), "cbr1.1").relu()
    values = normal(convolved(values, "cbr2.0", 2, padding=1), "cbr2.1").relu()
    dilations = (("conv1", {"padding": 1}), ("conv2", {"padding": 2, "dilation": 2}))
    stages = [int(name.split(".")[1]) for name in weights if name.endswith("layers.0.conv1.weight")]
    for stage in sorted(set(stages)):
        for block in range(stages.count(stage)):
            name, channels = f"feature.{stage}.{block}", values.shape[1]
            stride = 1 if block else 2
            plain, dilated = (
                convolved(values, f"{name}.layers.0.{one}", stride, **how, groups=channels)
                for one, how in dilations
            )
            made = convolved(plain + dilated, f"{name}.layers.0.conv3")
            made = normal(made, f"{name}.layers.1").relu()
            depth_wise = f"{name}.layers.3.depth_wise"
            made = convolved(made, depth_wise, padding=1, groups=made.shape[1])
            made = normal(convolved(made, f"{name}.layers.3.point_wise"), f"{name}.layers.4")
            if not block:
                short = convolved(values, f"{name}.shortcut.0", stride)
                values = normal(short, f"{name}.shortcut.1")
            values = (made + values).relu()
    values = convolved(values, f"feature.{len(set(stages))}").mean(dim=(2, 3))[0]
    return float(weights["logit.1.weight"][0] @ values + weights["logit.1.bias"][0])
