"""The modules of CLIP's vision transformer, with the names that checkpoints of that family use.

They are as open_clip's, and a test compares the two; importing open_clip takes three times as long
as importing torch (it brings torchvision and timm along), which every start of D3 would pay.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from d3.domain.models import EncoderSpec

QUICK = 1.702
"""QuickGELU is ``x * sigmoid(1.702 * x)``, which is ``silu(1.702 * x) / 1.702``."""


class QuickGELU(nn.Module):
    """OpenAI's approximation of GELU."""

    def forward(self, values: Tensor) -> Tensor:
        """The activations of any shape."""
        return values * torch.sigmoid(QUICK * values)


_ACTIVATIONS: dict[str, type[nn.Module]] = {"quick_gelu": QuickGELU, "gelu": nn.GELU}


class ResidualAttentionBlock(nn.Module):
    """Attention and an MLP, each behind a layer norm and added to its input."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(spec.width)
        self.attn = nn.MultiheadAttention(spec.width, spec.heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(spec.width)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(spec.width, spec.mlp_width),
                gelu=_ACTIVATIONS[spec.activation](),
                c_proj=nn.Linear(spec.mlp_width, spec.width),
            )
        )

    def attention(self, tokens: Tensor) -> Tensor:
        """What tokens (n, length, width) attend to in one another, of the same shape."""
        attended: Tensor = self.attn(tokens, tokens, tokens, need_weights=False)[0]
        return attended

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (n, length, width) after the block."""
        tokens = tokens + self.attention(self.ln_1(tokens))
        expanded: Tensor = self.mlp(self.ln_2(tokens))
        return tokens + expanded


class Transformer(nn.Module):
    """The blocks, one after the other."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualAttentionBlock(spec) for _ in range(spec.layers))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (n, length, width) after all blocks."""
        for block in self.resblocks:
            tokens = block(tokens)
        return tokens
