"""The published procedure written plainly, apart from D3's own network, to compare with.

The image is cut up and shuffled as pixels, each branch is a forward of its own through open_clip's
``VisionTransformer``, and the head is written out with ``einsum``.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from PIL import Image
from safetensors.torch import save_file

from d3.domain.models import EncoderSpec
from tests.images import encoded, picture

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def vision_transformer(spec: EncoderSpec) -> VisionTransformer:
    """open_clip's own, giving the class token after ``ln_post``."""
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
    rgb = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
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
