"""CLIP's vision transformer as D3 uses it: the class token after ``ln_post``, before projection.

The modules are open_clip's, so that any checkpoint of that family fits; the way through them is
ours, because a shuffled image needs its patches embedded only once.
"""

from __future__ import annotations

import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor, nn

from d3.domain.models import EncoderSpec

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_ACTIVATIONS: dict[str, type[nn.Module]] = {"quick_gelu": QuickGELU, "gelu": nn.GELU}


def normalise(pixels: Tensor) -> Tensor:
    """uint8 RGB (n, S, S, 3) to float32 (n, 3, S, S) with CLIP's mean and deviation."""
    mean = torch.tensor(CLIP_MEAN, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(CLIP_STD, device=pixels.device).view(3, 1, 1)
    return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std


class Encoder(nn.Module):
    """A vision transformer of any size that :class:`EncoderSpec` can say.

    The state dict holds OpenAI's key names (``conv1.weight``, ``transformer.resblocks.0...``),
    without CLIP's projection, which D3 does not use.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.spec = spec
        vit = VisionTransformer(
            image_size=spec.image_size,
            patch_size=spec.patch_size,
            width=spec.width,
            layers=spec.layers,
            heads=spec.heads,
            # Truncated to a whole number by open_clip; the half keeps it from falling one short.
            mlp_ratio=(spec.mlp_width + 0.5) / spec.width,
            output_dim=1,
            act_layer=_ACTIVATIONS[spec.activation],
        )
        self.conv1 = vit.conv1
        self.class_embedding = vit.class_embedding
        self.positional_embedding = vit.positional_embedding
        self.ln_pre = vit.ln_pre
        self.transformer = vit.transformer
        self.ln_post = vit.ln_post

    def embed(self, pixels: Tensor) -> Tensor:
        """Patch embeddings (n, patches, width), in row-major order, of uint8 RGB (n, S, S, 3)."""
        patches: Tensor = self.conv1(normalise(pixels).to(self.conv1.weight.dtype))
        return patches.flatten(2).mT

    def encode(self, patches: Tensor) -> Tensor:
        """Features (n, width) of patch embeddings (n, patches, width) in the order given."""
        first = self.class_embedding.expand(len(patches), 1, -1)
        tokens = torch.cat([first, patches], dim=1) + self.positional_embedding
        tokens = self.transformer(self.ln_pre(tokens))
        features: Tensor = self.ln_post(tokens[:, 0])
        return features
